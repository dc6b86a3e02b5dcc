"""How campaigns stand, for people and programs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import typer

from flows.client import flow_run_url
from nightmill.backbone.campaigns import JobLine, StageProgress, campaign_named, campaigns, jobs, progress
from nightmill.backbone.schema import CampaignRow
from nightmill.cli._output import print_json, print_table
from nightmill.model.fate import JobState
from tasks.site import Site
from tasks.spool import drain

OPEN = (JobState.PLANNED, JobState.READY, JobState.ACTIVE)
WATCH_SECONDS = 2.0


def show_status(site: Site, campaign: str | None, *, watch: bool, as_json: bool) -> None:
    """Print how one campaign stands, or all of them; with ``watch``, again and again until no job is open."""
    while True:
        drain(site)
        standing = [_standing(site, row) for row in _rows(site, campaign)]
        if as_json:
            print_json([each.as_json() for each in standing])
        else:
            for each in standing:
                _show(each, failures=campaign is not None)
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

    @property
    def is_open(self) -> bool:
        return any(state in stage.counts for stage in self.stages for state in OPEN)

    def as_json(self) -> dict[str, object]:
        return {
            "campaign": self.row.name,
            "number": self.row.id,
            "pipeline": f"{self.row.pipeline} {self.row.pipeline_version}",
            "submitted_at": self.row.submitted_at.isoformat(),
            "submitted_by": self.row.submitted_by,
            "ui_url": self.ui_url,
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


def _standing(site: Site, row: CampaignRow) -> _Standing:
    with site.database.reading() as session:
        stages = progress(session, row.id)
        failed = list(jobs(session, row.id, states=[JobState.FAILED]))
    url = flow_run_url(site.config.directory, row.flow_run_id) if row.flow_run_id else ""
    return _Standing(row, stages, failed, url)


def _show(standing: _Standing, *, failures: bool) -> None:
    row = standing.row
    typer.secho(f"{row.name} ({row.pipeline} {row.pipeline_version})", bold=True)
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
            typer.echo(f"failed: {row.name}/{job} (attempt {job.attempts})")
    if standing.ui_url:
        typer.echo(standing.ui_url)
