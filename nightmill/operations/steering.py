"""Steering a campaign while it runs: pause, resume, cancel, and how urgent it is.

The backbone has the word: whoever carries out jobs asks it before a job begins, and each second meanwhile. So a word
holds although Prefect's server, or its runner, is away; its flow runs are brought to agree as soon as they can be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.work import campaigns, leases
from nightmill.backbone.work import steering as work
from nightmill.backbone.work.steering import Steering
from nightmill.errors import RequestRefused
from nightmill.execution.owner import is_alive
from nightmill.model.conducting import CampaignRun
from nightmill.model.ports import Conductor
from nightmill.model.states import Course, JobState
from nightmill.operations import memory
from nightmill.operations.acts import Act
from nightmill.operations.dispatches import recall
from nightmill.operations.drain import drain
from nightmill.operations.holding import going_on
from nightmill.operations.site import Site

PATIENCE_SECONDS: Final = 60.0
"""How long what runs is waited for that was told to end: steps have seconds for it, and are killed then."""
POLL_SECONDS: Final = 0.25
TIMES_AWAY: Final = 3
"""A server that gives no answer so many times in a row is away: one that is busy gives one in between."""
DRAIN_SECONDS: Final = 5.0
"""How often dead processes are looked for while others are waited for."""


@dataclass(frozen=True)
class Steered:
    """What an act came to.

    Parameters
    ----------
    steering
        The course of the campaign now.
    changed
        Whether it had another before.
    jobs
        How many jobs are cancelled.
    active
        How many attempts have not ended, as far as anybody has told.
    unreached
        What could not be reached, in words: the database's word holds all the same.
    run
        The flow run that conducts it, where it was set going.
    """

    campaign: str
    steering: Steering
    changed: bool
    jobs: int = 0
    active: int = 0
    unreached: tuple[str, ...] = ()
    run: CampaignRun | None = None


@dataclass
class _Word:
    """What was written, before anybody was asked to follow it."""

    changed: bool
    steering: Steering
    unreached: list[str] = field(default_factory=list)


def pause(
    site: Site,
    name: str,
    *,
    why: str,
    now: bool = False,
    who: str | None = None,
    conductor: Conductor | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Steered:
    """Have no further job of a campaign begin.

    Parameters
    ----------
    now
        Also end what runs: it is waited for, and its jobs are ready to be issued again.
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    conductor
        Whose flow runs are to say so; by default nobody's.
    patience_seconds
        How long what was told to end is waited for.

    Raises
    ------
    RequestRefused
        Where it is cancelled, or complete; nothing was written.
    """
    act = Act.begin(site, "pause", who=who, why=why, needs_why=True)
    course = Course.STOPPED if now else Course.PAUSED

    def word(session: Session, campaign_id: int, before: Steering) -> _Word:
        work.refuse_cancelled(name, before)
        if before.course in (course, Course.STOPPED):
            return _Word(False, before)
        if campaigns.is_complete(session, campaign_id):
            raise RequestRefused(f"campaign {name!r} is complete", remedy="there is nothing to pause")
        work.set_course(session, campaign_id, course, who=act.who, why=act.why)
        act.note(session, name, {"now": now})
        return _Word(True, replace(before, course=course, who=act.who, why=act.why))

    return _followed(site, name, _write(site, name, word), conductor, patience_seconds)


def cancel(
    site: Site,
    name: str,
    *,
    why: str,
    who: str | None = None,
    conductor: Conductor | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Steered:
    """End a campaign: jobs that are not at their end are cancelled, and what runs is ended and waited for.

    What is being published is published to its end, and counts. Said again, it goes on with what is left of it.

    Parameters
    ----------
    who, conductor, patience_seconds
        As for :func:`pause`.

    Raises
    ------
    RequestRefused
        Where it is complete; nothing was written.
    """
    act = Act.begin(site, "cancel", who=who, why=why, needs_why=True)

    def word(session: Session, campaign_id: int, before: Steering) -> _Word:
        if before.course is Course.CANCELLED:
            return _Word(False, before)
        if campaigns.is_complete(session, campaign_id):
            raise RequestRefused(f"campaign {name!r} is complete", remedy="there is nothing to cancel")
        work.set_course(session, campaign_id, Course.CANCELLED, who=act.who, why=act.why)
        work.cancel_jobs(session, campaign_id)
        act.note(session, name)
        return _Word(True, replace(before, course=Course.CANCELLED, who=act.who, why=act.why))

    return _followed(site, name, _write(site, name, word), conductor, patience_seconds)


def resume(site: Site, name: str, *, why: str, who: str | None = None, conductor: Conductor | None = None) -> Steered:
    """Have a paused campaign go on; said of one that goes on already, its flow run is looked after.

    Parameters
    ----------
    who, conductor
        As for :func:`pause`.

    Raises
    ------
    RequestRefused
        Where it is cancelled, or the database was brought back from an older backup; nothing was written.
    """
    act = Act.begin(site, "resume", who=who, why=why, needs_why=True)
    drain(site)
    memory.require_current(site)

    def word(session: Session, campaign_id: int, before: Steering) -> _Word:
        work.refuse_cancelled(name, before)
        if not before.halts:
            return _Word(False, before)
        work.set_course(session, campaign_id, Course.GOES_ON, who=act.who, why=act.why)
        act.note(session, name)
        return _Word(True, replace(before, course=Course.GOES_ON, who=act.who, why=act.why))

    written = _write(site, name, word)
    run, unreached = going_on(name, conductor) if conductor is not None else (None, "")
    return Steered(name, written.steering, written.changed, unreached=(unreached,) if unreached else (), run=run)


def prioritise(site: Site, name: str, priority: int, *, why: str, who: str | None = None) -> Steered:
    """Say how urgent a campaign is: what waits for cores on a host gets them in the order of priorities.

    Parameters
    ----------
    priority
        The higher, the sooner; campaigns are submitted with 0 unless they say otherwise.
    who
        As for :func:`pause`.
    """
    act = Act.begin(site, "priority", who=who, why=why, needs_why=True)

    def word(session: Session, campaign_id: int, before: Steering) -> _Word:
        if before.priority == priority:
            return _Word(False, before)
        work.set_priority(session, campaign_id, priority)
        act.note(session, name, {"priority": priority, "before": before.priority})
        return _Word(True, replace(before, priority=priority))

    written = _write(site, name, word)
    return Steered(name, written.steering, written.changed)


def _write(site: Site, name: str, word: Callable[[Session, int, Steering], _Word]) -> _Word:
    def write(session: Session) -> _Word:
        row = campaigns.own_campaign(session, name)
        return word(session, row.id, work.locked(session, row.id))

    return site.database.write(write)


def _followed(site: Site, name: str, word: _Word, conductor: Conductor | None, patience_seconds: float) -> Steered:
    """Wait until a word is followed, and say by whom it is not."""
    deadline = time.monotonic() + patience_seconds
    with site.database.reading() as session:
        row = campaigns.own_campaign(session, name)
    if word.steering.ends_what_runs:
        word.unreached += _await_ends(site, name, row.id, str(word.steering), deadline)
    if conductor is not None and row.flow_run_id:
        word.unreached += _await_run(name, row.flow_run_id, word.steering, conductor, deadline)
    with site.database.reading() as session:
        active = work.open_attempts(session, row.id)
        jobs = sum(stage.counts.get(JobState.CANCELLED, 0) for stage in campaigns.progress(session, row.id))
    return Steered(name, word.steering, word.changed, jobs, active, tuple(word.unreached))


def _await_ends(site: Site, name: str, campaign_id: int, why: str, deadline: float) -> list[str]:
    """Wait until no attempt of a campaign is open; return which processes do not end theirs."""
    drain_at = 0.0
    while True:
        with site.database.reading() as session:
            owners = set(leases.holders(session, campaign_id=campaign_id).values())
        if not owners:
            return []
        if time.monotonic() >= deadline:
            return sorted(
                f"process {owner.pid} on {owner.host} has not ended what it runs: it does when it sees the word"
                for owner in owners
            )
        if any(is_alive(owner) is False for owner in owners) and time.monotonic() >= drain_at:
            recall(site, name, f"campaign {name!r} is {why}")
            drain(site, patience_seconds=max(0.0, deadline - time.monotonic()))
            drain_at = time.monotonic() + DRAIN_SECONDS
        time.sleep(POLL_SECONDS)


def _await_run(name: str, flow_run_id: str, steering: Steering, conductor: Conductor, deadline: float) -> list[str]:
    """Have the flow run of a campaign say its course, and wait for that where jobs were ended; or say why not."""
    away = 0
    while True:
        seen = conductor.reconcile(name, [flow_run_id])
        state = seen.states.get(flow_run_id)
        if not seen.away and (state is None or state.ended or not steering.ends_what_runs):
            return []
        away = away + 1 if seen.away else 0
        if time.monotonic() >= deadline or away == TIMES_AWAY:
            why = seen.away or f"its flow run is {state.name if state else 'gone'} still"
            return [f"Prefect does not say so yet ({why}): it does as soon as it can be reached"]
        time.sleep(POLL_SECONDS)
