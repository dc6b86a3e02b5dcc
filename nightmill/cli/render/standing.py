"""How campaigns stand, for people and programs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightmill.backbone.catalogue.file_warnings import warned_in
from nightmill.backbone.schema import CampaignRow
from nightmill.backbone.work.campaigns import (
    GOING_ON,
    JobLine,
    StageProgress,
    campaign_named,
    campaigns,
    count,
    failed_jobs,
    progress_of,
)
from nightmill.backbone.work.holds import holds
from nightmill.backbone.work.left_out import LeftOutUnit, left_out_units
from nightmill.backbone.work.overview import Accepted, accepted_in
from nightmill.backbone.work.steering import of_row
from nightmill.cli.documents import told
from nightmill.cli.documents import units as documents
from nightmill.cli.documents.work import Campaign, FailedJob, StageStanding
from nightmill.cli.render.failures import show_accepted, show_failures
from nightmill.cli.render.knowledge import show_known, show_warned
from nightmill.cli.render.output import echo, plain_line, print_json, print_table, secho
from nightmill.cli.render.room import nearly_full
from nightmill.cli.render.steering import steering_document
from nightmill.execution.quarantine import quarantined
from nightmill.model.conducting import RunState, Seen
from nightmill.model.ports import Conductor
from nightmill.model.states import Hold, JobState
from nightmill.operations.alone import Say
from nightmill.operations.bundle import jobs_per_bundle
from nightmill.operations.conductor import conductor_of
from nightmill.operations.drain import drain
from nightmill.operations.memory import older
from nightmill.operations.patience import who_waits
from nightmill.operations.site import Site
from nightmill.planning.problems import counted
from provenance.knowledge import Completeness, Warned, completeness, warned

WATCH_SECONDS = 2.0
PATIENCE_SECONDS = 10.0
"""How long another drain is waited for."""
RECONCILE_SECONDS = 30.0
"""How often the spool is drained, and Prefect asked, while somebody watches."""
LEFT_OUT = 20
"""So many units that are left out are shown one by one."""
LATEST = 20
"""So many campaigns are shown beside those that have jobs left, unless all are asked for."""
GOES_ON = {
    Hold.EXCLUSION: "lift the exclusion and rerun, or submit under a new name",
    Hold.REVIEW: "waits for its release",
    Hold.OPERATOR: "waits for its release",
    Hold.SHIPPING: "submit or rerun it once that can be had",
    Hold.BREAKPOINT: "waits for 'nightmill sign-off', whose --show tells what was made",
}
"""How jobs go on, by what holds them."""


def show_status(
    site: Site, campaign: str | None, *, everything: bool = False, watch: bool = False, as_json: bool = False
) -> None:
    """Print how one campaign stands, or several; with ``watch``, as JSON again and again as long as something goes on.

    The spool is drained, and Prefect's states are made to agree where its server answers at once, when it begins and
    then seldom: whoever conducts a campaign records by himself. Else what the backbone knows is shown.

    Parameters
    ----------
    campaign
        Its name; with none those that have jobs left and the last that were submitted.
    everything
        With none, every campaign.
    """
    conductor, seen, reconcile_at = conductor_of(site), Seen(), 0.0
    while True:
        is_due = time.monotonic() >= reconcile_at
        if is_due:
            drain_first(site, lambda line: echo(line, err=True))
        rows, left_out = rows_of(site, campaign, everything)
        if is_due:
            seen = conductor.reconcile(campaign, [row.flow_run_id for row in rows if row.flow_run_id])
            reconcile_at = time.monotonic() + RECONCILE_SECONDS
            if seen.away:
                echo(f"Prefect was not reached ({seen.away}): this is what the backbone knows", err=True)
        standing = _standing(site, conductor, rows, seen, failures=as_json or campaign is not None)
        if as_json:
            print_json([each.told() for each in standing])
        else:
            for each in standing:
                _show(conductor, each)
        if left_out:
            echo(f"{left_out} more campaigns, all of them at their end: nightmill status --all", err=True)
        show_waiting(site.config.spool)
        going_on = [each for each in standing if each.is_open]
        if not (watch and going_on):
            return
        if not any(jobs_go_on(each.stages) for each in going_on):
            reconcile_at = 0.0  # only Prefect tells whether the next stage will be planned
        time.sleep(WATCH_SECONDS)


def is_open(stages: Sequence[StageProgress], run: RunState | None) -> bool:
    """Whether something of a campaign may change by itself: its jobs go on, or its flow run has a stage to plan."""
    if run is not None and run.ended:
        return False
    return jobs_go_on(stages) or (run is not None and not all(stage.revisions for stage in stages))


def jobs_go_on(stages: Sequence[StageProgress]) -> bool:
    """Whether jobs of a campaign are under way, or will be."""
    return any(state in stage.counts for stage in stages for state in GOING_ON)


def drain_first(site: Site, tell: Say) -> None:
    """Record what is in the spool, and say what of it is not as it should be."""
    drained = drain(site, patience_seconds=PATIENCE_SECONDS, say=tell)
    for attempt, error in drained.waiting.items():
        tell(f"waits for a store: {attempt}: {error}")
    for full in nearly_full(site):
        tell(f"nearly full: {full}")
    for journal in quarantined(site.config.spool):
        tell(f"set apart: {journal}")
    if why := older(site):
        tell(f"the database is older than its spool: {why}; see 'nightmill recover'")


def show_waiting(spool: Path) -> None:
    """Print which slices and campaigns wait for the database."""
    for waiting in who_waits(spool):
        echo(str(waiting), err=True)


@dataclass(frozen=True)
class _Standing:
    """How one campaign stands."""

    row: CampaignRow
    stages: list[StageProgress]
    failed: list[JobLine]
    ui_url: str
    is_gone: bool
    """Whether its flow run was deleted."""
    run: RunState | None
    """The state of its flow run, where Prefect was asked and has one."""
    bundles: Mapping[str, int]
    """Digest of each bundle that its jobs ran, or would run, to how many of them."""
    left_out: list[LeftOutUnit]
    holds: Mapping[tuple[Hold, str], int]
    """How many of its jobs are held, by what and why."""
    accepted: list[Accepted]
    known: Completeness
    warnings: list[Warned]
    warned: Mapping[str, int]
    """Of how many of its results each check warns, by its name."""

    @property
    def is_open(self) -> bool:
        """Whether something may change by itself."""
        return is_open(self.stages, self.run)

    def told(self) -> Campaign:
        """Tell of it to programs."""
        return told(
            Campaign,
            self.row,
            campaign=self.row.name,
            number=self.row.id,
            ui_url=self.ui_url,
            flow_run_state=self.run.type if self.run else None,
            steering=steering_document(of_row(self.row)),
            stages=[
                told(
                    StageStanding,
                    stage,
                    jobs=stage.total,
                    skipped=stage.left_out.get("skip", 0),
                    **{state.value: stage.counts.get(state, 0) for state in JobState} | {"held": _held(stage)},
                )
                for stage in self.stages
            ],
            bundles=dict(self.bundles),
            failed=[told(FailedJob, job, job=job.name, attempt=job.attempts) for job in self.failed],
            left_out=self.left_out,
            holds=[documents.HeldJobs(by=by, why=why, jobs=jobs) for (by, why), jobs in self.holds.items()],
            accepted=self.accepted,
            known=self.known,
            differences=self.warnings,
            warned=dict(self.warned),
        )


def _held(stage: StageProgress) -> int:
    return stage.counts.get(JobState.HELD, 0) + stage.left_out.get("hold", 0)


def rows_of(site: Site, campaign: str | None, everything: bool) -> tuple[list[CampaignRow], int]:
    """Return the campaigns that are to be shown, and how many others there are."""
    with site.database.reading() as session:
        if campaign is not None:
            return [campaign_named(session, campaign)], 0
        if everything:
            return campaigns(session), 0
        rows = campaigns(session, latest=LATEST)
        return rows, count(session) - len(rows)


def _standing(
    site: Site, conductor: Conductor, rows: list[CampaignRow], seen: Seen, *, failures: bool
) -> list[_Standing]:
    """Return how campaigns stand, in a few statements, however many they are."""
    with site.database.reading() as session:
        stages, ids = progress_of(session, rows), [row.id for row in rows] if failures else []
        failed, bundles, left_out = (
            failed_jobs(session, ids),
            jobs_per_bundle(session, ids),
            left_out_units(session, ids),
        )
        held, accepted, known = holds(session, ids), accepted_in(session, ids), completeness(session, ids)
        warnings, by_checks = warned(session, ids), warned_in(session, ids)
    return [
        _Standing(
            row,
            stages[row.id],
            failed.get(row.id, []),
            conductor.url(row.flow_run_id) if row.flow_run_id and row.flow_run_id not in seen.gone else "",
            row.flow_run_id in seen.gone,
            seen.states.get(row.flow_run_id or ""),
            bundles.get(row.id, {}),
            left_out.get(row.id, []),
            held.get(row.id, {}),
            accepted.get(row.id, []),
            known.get(row.id, Completeness()),
            warnings.get(row.id, []),
            by_checks.get(row.id, {}),
        )
        for row in rows
    ]


def _show(conductor: Conductor, standing: _Standing) -> None:
    row = standing.row
    secho(f"{row.name} ({row.pipeline} {row.pipeline_version})", bold=True)
    steering = of_row(row)
    if steering.halts:
        echo(str(steering))
    if steering.priority:
        echo(f"priority {steering.priority}")
    if steering.limits:
        echo(f"limits: {steering.limits}")
    states = [*GOING_ON, JobState.DONE, JobState.FAILED]
    states += [JobState.CANCELLED] if any(JobState.CANCELLED in stage.counts for stage in standing.stages) else []
    lacking = any(_held(stage) or stage.left_out for stage in standing.stages)
    print_table(
        ("stage", "jobs", *states, "stale", *(("held", "skipped") if lacking else ())),
        [
            (
                stage.stage,
                stage.total if stage.revisions else "not planned yet",
                *(stage.counts.get(state, 0) for state in states),
                stage.stale,
                *((_held(stage), stage.left_out.get("skip", 0)) if lacking else ()),
            )
            for stage in standing.stages
        ],
    )
    if len(standing.bundles) > 1:
        bundles = ", ".join(f"{digest[:16] or 'none'} {count} jobs" for digest, count in standing.bundles.items())
        echo(f"bundles: {bundles}")
    for job in standing.failed:
        echo(f"failed: {row.name}/{job} (attempt {job.attempts})")
    show_failures(standing.failed)
    show_accepted(standing.accepted)
    show_warned(standing.warned)
    for (by, why), held in standing.holds.items():
        echo(f"held: {counted(held, 'job')}: {why} ({GOES_ON[by]})")
    for unit in standing.left_out[:LEFT_OUT]:
        is_held = "held" if unit.missing == "hold" else "skipped"
        echo(f"{is_held}: {row.name}/{unit.stage}/{unit.unit}: input {unit.role!r}: {unit.why}")
    if (more := len(standing.left_out) - LEFT_OUT) > 0:
        echo(f"... and {more:,} more units left out: nightmill status {row.name} --json tells all")
    show_known(standing.known, standing.warnings)
    _show_run(conductor, standing)


def _show_run(conductor: Conductor, standing: _Standing) -> None:
    row = standing.row
    if standing.is_gone:
        echo(f"its flow run {row.flow_run_id} was deleted in Prefect; submit or rerun the campaign, and it has another")
    elif link := conductor.link(row.flow_run_id) if row.flow_run_id else "":
        told = f" {standing.run.name}" if standing.run else ""
        why = f": {plain_line(standing.run.message)}" if standing.run and standing.run.type == "FAILED" else ""
        echo(f"{link}{told}{why}")
