"""Makes the states of Prefect agree with the backbone, which is the truth.

Runs on a schedule, when a slice ends, and at every submit, rerun and status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.agreement import Evidence, agreed
from flows.api import FlowRun, PrefectApi
from nightmill.backbone import campaigns
from nightmill.backbone.conducting import holders, unfinished_campaigns
from nightmill.backbone.leases import Holder
from nightmill.errors import UnknownName
from nightmill.execution.owner import lives
from nightmill.model.fate import JobState
from tasks.campaigns import Turn, take_turn
from tasks.site import Site, open_site
from tasks.spool import hosts_lost

UNSETTLED = ("PENDING", "RUNNING", "CANCELLING", "FAILED", "CRASHED")


@dataclass(frozen=True)
class Correction:
    """A flow run that got another state."""

    flow_run_id: str
    name: str
    before: str
    after: str
    message: str


def reconcile_site(site: Site, api: PrefectApi) -> list[Correction]:
    """Correct the states of all flow runs of campaigns that are not finished on both sides; drain the spool before."""
    corrections: list[Correction] = []
    for name in unsettled_campaigns(site, api):
        try:
            corrections += reconcile_campaign(site, api, name)
        except UnknownName:
            continue  # of another site on the same server, or of a database before this one
    return corrections


def unsettled_campaigns(site: Site, api: PrefectApi) -> list[str]:
    """Return the names of campaigns that are not finished, or whose flow runs are not; some may be of other sites."""
    with site.database.reading() as session:
        names = unfinished_campaigns(session)
    names += [str(run.parameters.get("campaign")) for run in api.runs_in(UNSETTLED, ["campaign", "slice"])]
    return list(dict.fromkeys(names))


def reconcile_campaign(site: Site, api: PrefectApi, name: str) -> list[Correction]:
    """Correct the states of the flow runs of a campaign and of its slices; return the corrections."""
    return [_correct(api, run, state) for run, state in disagreements(site, api, name)]


def disagreements(site: Site, api: PrefectApi, name: str) -> list[tuple[FlowRun, dict[str, Any]]]:
    """Return the flow runs of a campaign and of its slices whose state is wrong, each with the right one.

    Raises
    ------
    UnknownName
        Where there is no such campaign.
    """
    lost_hosts = hosts_lost(site)
    with site.database.reading() as session:
        row = campaigns.campaign_named(session, name)
        slices = campaigns.slices(session, row.id)
        stages = campaigns.progress(session, row.id)
        ids = [flow_run_id for flow_run_id in [row.flow_run_id, *(each.flow_run_id for each in slices)] if flow_run_id]
        held = holders(session, ids)
    evidence = {
        each.flow_run_id: _evidence(
            each.jobs, each.done, each.done == each.jobs, held.get(each.flow_run_id), lost_hosts
        )
        for each in slices
        if each.flow_run_id
    }
    if row.flow_run_id:
        total = sum(stage.total for stage in stages)
        done = sum(stage.counts.get(JobState.DONE, 0) for stage in stages)
        complete = done == total and all(stage.revisions for stage in stages)
        evidence[row.flow_run_id] = _evidence(total, done, complete, held.get(row.flow_run_id), lost_hosts)
    now = datetime.now(UTC)
    return [
        (run, state)
        for run in api.read_many(list(evidence))
        if (state := agreed(run.state, evidence[run.id], now)) is not None
    ]


def after_slice(directory: Path, name: str) -> None:
    """Let a campaign go on whose flow run had ended before one of its slices was carried out again.

    Where nothing is left to do, its flow run is Completed; where a stage or units of one have become possible, it is
    carried out again. A campaign that was cancelled stays so.
    """
    with PrefectApi.of_flow() as api, open_site(directory, need_types=False) as site:
        reconcile_campaign(site, api, name)
        with site.database.reading() as session:
            row = campaigns.campaign_named(session, name)
        run = api.read(row.flow_run_id) if row.flow_run_id else None
        if run is None or run.state.type not in ("COMPLETED", "FAILED", "CRASHED"):
            return
        if _has_grown(site, name, row.id):
            api.schedule(run.id, "stages have become possible")


def _has_grown(site: Site, name: str, campaign_id: int) -> bool:
    """Give each stage its turn, and say whether one of them has become possible, or has jobs that it had not."""
    with site.database.reading() as session:
        before = campaigns.progress(session, campaign_id)
    ready = [stage for stage in before if take_turn(site, name, stage.stage).turn is Turn.READY]
    with site.database.reading() as session:
        totals = {stage.stage: stage.total for stage in campaigns.progress(session, campaign_id)}
    return any(not stage.revisions or totals[stage.stage] > stage.total for stage in ready)


def _correct(api: PrefectApi, run: FlowRun, state: Mapping[str, Any]) -> Correction:
    api.set_state(run.id, state)
    return Correction(run.id, run.name, run.state.type, state["type"], state["message"])


def _evidence(
    jobs: int, done: int, complete: bool, holder: Holder | None, lost_hosts: Mapping[str, datetime]
) -> Evidence:
    if holder is None:
        return Evidence(jobs, done, complete)
    owner, alive = holder.owner, lives(holder.owner, holder.since, lost_hosts)
    return Evidence(jobs, done, complete, f"{owner.pid} on {owner.host}", alive, holder.since)
