"""Rows that contradict others, and can be set right from these."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, ExecutionRow, JobRow
from nightmill.model.fate import Fate
from nightmill.model.states import AttemptState, JobState
from nightmill.operations.audit.contradiction import ENDED, OPEN, Kind

_UNSYNCHRONIZED: Final = {"synchronize_session": False}


def wrong_rows(session: Session) -> Counter[str]:
    """Count the rows that contradict others and can be set right from these."""
    ended = select(AttemptRow.id).where(AttemptRow.state.in_(ENDED))
    runs = select(func.count()).where(ExecutionRow.state == "running", ExecutionRow.attempt_id.in_(ended))
    found = {
        Kind.EXECUTION_RUNS: session.scalar(runs) or 0,
        Kind.JOB_ACTIVE: session.scalar(select(func.count()).select_from(_stuck().subquery())) or 0,
        Kind.JOB_NUMBER: session.scalar(select(func.count()).select_from(_misnumbered().subquery())) or 0,
    }
    return Counter({kind.value: count for kind, count in found.items() if count})


def _stuck() -> Any:
    is_open = select(AttemptRow.job_id).where(AttemptRow.state.in_(OPEN))
    return select(JobRow.id, JobRow.attempts).where(JobRow.state == JobState.ACTIVE.value, JobRow.id.not_in(is_open))


def _misnumbered() -> Any:
    highest = func.max(AttemptRow.number).label("highest")
    return (
        select(JobRow.id, highest)
        .join(AttemptRow, AttemptRow.job_id == JobRow.id)
        .group_by(JobRow.id, JobRow.attempts)
        .having(highest > JobRow.attempts)
    )


def set_right(session: Session) -> None:
    """Set right what :func:`wrong_rows` counts."""
    ended = select(AttemptRow.id).where(AttemptRow.state.in_(ENDED))
    wrong = (ExecutionRow.state == "running", ExecutionRow.attempt_id.in_(ended))
    published = select(AttemptRow.id).where(AttemptRow.state == AttemptState.PUBLISHED.value)
    ends = case((ExecutionRow.attempt_id.in_(published), "succeeded"), else_="lost")
    session.execute(update(ExecutionRow).where(*wrong).values(state=ends), execution_options=_UNSYNCHRONIZED)
    for job_id, highest in session.execute(_misnumbered()).all():
        session.execute(update(JobRow).where(JobRow.id == job_id).values(attempts=highest))
    for job_id, _attempts in session.execute(_stuck()).all():
        attempts = select(AttemptRow.fate, AttemptRow.result).where(AttemptRow.job_id == job_id)
        fates = session.execute(attempts.order_by(AttemptRow.number)).all()
        state = JobState.PLANNED if not fates else Fate(fates[-1].fate or Fate.LOST).job_state
        if state is JobState.DONE or any(row.result for row in fates):
            state = JobState.DONE if any(row.result for row in fates) else JobState.FAILED
        session.execute(update(JobRow).where(JobRow.id == job_id).values(state=state.value))
