"""Jobs that wait for a person: what holds them, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import JobRow
from nightmill.model.states import Hold, JobState

_FREE = {"state": JobState.READY.value, "held_by": None, "held_why": None}


def hold(session: Session, job_ids: Collection[int], by: Hold, why: str) -> None:
    """Hold jobs, whatever state they are in; the caller says which may be.

    Parameters
    ----------
    session
        A writing one.
    why
        In words, for whoever looks at the job.
    """
    session.execute(
        update(JobRow)
        .where(among(JobRow.id, job_ids))
        .values(state=JobState.HELD.value, held_by=by.value, held_why=why),
        execution_options={"synchronize_session": False},
    )


def release(session: Session, campaign_id: int, by: Collection[Hold], job_ids: Collection[int] | None = None) -> int:
    """Make ready what is held in one of these ways, and return how many jobs that is.

    Parameters
    ----------
    session
        A writing one.
    job_ids
        Of these alone; by default of all of the campaign.
    """
    held = (
        (JobRow.campaign_id == campaign_id)
        & (JobRow.state == JobState.HELD)
        & JobRow.held_by.in_([kind.value for kind in by])
    )
    if job_ids is not None:
        held &= among(JobRow.id, job_ids)
    count = session.scalar(select(func.count()).select_from(JobRow).where(held)) or 0
    session.execute(update(JobRow).where(held).values(_FREE), execution_options={"synchronize_session": False})
    return count


def holds(session: Session, campaign_ids: Collection[int]) -> dict[int, Counter[tuple[Hold, str]]]:
    """Return how many jobs of campaigns are held, by what and why, by the campaign's ID; the most common first."""
    query = (
        select(JobRow.campaign_id, JobRow.held_by, JobRow.held_why, func.count())
        .where(among(JobRow.campaign_id, campaign_ids), JobRow.state == JobState.HELD)
        .group_by(JobRow.campaign_id, JobRow.held_by, JobRow.held_why)
        .order_by(func.count().desc(), JobRow.held_why)
    )
    found: dict[int, Counter[tuple[Hold, str]]] = {}
    for campaign_id, by, why, count in session.execute(query):
        found.setdefault(campaign_id, Counter())[Hold(by), why] += count
    return found
