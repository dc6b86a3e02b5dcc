"""Sign-offs: that somebody has looked at what a campaign made up to a breakpoint."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import JobRow, SignOffRow
from nightmill.backbone.work.campaigns import GOING_ON
from nightmill.backbone.work.products import before, counts
from nightmill.model.breakpoint import Breakpoint
from nightmill.model.states import Hold, JobState


def signed_off(session: Session, campaign_id: int) -> set[str]:
    """Return the names of the breakpoints of a campaign that were signed off."""
    accepted = (SignOffRow.campaign_id == campaign_id, SignOffRow.accepted)
    return set(session.scalars(select(SignOffRow.breakpoint).where(*accepted)))


def rejected(session: Session, campaign_id: int, breakpoint: str) -> bool:
    """Say whether somebody rejected what was made up to a breakpoint."""
    of_it = (SignOffRow.campaign_id == campaign_id, SignOffRow.breakpoint == breakpoint, ~SignOffRow.accepted)
    return session.scalar(select(SignOffRow.id).where(*of_it).limit(1)) is not None


def sign(
    session: Session, campaign_id: int, breakpoint: str, *, accepted: bool, who: str, why: str, now: datetime
) -> None:
    """Put on record that somebody accepts or rejects what was made up to a breakpoint."""
    row = {"breakpoint": breakpoint, "accepted": accepted, "who": who, "why": why, "at": now}
    session.add(SignOffRow(campaign_id=campaign_id, **row))
    session.flush()


def waiting(session: Session, campaign_id: int, breakpoints: Collection[Breakpoint]) -> dict[str, int]:
    """Return how many jobs wait at each breakpoint of a campaign."""
    at = (JobRow.campaign_id == campaign_id, JobRow.state == JobState.HELD, JobRow.held_by == Hold.BREAKPOINT)
    query = select(JobRow.held_why, func.count()).where(*at).group_by(JobRow.held_why)
    found = {why: count for why, count in session.execute(query)}
    return {each.name: found[each.name] for each in breakpoints if each.name in found}


def unfinished_before(session: Session, campaign_id: int, breakpoint: Breakpoint) -> int:
    """Return how many jobs have not ended that a breakpoint lets go before it.

    Of the stage that it is after there is none: what needs that is planned when it has ended.
    """
    if breakpoint.pilot is None:
        return 0
    found = counts(session, before(campaign_id, breakpoint))
    return sum(found.get(state, 0) for state in (*GOING_ON, JobState.HELD))


def job_ids(session: Session, campaign_id: int, breakpoint: str) -> list[int]:
    """Return the jobs that wait at a breakpoint."""
    at = (JobRow.campaign_id == campaign_id, JobRow.state == JobState.HELD, JobRow.held_by == Hold.BREAKPOINT)
    return list(session.scalars(select(JobRow.id).where(*at, JobRow.held_why == breakpoint)))
