"""How campaigns stand, for people and programs."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flows.client import RunState, Seen, flow_run_link, flow_run_url, reconcile
from nightmill.backbone.campaigns import JobLine, StageProgress, campaign_named, campaigns, jobs, progress
from nightmill.backbone.schema import CampaignRow
from nightmill.cli._output import echo, print_json, print_table, secho
from nightmill.execution.quarantine import quarantined
from nightmill.model.fate import JobState
from tasks.memory import older
from tasks.site import Site
from tasks.spool import drain

OPEN = (JobState.PLANNED, JobState.READY, JobState.ACTIVE)
WATCH_SECONDS = 2.0
RECONCILE_SECONDS = 30.0
"""How often Prefect is asked while somebody watches."""


def show_status(site: Site, campaign: str | None, *, watch: bool, as_json: bool) -> None:
    """Print how one campaign stands, or all of them; with ``watch``, again and again as long as something goes on.

    Prefect's states are made to agree where its server answers at once; else what the backbone knows is shown.
    """
    seen, reconcile_at = Seen(), 0.0
    while True:
        drained = drain(site)
        for attempt, error in drained.waiting.items():
            echo(f"waits for a store: {attempt}: {error}", err=True)
        for journal in quarantined(site.config.spool):
            echo(f"set apart: {journal}", err=True)
        if why := older(site):
            echo(f"the database is older than its spool: {why}; see 'nightmill recover'", err=True)
        rows = _rows(site, campaign)
        if time.monotonic() >= reconcile_at:
            seen = reconcile(site, campaign, [row.flow_run_id for row in rows if row.flow_run_id])
            reconcile_at = time.monotonic() + RECONCILE_SECONDS
            if seen.away:
                echo(f"Prefect was not reached ({seen.away}): this is what the backbone knows", err=True)
        standing = [_standing(site, row, seen) for row in rows]
        if as_json:
            print_json([each.as_json() for each in standing])
        else:
            for each in standing:
                _show(site, each, failures=campaign is not None)
        if not (watch and any(each.is_open for each in standing)):
            return
        time.sleep(WATCH_SECONDS)


@dataclass(frozen=True)
class _Standing:
    """How one campaign stands."""

    row: CampaignRow
    stages: list[StageProgress]
    failed: list[JobLine]
    ui_url: str
    run: RunState | None
    """The state of its flow run, where Prefect was asked and has one."""

    @property
    def is_open(self) -> bool:
        """Whether something may change by itself."""
        if self.run is not None and self.run.ended:
            return False
        return any(state in stage.counts for stage in self.stages for state in OPEN)

    def as_json(self) -> dict[str, object]:
        return {
            "campaign": self.row.name,
            "number": self.row.id,
            "pipeline": self.row.pipeline,
            "pipeline_version": self.row.pipeline_version,
            "submitted_at": self.row.submitted_at.isoformat(),
            "submitted_by": self.row.submitted_by,
            "ui_url": self.ui_url,
            "flow_run_state": self.run.type if self.run else None,
            "stages": [
                {
                    "stage": stage.stage,
                    "planned": bool(stage.revisions),
                    "jobs": stage.total,
                    "stale": stage.stale,
                    **{state.value: stage.counts.get(state, 0) for state in JobState},
                }
                for stage in self.stages
            ],
            "failed": [
                {"job": job.name, "attempt": job.attempts, "step": job.step, "fate": job.fate, "evidence": job.evidence}
                for job in self.failed
            ],
        }


def _rows(site: Site, campaign: str | None) -> list[CampaignRow]:
    with site.database.reading() as session:
        return campaigns(session) if campaign is None else [campaign_named(session, campaign)]


def _standing(site: Site, row: CampaignRow, seen: Seen) -> _Standing:
    with site.database.reading() as session:
        stages = progress(session, row.id)
        failed = list(jobs(session, row.id, states=[JobState.FAILED]))
    url = flow_run_url(site.config.directory, row.flow_run_id) if row.flow_run_id else ""
    return _Standing(row, stages, failed, url, seen.states.get(row.flow_run_id or ""))


def _show(site: Site, standing: _Standing, *, failures: bool) -> None:
    row = standing.row
    secho(f"{row.name} ({row.pipeline} {row.pipeline_version})", bold=True)
    states = (*OPEN, JobState.DONE, JobState.FAILED)
    print_table(
        ("stage", "jobs", *states, "stale"),
        [
            (
                stage.stage,
                stage.total if stage.revisions else "not planned yet",
                *(stage.counts.get(state, 0) for state in states),
                stage.stale,
            )
            for stage in standing.stages
        ],
    )
    if failures:
        for job in standing.failed:
            echo(f"failed: {row.name}/{job} (attempt {job.attempts})")
    if link := flow_run_link(site.config.directory, row.flow_run_id) if row.flow_run_id else "":
        echo(f"{link} {standing.run.name}" if standing.run else link)
