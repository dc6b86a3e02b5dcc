"""Issue: the next attempts of a slice's jobs, as orders; every one of them a row before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, insert, not_, or_, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.error_rules import KnownError
from nightmill.backbone.schema import AttemptRow, JobRow, PlannedInputRow, TakenRow
from nightmill.backbone.sites import this_site
from nightmill.backbone.work.holds import hold
from nightmill.model.order import JobOrder, order_sha256
from nightmill.model.states import AttemptState, Hold, JobState
from nightmill.planning.accepting import Accepting
from nightmill.planning.copies import Chosen, inputs_of
from nightmill.planning.orders import memory_wanted, render
from nightmill.planning.sealed import JobDetail, PlannedJob, StageCommon, commons, job_of, planned_inputs
from nightmill.planning.since import ISSUABLE, barred, rules_of_slice


def issue(
    session: Session,
    *,
    slice_id: int,
    lease_id: int | None,
    now: datetime,
    limit: int,
    skip: Collection[str] = (),
    most_memory_bytes: int | None = None,
    errors: Sequence[KnownError] = (),
) -> list[JobOrder]:
    """Issue an attempt of each of the next jobs of a slice that are not done.

    Each gets the next number of its job, and the inputs that were sealed with it: a retry reads what the first try
    read. Two callers never issue the same job. A handful of statements, whatever the limit.

    One that waits for its next try is left alone until then, unless it was made ready. A job that would read what was
    excluded since it was sealed is held instead: nothing begins with that.

    Parameters
    ----------
    session
        A writing one.
    slice_id
        Whose jobs.
    lease_id
        The lease of the process that will carry them out.
    now
        When.
    limit
        At most so many.
    skip
        Units to leave alone, unless their jobs were made ready.
    most_memory_bytes
        What the host has: a try with more memory than the last asks for no more.
    errors
        The rules of the site that hold: those that accept exit codes stand in the orders.

    Returns
    -------
    list of JobOrder
        Jobs that were never tried first, then in the order of the plan.
    """
    if not limit:
        return []
    query = (
        select(JobRow.id, JobRow.plan_id, JobRow.unit, JobRow.attempts, JobRow.detail, JobRow.memory_bytes)
        .where(*_may_begin(slice_id, now, skip))
        .order_by(JobRow.attempts, JobRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rules = rules_of_slice(session, slice_id)
    while True:
        rows = session.execute(query).all()
        if not rows:
            return []
        details = [JobDetail.model_validate(row.detail) for row in rows]
        if not rules:
            break
        held = barred(session, rules, {row.id: detail for row, detail in zip(rows, details, strict=True)})
        if not held:
            break
        for why in sorted(set(held.values())):
            hold(session, [id_ for id_, each in held.items() if each == why], Hold.EXCLUSION, why)
    plans = commons(session, {row.plan_id for row in rows})
    inputs = inputs_of(session, {id_ for detail in details for id_ in detail.file_ids}, site_id=this_site(session))
    chosen = {id_: inputs.preferred(common.stores) for id_, (_digest, common) in plans.items()}
    files = {id_: inputs.with_copies(copies) for id_, copies in chosen.items()}
    jobs = [job_of(row.unit, detail, files[row.plan_id]) for row, detail in zip(rows, details, strict=True)]
    orders, memory, rule_ids = [], [], []
    accepting = Accepting(errors)
    for row, job in zip(rows, jobs, strict=True):
        digest, common = plans[row.plan_id]
        memory.append(memory_wanted(common, job, row.memory_bytes, most=most_memory_bytes))
        order = render(common, job, row.attempts + 1, plan_sha256=digest, memory_bytes=memory[-1])
        order, own = accepting.put_in(order)
        orders.append(order)
        rule_ids.append(own)
    copies = [inputs.unusual(chosen[row.plan_id], each.file_ids) for row, each in zip(rows, details, strict=True)]
    attempt_ids = _add_attempts(session, rows, orders, copies, memory, rule_ids, lease_id, now)
    planned = [
        planned_input
        for attempt_id, row, job in zip(attempt_ids, rows, jobs, strict=True)
        for planned_input in _planned_inputs(attempt_id, plans[row.plan_id][1], job)
    ]
    if planned:
        session.execute(insert(PlannedInputRow), planned)
    taken = [
        {"attempt_id": attempt_id, "file_id": file.file_id}
        for attempt_id, job in zip(attempt_ids, jobs, strict=True)
        for file in (job.restart.files if job.restart else ())
    ]
    if taken:
        session.execute(insert(TakenRow), taken)
    return orders


def upcoming(
    session: Session, slice_id: int, now: datetime, skip: Collection[str] = (), limit: int | None = None
) -> dict[int, list[int]]:
    """Return the jobs that :func:`issue` would issue next, each with the IDs of the files that it reads.

    Parameters
    ----------
    limit
        At most so many; by default all.
    """
    query = select(JobRow.id, JobRow.detail).where(*_may_begin(slice_id, now, skip))
    rows = session.execute(query.order_by(JobRow.attempts, JobRow.id).limit(limit))
    return {id_: JobDetail.model_validate(detail).file_ids for id_, detail in rows}


def would_issue(session: Session, slice_id: int, now: datetime, skip: Collection[str] = ()) -> bool:
    """Whether a slice has a job that :func:`issue` would issue."""
    return session.scalar(select(JobRow.id).where(*_may_begin(slice_id, now, skip)).limit(1)) is not None


def _may_begin(slice_id: int, now: datetime, skip: Collection[str]) -> Iterator[ColumnElement[bool]]:
    is_ready = JobRow.state == JobState.READY
    yield from (JobRow.slice_id == slice_id, JobRow.state.in_(ISSUABLE), ~JobRow.passed_over, ~JobRow.renew)
    yield or_(is_ready, JobRow.ready_at.is_(None), JobRow.ready_at <= now)
    if skip:
        yield or_(is_ready, not_(among(JobRow.unit, skip)))


def _add_attempts(
    session: Session,
    jobs: Sequence[Row[Any]],
    orders: list[JobOrder],
    copies: list[Chosen | None],
    memory: list[int | None],
    rule_ids: list[list[int] | None],
    lease_id: int | None,
    now: datetime,
) -> list[int]:
    rows = [
        {
            "job_id": job.id,
            "plan_id": job.plan_id,
            "lease_id": lease_id,
            "number": order.attempt.number,
            "state": AttemptState.ISSUED.value,
            "order_sha256": order_sha256(order),
            "copies": chosen,
            "memory_bytes": wanted,
            "rule_ids": own,
            "issued_at": now,
        }
        for job, order, chosen, wanted, own in zip(jobs, orders, copies, memory, rule_ids, strict=True)
    ]
    session.execute(insert(AttemptRow), rows)
    issued = among(JobRow.id, [job.id for job in jobs])
    session.execute(
        update(JobRow).where(issued).values(state=JobState.ACTIVE.value, attempts=JobRow.attempts + 1),
        execution_options={"synchronize_session": False},
    )
    # SQLite would give the IDs back in the order of the rows only where these are inserted one by one.
    newest = (AttemptRow.job_id == JobRow.id) & (AttemptRow.number == JobRow.attempts)
    query = select(JobRow.id, AttemptRow.id).join(AttemptRow, newest).where(issued)
    ids = {job_id: attempt_id for job_id, attempt_id in session.execute(query)}
    return [ids[job.id] for job in jobs]


def _planned_inputs(attempt_id: int, common: StageCommon, job: PlannedJob) -> Iterator[dict[str, object]]:
    inputs = {planned.role: planned for planned in planned_inputs(common, job)}
    for step in common.stage.steps:
        for planned in (inputs[role] for role in step.inputs if role in inputs):
            for file in planned.files:
                yield {
                    "attempt_id": attempt_id,
                    "step": step.name,
                    "role": planned.role,
                    "file_id": file.id,
                    "rule": planned.rule,
                    "origin": planned.origin,
                    "level": planned.level,
                }
        if job.restart is not None:
            for taken in job.restart.read_by(step):
                yield {
                    "attempt_id": attempt_id,
                    "step": step.name,
                    "role": taken.role,
                    "file_id": taken.file_id,
                    "rule": f"made by attempt a{job.restart.attempt:02d} of the job",
                    "origin": "rerun",
                    "level": None,
                }
