"""Rows that contradict others, and can be set right from these."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, case, func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, ExecutionRow, JobRow
from nightmill.backbone.work.ownership import is_own
from nightmill.model.fate import Fate
from nightmill.model.states import AttemptState, JobState
from nightmill.operations.audit.contradiction import ENDED, OPEN, Kind

_UNSYNCHRONIZED: Final = {"synchronize_session": False}


def wrong_rows(session: Session) -> Counter[str]:
    """Count the rows of this site that contradict others and can be set right from these."""
    ended = _attempts_in(session, AttemptRow.state.in_(ENDED))
    runs = select(func.count()).where(ExecutionRow.state == "running", ExecutionRow.attempt_id.in_(ended))
    found = {
        Kind.EXECUTION_RUNS: session.scalar(runs) or 0,
        Kind.JOB_ACTIVE: session.scalar(select(func.count()).select_from(_stuck(session).subquery())) or 0,
        Kind.JOB_NUMBER: session.scalar(select(func.count()).select_from(_misnumbered(session).subquery())) or 0,
    }
    return Counter({kind.value: count for kind, count in found.items() if count})


def _own(session: Session) -> ColumnElement[bool]:
    """Say of a job that its campaign is of this site."""
    return JobRow.campaign_id.in_(select(CampaignRow.id).where(is_own(session)))


def _attempts_in(session: Session, state: ColumnElement[bool]) -> Select[tuple[int]]:
    return select(AttemptRow.id).join(JobRow, JobRow.id == AttemptRow.job_id).where(_own(session), state)


def _stuck(session: Session) -> Any:
    is_open = select(AttemptRow.job_id).where(AttemptRow.state.in_(OPEN))
    stuck = (_own(session), JobRow.state == JobState.ACTIVE.value, JobRow.id.not_in(is_open))
    return select(JobRow.id, JobRow.attempts).where(*stuck)


def _misnumbered(session: Session) -> Any:
    highest = func.max(AttemptRow.number).label("highest")
    return (
        select(JobRow.id, highest)
        .join(AttemptRow, AttemptRow.job_id == JobRow.id)
        .where(_own(session))
        .group_by(JobRow.id, JobRow.attempts)
        .having(highest > JobRow.attempts)
    )


def set_right(session: Session) -> None:
    """Set right what :func:`wrong_rows` counts."""
    ended = _attempts_in(session, AttemptRow.state.in_(ENDED))
    wrong = (ExecutionRow.state == "running", ExecutionRow.attempt_id.in_(ended))
    published = select(AttemptRow.id).where(AttemptRow.state == AttemptState.PUBLISHED.value)
    ends = case((ExecutionRow.attempt_id.in_(published), "succeeded"), else_="lost")
    session.execute(update(ExecutionRow).where(*wrong).values(state=ends), execution_options=_UNSYNCHRONIZED)
    for job_id, highest in session.execute(_misnumbered(session)).all():
        session.execute(update(JobRow).where(JobRow.id == job_id).values(attempts=highest))
    for job_id, _attempts in session.execute(_stuck(session)).all():
        attempts = select(AttemptRow.fate, AttemptRow.result).where(AttemptRow.job_id == job_id)
        fates = session.execute(attempts.order_by(AttemptRow.number)).all()
        state = JobState.PLANNED if not fates else Fate(fates[-1].fate or Fate.LOST).job_state
        if state is JobState.DONE or any(row.result for row in fates):
            state = JobState.DONE if any(row.result for row in fates) else JobState.FAILED
        session.execute(update(JobRow).where(JobRow.id == job_id).values(state=state.value))
