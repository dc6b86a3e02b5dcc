"""Makes the states of Prefect agree with the backbone, which is the truth.

Runs on a schedule, when a slice ends, and at every submit, rerun and status.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from flows.hosting.api import FlowRun, PrefectApi, paused, scheduled
from nightmill.backbone.among import among
from nightmill.backbone.schema import CampaignRow
from nightmill.backbone.work import campaigns
from nightmill.backbone.work.conducting import holders, unfinished_campaigns
from nightmill.backbone.work.leases import Holder
from nightmill.backbone.work.left_out import holding_campaigns
from nightmill.backbone.work.ownership import is_own
from nightmill.backbone.work.slices import slices_of
from nightmill.backbone.work.steering import Steering, of_row, waits
from nightmill.errors import PlanRefused
from nightmill.execution.owner import lives
from nightmill.model.conducting import RunState
from nightmill.model.states import Course, JobState
from nightmill.operations.lost_hosts import hosts_lost
from nightmill.operations.patience import Patience
from nightmill.operations.samples import sign_by_rule
from nightmill.operations.site import Site, open_site
from nightmill.operations.turns import grow
from nightmill.planning.problems import counted

PENDING_LIMIT = timedelta(minutes=5)
"""A run that was claimed begins within seconds; one that takes so long has lost its worker."""
CANCELLING_LIMIT = timedelta(minutes=5)
"""A process that is told to end does so within a minute, or is killed."""
HELD = "Held"
"""Name of the state of a flow run that has nothing left to do but what it waits for."""
RELEASED = "what it held units for has come"
RUNNING_LIMIT = timedelta(minutes=30)
"""A run takes its work in hand once the spool is drained; one that takes so long has lost its process."""


Disagreement = tuple[FlowRun, dict[str, Any]]
"""A flow run whose state is wrong, and the right one."""
UNSETTLED = ("PENDING", "RUNNING", "CANCELLING", "FAILED", "CRASHED", "PAUSED")


@dataclass(frozen=True)
class Correction:
    """A flow run that got another state."""

    flow_run_id: str
    name: str
    before: str
    after: str
    message: str


@dataclass(frozen=True)
class Evidence:
    """What is known of what a flow run conducts.

    Parameters
    ----------
    jobs, done, complete
        How many jobs it has, how many of them are done, and whether nothing is left to do: stages without a plan count.
    owner
        The process that took it in hand last, in words; empty where none did.
    owner_alive
        Whether it lives; None where nothing can be said from here.
    since
        When it took it in hand.
    steering
        What operators want of its campaign.
    waits
        Whether nothing is left to do but what is held.
    """

    jobs: int
    done: int
    complete: bool
    owner: str = ""
    owner_alive: bool | None = None
    since: datetime | None = None
    steering: Steering = field(default_factory=Steering)
    waits: bool = False


def agreed(state: RunState, evidence: Evidence, now: datetime) -> dict[str, Any] | None:
    """Return the state that a flow run is to get, or None where it has the right one.

    - Under way, and the process that had it in hand last lives: left to it.
    - Under way, and the process that had it in hand is dead: Crashed, or Cancelled where that was asked for.
    - Claimed or begun long ago, and no process took it in hand since: Crashed.
    - To be cancelled for minutes, and not known to live: Cancelled.
    - Ended badly, and all its work is done: Completed, as after its jobs were adopted or done by another.
    - Ended well, and some of its work is not done and not held: Failed.
    - Ended as nothing was left but what was held, and some of that was released: Scheduled.
    - In nobody's hands, and its campaign was paused, resumed or cancelled: what follows from that.
    """
    if state.type in ("PENDING", "RUNNING", "CANCELLING") and evidence.owner_alive:
        return None
    steered = None if evidence.complete else _steered(state, evidence)
    return steered or _settled(state, evidence, now)


def _settled(state: RunState, evidence: Evidence, now: datetime) -> dict[str, Any] | None:
    if state.type == "CANCELLING":
        if evidence.owner_alive is False:
            return {"type": "CANCELLED", "message": f"on request; its process ({evidence.owner}) is gone"}
        if now - state.at > CANCELLING_LIMIT:
            return {"type": "CANCELLED", "message": f"on request; nothing was heard since {state.at:%H:%M:%S} UTC"}
    if state.type in ("PENDING", "RUNNING"):
        # a run that is carried out again in place is in nobody's hands at first: its last owner was another process
        if evidence.since is not None and evidence.since >= state.at:
            dead = evidence.owner_alive is False
            return {"type": "CRASHED", "message": f"its process ({evidence.owner}) is dead"} if dead else None
        limit, what = (PENDING_LIMIT, "claimed") if state.type == "PENDING" else (RUNNING_LIMIT, "begun")
        if now - state.at > limit:
            return {"type": "CRASHED", "message": f"{what} at {state.at:%H:%M:%S} UTC, and no process took it in hand"}
    jobs = counted(evidence.jobs, "job")
    if state.type in ("FAILED", "CRASHED", "PAUSED") and evidence.complete:
        return {"type": "COMPLETED", "message": f"{jobs} done, as the backbone says"}
    if state.type == "COMPLETED" and not evidence.complete and not evidence.waits:
        left = evidence.jobs - evidence.done
        told = f"{left} of {jobs} not done" if left else "some of its stages were not carried out"
        return {"type": "FAILED", "message": f"{told}, as the backbone says"}
    return None


def _steered(state: RunState, evidence: Evidence) -> dict[str, Any] | None:
    """Return the state that a flow run is to get since its campaign was steered; it is not known to be in any hands."""
    steering = evidence.steering
    told = f"its campaign is {steering}"
    if steering.course is Course.CANCELLED:
        return None if state.type == "CANCELLED" else {"type": "CANCELLED", "message": told}
    if steering.is_paused:
        in_hand = evidence.since is not None and evidence.since >= state.at
        died = state.type in ("PENDING", "RUNNING") and in_hand and evidence.owner_alive is False
        return paused(told) if state.type == "SCHEDULED" or died else None
    released = state.name == HELD and not evidence.waits
    return scheduled(told) if state.type == "PAUSED" or released else None


def reconcile_site(site: Site, api: PrefectApi) -> list[Correction]:
    """Correct the states of all flow runs of campaigns that are not finished on both sides; drain the spool before."""
    corrected = [_correct(api, run, state) for run, state in disagreements_of_site(site, api)]
    return [*corrected, *release(site, api)]


def disagreements_of_site(site: Site, api: PrefectApi) -> list[Disagreement]:
    """Return the flow runs of campaigns that are not finished on both sides whose state is wrong.

    The number of statements does not grow with the number of campaigns, and the server is asked for no run that has
    ended well and ought to have.
    """
    unsettled = {run.id: run for run in api.runs_in(UNSETTLED, ["campaign", "slice"])}
    with site.database.reading() as session:
        names = unfinished_campaigns(session)
    names += [str(run.parameters.get("campaign")) for run in unsettled.values()]  # some may be of another site
    evidence = _evidence_of(site, names)
    left = [run_id for run_id, known in evidence.items() if not known.complete and run_id not in unsettled]
    return _wrong([*unsettled.values(), *api.read_many(left)], evidence)


def release(site: Site, api: PrefectApi, only: str | None = None) -> list[Correction]:
    """Have campaigns go on, by the flow runs that they have, that held units for what has come.

    One that was cancelled stays so; one that is under way sees by itself what came.

    Parameters
    ----------
    only
        This campaign alone; by default all of the site.
    """
    with site.database.reading() as session:
        names = [name for name in holding_campaigns(session) if only in (None, name)]
        runs = {name: campaigns.own_campaign(session, name).flow_run_id for name in names}
    released = []
    for name, run_id in runs.items():
        run = api.read(run_id) if run_id else None
        if run is None or not run.state.ended or run.state.type == "CANCELLED":
            continue
        with suppress(PlanRefused):  # its flow run tells that, whenever somebody has it go on
            if grow(site, name):
                api.schedule(run.id, RELEASED)
                released.append(Correction(run.id, run.name, run.state.type, "SCHEDULED", RELEASED))
    return released


def reconcile_campaign(site: Site, api: PrefectApi, name: str) -> list[Correction]:
    """Correct the states of the flow runs of a campaign and of its slices; return the corrections."""
    evidence = _evidence_of(site, [name])
    return [_correct(api, run, state) for run, state in _wrong(api.read_many(list(evidence)), evidence)]


def _wrong(runs: Iterable[FlowRun], evidence: Mapping[str, Evidence]) -> list[Disagreement]:
    now = datetime.now(UTC)
    return [
        (run, state)
        for run in runs
        if run.id in evidence and (state := agreed(run.state, evidence[run.id], now)) is not None
    ]


def _evidence_of(site: Site, names: Collection[str]) -> dict[str, Evidence]:
    """Return what is known of the flow runs of own campaigns and of their slices; of others there is nothing."""
    lost_hosts = hosts_lost(site)
    with site.database.reading() as session:
        rows = list(session.scalars(select(CampaignRow).where(is_own(session), among(CampaignRow.name, names))))
        slices = slices_of(session, [row.id for row in rows])
        stages = campaigns.progress_of(session, rows)
        of_slices = [each for of_campaign in slices.values() for each in of_campaign if each.flow_run_id]
        ids = [row.flow_run_id for row in rows if row.flow_run_id] + [each.flow_run_id or "" for each in of_slices]
        held = holders(session, ids)
    evidence = {}
    for row in rows:
        for each in slices.get(row.id, ()):
            if run_id := each.flow_run_id:
                known = _evidence(each.jobs, each.done, each.done == each.jobs, held.get(run_id), lost_hosts)
                evidence[run_id] = replace(known, steering=of_row(row), waits=each.waits)
        if row.flow_run_id:
            total = sum(stage.total for stage in stages[row.id])
            done = sum(stage.counts.get(JobState.DONE, 0) for stage in stages[row.id])
            complete = done == total and all(stage.revisions for stage in stages[row.id])
            known = _evidence(total, done, complete, held.get(row.flow_run_id), lost_hosts)
            evidence[row.flow_run_id] = replace(known, steering=of_row(row), waits=waits(stages[row.id]))
    return evidence


def after_slice(directory: Path, name: str, patience: Patience) -> None:
    """Let a campaign go on whose flow run had ended before one of its slices was carried out again.

    Where nothing is left to do, its flow run is Completed; where a stage or units of one have become possible, it is
    carried out again. A campaign that was cancelled stays so.
    """
    with PrefectApi.of_flow() as api, open_site(directory, need_types=False, patience=patience) as site:
        site.patiently(lambda: _after_slice(site, api, name))


def _after_slice(site: Site, api: PrefectApi, name: str) -> None:
    """Do what :func:`after_slice` says, and count no jobs as long as whoever conducts the campaign sees the end."""
    with site.database.reading() as session:
        row = campaigns.own_campaign(session, name)
        held = holders(session, [row.flow_run_id]) if row.flow_run_id else {}
        complete = campaigns.is_complete(session, row.id)
    run = api.read(row.flow_run_id) if row.flow_run_id else None
    if run is None:
        return
    if not run.state.ended:  # of one that is under way the process is all that matters
        known = _evidence(0, 0, False, held.get(run.id), hosts_lost(site))
        for each, state in _wrong([run], {run.id: known}):
            _correct(api, each, state)
    elif run.state.type != "CANCELLED":
        if complete or run.state.type == "COMPLETED":
            reconcile_campaign(site, api, name)
        if sign_by_rule(site, name).signed or grow(site, name):
            api.schedule(run.id, "stages have become possible")


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
