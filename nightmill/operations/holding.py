"""Holding jobs of a campaign until a person releases them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import JobRow
from nightmill.backbone.work import campaigns, holds
from nightmill.backbone.work.steering import locked, refuse_cancelled
from nightmill.errors import RequestRefused, ServerAway, UnknownName
from nightmill.expressions import parse
from nightmill.model.conducting import CampaignRun
from nightmill.model.ports import Conductor
from nightmill.model.states import Hold, JobState
from nightmill.operations import memory
from nightmill.operations.acts import Act
from nightmill.operations.site import Site
from nightmill.planning.units import fulfils

MAY_BE_HELD: Final = (JobState.PLANNED, JobState.READY, JobState.FAILED)
"""A job that is active runs to its end, and what is done, cancelled or held already stays so."""
RELEASED: Final = (Hold.OPERATOR, Hold.REVIEW, Hold.BREAKPOINT)
"""What a person releases; what reads something excluded is looked at by a rerun."""


@dataclass(frozen=True)
class Which:
    """Which jobs of a campaign an act is about: those that fulfil all that is given.

    Parameters
    ----------
    units
        Names of units, or of jobs as ``STAGE/UNIT``; none for every one.
    stage
        Of this stage alone; empty for all.
    where
        An expression over the keys of units; empty for all.
    """

    units: tuple[str, ...] = ()
    stage: str = ""
    where: str = ""


@dataclass(frozen=True)
class Held:
    """What an act came to.

    Parameters
    ----------
    jobs
        How many jobs were held, or released.
    others
        States to how many jobs were meant that stay as they are.
    unreached
        What could not be reached, in words; empty for nothing.
    run
        The flow run that conducts the campaign, where it was set going.
    """

    campaign: str
    jobs: int
    others: Mapping[JobState, int]
    unreached: str = ""
    run: CampaignRun | None = None


def hold(site: Site, name: str, which: Which, *, why: str, who: str | None = None) -> Held:
    """Hold jobs of a campaign: none of them begins until somebody releases it.

    Parameters
    ----------
    which
        Among the jobs that are planned by now.
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.

    Raises
    ------
    RequestRefused
        Where the campaign is cancelled, no job is meant, or there is nothing that may be held.
    UnknownName
        Where it has no such stage, unit, or key.
    """
    act = Act.begin(site, "hold", who=who, why=why, needs_why=True)

    def work(session: Session) -> Held:
        _campaign_id, ids, others = _meant(session, name, which, MAY_BE_HELD)
        if not ids:
            raise RequestRefused(
                f"none of these jobs can be held: {_told(others)}", remedy=f"see 'nightmill status {name}'"
            )
        holds.hold(session, ids, Hold.OPERATOR, f"by {act.who}: {act.why}")
        act.note(session, name, {**_request(which), "jobs": len(ids)})
        return Held(name, len(ids), others)

    return site.database.write(work)


def release(
    site: Site, name: str, which: Which, *, why: str, who: str | None = None, conductor: Conductor | None = None
) -> Held:
    """Release jobs of a campaign that wait for a person, and have it go on.

    Parameters
    ----------
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    conductor
        Who is to go on with it; by default nobody.

    Raises
    ------
    RequestRefused
        Where the campaign is cancelled, nothing that is meant waits for a person, or the database was brought back from
        an older backup.
    UnknownName
        Where it has no such stage, unit, or key.
    """
    act = Act.begin(site, "release", who=who, why=why, needs_why=True)
    memory.require_current(site)

    def work(session: Session) -> tuple[Held, bool]:
        campaign_id, ids, others = _meant(session, name, which, (JobState.HELD,))
        count = holds.release(session, campaign_id, RELEASED, ids)
        if not count:
            told = _told(others + Counter({JobState.HELD: len(ids)}))
            raise RequestRefused(
                f"no job that waits for a person is meant: {told}", remedy=f"see 'nightmill status {name}'"
            )
        act.note(session, name, {**_request(which), "jobs": count})
        return Held(name, count, others), not locked(session, campaign_id).halts

    released, goes_on = site.database.write(work)
    if conductor is None or not goes_on:
        return released
    run, unreached = going_on(name, conductor)
    return replace(released, run=run, unreached=unreached)


def going_on(name: str, conductor: Conductor) -> tuple[CampaignRun | None, str]:
    """Have a campaign go on; return its flow run, or say what could not be reached."""
    try:
        conductor.require()
        return conductor.start(name), ""
    except ServerAway as away:
        return None, f"{away.message}: it goes on as soon as that is back"


def _meant(
    session: Session, name: str, which: Which, states: Collection[JobState]
) -> tuple[int, list[int], Counter[JobState]]:
    """Return a campaign's ID, and of the jobs that are meant those in some states; the others are counted."""
    row = campaigns.own_campaign(session, name)
    refuse_cancelled(name, locked(session, row.id))
    stages = [each["name"] for each in row.definition["pipeline"]["stages"]]
    if which.stage and which.stage not in stages:
        raise UnknownName(f"stage of campaign {name!r}", which.stage, stages)
    ids: list[int] = []
    others: Counter[JobState] = Counter()
    for id_, state in _jobs(session, name, row.id, which):
        if state in states:
            ids.append(id_)
        else:
            others[state] += 1
    return row.id, ids, others


def _jobs(session: Session, name: str, campaign_id: int, which: Which) -> list[tuple[int, JobState]]:
    """Return the IDs and states of the jobs that are meant."""
    where = parse(which.where) if which.where else None
    query = select(JobRow.id, JobRow.stage, JobRow.unit, JobRow.state, JobRow.detail).order_by(JobRow.id)
    query = query.where(JobRow.campaign_id == campaign_id).with_for_update()
    if which.stage:
        query = query.where(JobRow.stage == which.stage)
    unknown, known, keys = set(which.units), [], set[str]()
    found: list[tuple[int, JobState]] = []
    for id_, stage, unit, state, detail in session.execute(query.execution_options(yield_per=1000)):
        names = {unit, f"{stage}/{unit}"}
        known.append(unit)
        if where is not None:
            keys.update(detail["data_id"])
        if (not which.units or names & set(which.units)) and (where is None or fulfils(where, detail["data_id"])):
            found.append((id_, JobState(state)))
        unknown -= names
    if unknown:
        raise UnknownName(f"unit of campaign {name!r}", min(unknown), known, remedy=f"see 'nightmill show {name}'")
    if where is not None and (strange := {key.removeprefix("metadata.") for key in where.names} - keys):
        raise UnknownName(f"key of units of campaign {name!r}", min(strange), sorted(keys))
    return found


def _request(which: Which) -> dict[str, Any]:
    """Return what was asked for, as the act can be done again with it."""
    asked = {"units": list(which.units), "stage": which.stage, "where": which.where}
    return {key: value for key, value in asked.items() if value}


def _told(others: Mapping[JobState, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in others.items() if count) or "none is planned"
