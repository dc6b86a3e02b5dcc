"""The catalogue compared with itself: states of jobs, attempts and executions that cannot be together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Select, and_, exists, null, or_, select
from sqlalchemy.orm import aliased

from nightmill.backbone.schema import AttemptRow, CampaignRow, ExecutionRow, FileRow, JobRow
from nightmill.backbone.work.ownership import is_own
from nightmill.model.states import JobState
from nightmill.operations.audit.contradiction import ENDED, FETCH, OPEN, Contradiction, Ground, Kind

MENDED: Final = "'nightmill recover' sets it right"
LOOK: Final = "see 'nightmill show' of the job; rerun its campaign if its result does not count"


def find(ground: Ground) -> Iterator[Contradiction]:
    """Yield what contradicts itself in the rows."""
    with ground.site.database.reading() as session:
        for kind, query, what, remedy in _QUESTIONS:
            own = query.where(is_own(session))
            with session.execute(own.execution_options(yield_per=FETCH)) as rows:
                for campaign, stage, unit, number, since, *values in rows:
                    attempt = f"/a{number:02d}" if number is not None else ""
                    yield Contradiction(
                        kind, f"{campaign}/{stage}/{unit}{attempt}", what.format(*values), remedy, since=since
                    )


def _of_jobs(number: Any, since: Any, *values: Any) -> Select[Any]:
    return (
        select(CampaignRow.name, JobRow.stage, JobRow.unit, number, since, *values)
        .select_from(JobRow)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .order_by(JobRow.id)
    )


def _of_attempts(since: Any, *values: Any) -> Select[Any]:
    return _of_jobs(AttemptRow.number, since, *values).join(AttemptRow, AttemptRow.job_id == JobRow.id)


_last = aliased(AttemptRow)
_is_open: Final = exists().where(AttemptRow.job_id == JobRow.id, AttemptRow.state.in_(OPEN))
_has_result: Final = exists().where(AttemptRow.job_id == JobRow.id, AttemptRow.result)
_has_files: Final = exists().where(FileRow.attempt_id == AttemptRow.id)
_AFTER_RESULT: Final = [JobState.DONE, JobState.READY, JobState.HELD, JobState.CANCELLED]
"""States of a job whose last attempt is its result: it may be about to run again."""
_NOT_ACTIVE: Final = [JobState.PLANNED, JobState.HELD, JobState.READY, JobState.FAILED]

execution_runs: Final = (
    _of_attempts(AttemptRow.ended_at, ExecutionRow.step, AttemptRow.state)
    .join(ExecutionRow, ExecutionRow.attempt_id == AttemptRow.id)
    .where(ExecutionRow.state == "running", AttemptRow.state.in_(ENDED))
)
job_active: Final = (
    _of_jobs(null(), _last.ended_at)
    .outerjoin(_last, and_(_last.job_id == JobRow.id, _last.number == JobRow.attempts))
    .where(JobRow.state == JobState.ACTIVE, ~_is_open)
)

_QUESTIONS: Final = (
    (
        Kind.EXECUTION_RUNS,
        execution_runs,
        "step {0!r} is on record as running, and its attempt has ended ({1})",
        MENDED,
    ),
    (Kind.JOB_ACTIVE, job_active, "the job is on record as active, and none of its attempts is open", MENDED),
    (
        Kind.JOB_IDLE,
        _of_attempts(AttemptRow.issued_at, AttemptRow.state, JobRow.state).where(
            AttemptRow.state.in_(OPEN), AttemptRow.number == JobRow.attempts, JobRow.state.in_(_NOT_ACTIVE)
        ),
        "the attempt is open ({0}), and its job is on record as {1}",
        "it may be issued a second time meanwhile: let the attempt end before you rerun its campaign",
    ),
    (
        Kind.JOB_RESULT,
        _of_jobs(null(), null()).where(JobRow.state == JobState.DONE, ~_has_result),
        "the job is on record as done, and none of its attempts is its result",
        LOOK,
    ),
    (
        Kind.JOB_RESULT,
        _of_attempts(AttemptRow.ended_at, JobRow.state).where(
            AttemptRow.result, AttemptRow.number == JobRow.attempts, JobRow.state.not_in(_AFTER_RESULT)
        ),
        "the attempt is its job's result, and the job is on record as {0}",
        LOOK,
    ),
    (
        Kind.JOB_NUMBER,
        _of_attempts(AttemptRow.issued_at, JobRow.attempts).where(AttemptRow.number > JobRow.attempts),
        "its job says that {0} attempts were issued: the number would be given again",
        MENDED,
    ),
    (
        Kind.RESULT_EMPTY,
        _of_attempts(AttemptRow.ended_at).where(or_(AttemptRow.result, AttemptRow.state == "published"), ~_has_files),
        "the attempt published, and no file that it made is on record",
        "'nightmill recover' brings back what its journal tells, where that is still in the spool",
    ),
)
