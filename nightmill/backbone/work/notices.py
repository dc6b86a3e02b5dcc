"""What there is to tell of campaigns, and what was told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from statistics import median
from typing import Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, ExecutionRow, JobRow, NotificationRow
from nightmill.backbone.work.campaigns import progress
from nightmill.model.notification import Event
from nightmill.model.states import ExecutionState, Hold, JobState

LEAST_RUNS: Final = 5
"""So many runs of a step are needed to say that one is slow."""
LATEST_RUNS: Final = 200
"""So many of the last are looked at."""


class Fact(NamedTuple):
    """Something that is told once.

    Parameters
    ----------
    key
        Tells it apart from others of its kind.
    text
        In words.
    """

    event: Event
    key: str
    text: str


def ends(session: Session, campaign_id: int) -> Iterator[Fact]:
    """Yield what there is to tell of a campaign whose flow run is at its end, and again after further attempts."""
    last = session.scalar(select(func.max(AttemptRow.id)).join(JobRow).where(JobRow.campaign_id == campaign_id)) or 0
    stages = progress(session, campaign_id)
    total = sum(stage.total for stage in stages)
    counts = {state: sum(stage.counts.get(state, 0) for stage in stages) for state in JobState}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "nothing was planned"
    yield Fact(Event.ENDED, str(last), f"the campaign has ended: of {total} jobs {told}")
    if failed := counts[JobState.FAILED]:
        yield Fact(Event.FAILED, str(last), f"{failed} of {total} jobs failed")


def waits(session: Session, campaign_id: int) -> Iterator[Fact]:
    """Yield the holds of a campaign that wait for a person."""
    held = (JobRow.campaign_id == campaign_id, JobRow.state == JobState.HELD, JobRow.held_by != Hold.EXCLUSION)
    query = select(JobRow.held_by, JobRow.held_why, func.count(), func.max(JobRow.id)).where(*held)
    for by, why, count, newest in session.execute(query.group_by(JobRow.held_by, JobRow.held_why)):
        yield Fact(Event.HELD, f"{by}: {why}: {newest}", f"{_jobs_wait(count)} for a person ({by}): {why}")


def _jobs_wait(count: int) -> str:
    return "1 job waits" if count == 1 else f"{count} jobs wait"


def slow_steps(session: Session, campaign_id: int, factor: float, now: datetime) -> Iterator[Fact]:
    """Yield the steps of a campaign that run so many times as long as half of their runs before took."""
    running = (JobRow.campaign_id == campaign_id, ExecutionRow.state == ExecutionState.RUNNING)
    query = (
        select(ExecutionRow.id, ExecutionRow.step, JobRow.stage, JobRow.unit, ExecutionRow.began_at)
        .join(AttemptRow, AttemptRow.id == ExecutionRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(*running)
    )
    usual: dict[tuple[str, str], float | None] = {}
    for id_, step, stage, unit, began_at in session.execute(query).all():
        if (stage, step) not in usual:
            usual[stage, step] = _usual_seconds(session, campaign_id, stage, step)
        seconds, took = usual[stage, step], now - began_at
        if seconds is not None and took > timedelta(seconds=factor * seconds):
            text = f"step {step!r} of {stage}/{unit} runs for {took.total_seconds():.0f} s; half of its runs took less"
            yield Fact(Event.SLOW, str(id_), f"{text} than {seconds:.1f} s")


def _usual_seconds(session: Session, campaign_id: int, stage: str, step: str) -> float | None:
    query = (
        select(ExecutionRow.wall_seconds)
        .join(AttemptRow, AttemptRow.id == ExecutionRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(JobRow.campaign_id == campaign_id, JobRow.stage == stage, ExecutionRow.step == step)
        .where(ExecutionRow.state == ExecutionState.SUCCEEDED, ExecutionRow.wall_seconds.is_not(None))
        .order_by(ExecutionRow.id.desc())
        .limit(LATEST_RUNS)
    )
    times = [seconds for seconds in session.scalars(query) if seconds is not None]
    return median(times) if len(times) >= LEAST_RUNS else None


def claim(session: Session, campaign_id: int, fact: Fact, notifier: str, now: datetime) -> bool:
    """Put on record that a fact is told; return whether nobody has told it by the same notifier before."""
    same = {"campaign_id": campaign_id, "event": fact.event.value, "fact": fact.key, "notifier": notifier}
    if session.scalar(select(NotificationRow.id).filter_by(**same)) is not None:
        return False
    try:
        with session.begin_nested():
            session.add(NotificationRow(**same, text=fact.text, at=now))
    except IntegrityError:  # another process was faster by a moment
        return False
    return True
