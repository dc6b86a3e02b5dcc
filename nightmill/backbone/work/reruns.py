"""Jobs that a person runs again: which there are, and that exactly those are issued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import AttemptRow, FileRow, JobRow, PlanRow, TakenRow
from nightmill.backbone.work.steering import is_open
from nightmill.errors import RequestRefused
from nightmill.model.attachment import JUNK
from nightmill.model.states import LOOKED_AT_AGAIN, JobState

FREE: Final = {"state": JobState.READY.value, "held_by": None, "held_why": None, "passed_over": False, "renew": False}
_UNSYNCHRONIZED: Final = {"synchronize_session": False}


class Again(NamedTuple):
    """A job that may run again.

    Parameters
    ----------
    detail
        What was sealed of it.
    held_why
        Why an exclusion holds it; empty where none does.
    failed_step
        The step that its last attempt failed in; empty where it did not.
    """

    id: int
    stage: str
    unit: str
    state: JobState
    attempts: int
    plan_id: int
    detail: Mapping[str, Any]
    held_why: str
    failed_step: str

    @property
    def name(self) -> str:
        """The job's name inside its campaign."""
        return f"{self.stage}/{self.unit}"


def may_run_again(
    session: Session, campaign_id: int, states: Collection[JobState], *, stage: str = ""
) -> Iterator[Again]:
    """Yield the jobs of a campaign in one of these states, or held by what a rerun looks at again, in its plans' order.

    A cancelled one that a person held, or of which an attempt has not ended, is not among them; nor is one that waits
    for what upstream makes anew.

    Parameters
    ----------
    stage
        Of this stage alone; by default of all.
    """
    held = (JobRow.state == JobState.HELD) & JobRow.held_by.in_(LOOKED_AT_AGAIN)
    waits = or_(JobRow.held_by.is_not(None) & JobRow.held_by.not_in(LOOKED_AT_AGAIN), is_open())
    query = (
        select(JobRow.id, JobRow.stage, JobRow.unit, JobRow.state, JobRow.attempts, JobRow.plan_id, JobRow.detail)
        .add_columns(func.coalesce(JobRow.held_why, ""), func.coalesce(AttemptRow.failed_step, ""))
        .join(PlanRow, PlanRow.id == JobRow.plan_id)
        .outerjoin(AttemptRow, (AttemptRow.job_id == JobRow.id) & (AttemptRow.number == JobRow.attempts))
        .where(JobRow.campaign_id == campaign_id, or_(JobRow.state.in_(states), held))
        .where(or_(JobRow.state != JobState.CANCELLED, ~waits), ~JobRow.renew)
        .order_by(PlanRow.position, JobRow.id)
        .execution_options(yield_per=1000)
    )
    if stage:
        query = query.where(JobRow.stage == stage)
    for id_, of_stage, unit, state, *rest in session.execute(query):
        yield Again(id_, of_stage, unit, JobState(state), *rest)


def start_again(session: Session, campaign_id: int, chosen: Mapping[int, JobState]) -> None:
    """Have jobs issued again, and pass over every other one that failed until somebody chooses it.

    A job that has a result keeps it until the new attempt publishes.

    Parameters
    ----------
    session
        A writing one.
    chosen
        The jobs' IDs, with the states in which they were seen.

    Raises
    ------
    RequestRefused
        Where one of them is in another state by now.
    """
    of_campaign = JobRow.campaign_id == campaign_id
    for state in JobState:
        ids = [id_ for id_, seen in chosen.items() if seen is state]
        seen_so = of_campaign & among(JobRow.id, ids) & (JobRow.state == state)
        if not ids:
            continue
        locked = session.scalars(select(JobRow.id).where(seen_so).with_for_update()).all()
        if len(locked) < len(ids):
            raise RequestRefused(
                f"{len(ids) - len(locked)} of {len(chosen)} jobs that were to run again are not {state} any more",
                remedy="somebody else did something with them meanwhile: look again, then rerun",
            )
        session.execute(update(JobRow).where(seen_so).values(FREE), execution_options=_UNSYNCHRONIZED)
    failed = of_campaign & (JobRow.state == JobState.FAILED) & ~JobRow.passed_over
    session.execute(update(JobRow).where(failed).values(passed_over=True), execution_options=_UNSYNCHRONIZED)


def start_downstream(session: Session, job_ids: Collection[int], *, renewed: Collection[int]) -> None:
    """Have done jobs run again once their inputs are chosen anew: when their stage has its turn.

    Parameters
    ----------
    renewed
        Jobs that are ready already, and are to wait for the same.

    Raises
    ------
    RequestRefused
        Where one of them is not done any more.
    """
    done = among(JobRow.id, job_ids) & (JobRow.state == JobState.DONE)
    locked = session.scalars(select(JobRow.id).where(done).with_for_update()).all()
    if len(locked) < len(job_ids):
        raise RequestRefused(
            f"{len(job_ids) - len(locked)} of {len(job_ids)} jobs downstream are not done any more",
            remedy="somebody else did something with them meanwhile: look again, then rerun",
        )
    ready = {"state": JobState.READY.value, "renew": True}
    both = done | among(JobRow.id, renewed)
    session.execute(update(JobRow).where(both).values(ready), execution_options=_UNSYNCHRONIZED)


class Others(NamedTuple):
    """How many jobs of a campaign a rerun does not choose, and what becomes of them.

    Parameters
    ----------
    go_on
        Not issued yet, or made ready before: they run in any case.
    wait
        Held for a person's release.
    passed_over
        Failed, and not run again.
    """

    go_on: int
    wait: int
    passed_over: int


def others(session: Session, campaign_id: int, chosen: Mapping[int, JobState]) -> Others:
    """Count the jobs of a campaign that a rerun of some does not choose."""
    is_excluded = case((JobRow.held_by.in_(LOOKED_AT_AGAIN), 1), else_=0)
    query = select(JobRow.state, is_excluded, func.count()).where(JobRow.campaign_id == campaign_id)
    counts: Counter[tuple[JobState, bool]] = Counter()
    for state, excluded, count in session.execute(query.group_by(JobRow.state, is_excluded)):
        counts[JobState(state), bool(excluded)] += count
    left = {state: counts[state, False] - sum(seen is state for seen in chosen.values()) for state in JobState}
    return Others(
        go_on=left[JobState.PLANNED] + left[JobState.READY] + left[JobState.ACTIVE],
        wait=left[JobState.HELD],
        passed_over=left[JobState.FAILED],
    )


def files_of_results(session: Session, job_ids: Collection[int]) -> list[int]:
    """Return the IDs of the files that count for jobs now; those that are the results of none are not among them."""
    results = select(AttemptRow.id).where(among(AttemptRow.job_id, job_ids), AttemptRow.result)
    made = select(FileRow.id).where(FileRow.attempt_id.in_(results), FileRow.type.not_in(("log", JUNK)))
    taken = select(TakenRow.file_id).where(TakenRow.attempt_id.in_(results))
    return sorted({*session.scalars(made), *session.scalars(taken)})


def keep_details(session: Session, job_ids: Collection[int]) -> None:
    """Keep with the attempts of jobs what these were planned with, as it is about to change."""
    detail = select(JobRow.detail).where(JobRow.id == AttemptRow.job_id).scalar_subquery()
    of_jobs = among(AttemptRow.job_id, job_ids) & AttemptRow.job_detail.is_(None)
    session.execute(update(AttemptRow).where(of_jobs).values(job_detail=detail), execution_options=_UNSYNCHRONIZED)
