"""Issue: the next attempts of a slice's jobs, as orders; every one of them a row before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Row, Text, cast, insert, not_, or_, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import FoundFile, found_columns, found_file
from nightmill.backbone.catalogue.replicas import replicas
from nightmill.backbone.schema import AttemptRow, FileRow, JobRow, PlannedInputRow, PlanRow
from nightmill.backbone.work.campaigns import job_named
from nightmill.errors import RequestRefused
from nightmill.model.order import JobOrder
from nightmill.model.states import AttemptState, JobState
from nightmill.planning.common import JobDetail, StageCommon
from nightmill.planning.orders import order_sha256, render

ISSUABLE: Final = (JobState.PLANNED, JobState.READY, JobState.FAILED)
"""A job that is active, done, held or cancelled is never issued."""


def issue(
    session: Session,
    *,
    slice_id: int,
    lease_id: int | None,
    now: datetime,
    limit: int,
    skip: Collection[str] = (),
) -> list[JobOrder]:
    """Issue an attempt of each of the next jobs of a slice that are not done.

    Each gets the next number of its job, and the inputs that were sealed with it: a retry reads what the first try
    read. Two callers never issue the same job. A handful of statements, whatever the limit.

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

    Returns
    -------
    list of JobOrder
        Jobs that were never tried first, then in the order of the plan.
    """
    query = (
        select(JobRow.id, JobRow.plan_id, JobRow.unit, JobRow.attempts, JobRow.detail)
        .where(JobRow.slice_id == slice_id, JobRow.state.in_(ISSUABLE))
        .order_by(JobRow.attempts, JobRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if skip:
        query = query.where(or_(JobRow.state == JobState.READY, not_(among(JobRow.unit, skip))))
    jobs = [(row, JobDetail.model_validate(row.detail)) for row in session.execute(query)]
    if not jobs:
        return []
    plans = _plans(session, {row.plan_id for row, _ in jobs})
    file_ids = {id_ for _, detail in jobs for _rule, ids in detail.inputs.values() for id_ in ids}
    files = _files(session, file_ids)
    orders = []
    for row, detail in jobs:
        digest, common = plans[row.plan_id]
        orders.append(render(common, row.unit, detail, files, row.attempts + 1, plan_sha256=digest))
    attempt_ids = _add_attempts(session, [row for row, _ in jobs], orders, lease_id, now)
    planned = [
        planned_input
        for attempt_id, (row, detail) in zip(attempt_ids, jobs, strict=True)
        for planned_input in _planned_inputs(attempt_id, plans[row.plan_id][1], detail)
    ]
    if planned:
        session.execute(insert(PlannedInputRow), planned)
    return orders


def issued_order(session: Session, campaign: str, stage: str, unit: str, *, number: int | None = None) -> JobOrder:
    """Return the order of an attempt that was issued, with its inputs where they are now.

    Parameters
    ----------
    number
        Of the attempt; by default the last.

    Raises
    ------
    UnknownName
        Where there is no such campaign or job.
    RequestRefused
        Where the job has no such attempt.
    """
    job = job_named(session, campaign, stage, unit)
    query = select(AttemptRow).where(AttemptRow.job_id == job.id, AttemptRow.number == (number or job.attempts))
    attempt = session.scalar(query)
    if attempt is None:
        raise RequestRefused(
            f"{campaign}/{stage}/{unit} has {job.attempts} attempts"
            + (f", and none is a{number:02d}" if number else ""),
            remedy="an order is there once the job was issued",
        )
    detail = JobDetail.model_validate(job.detail)
    [(digest, common)] = _plans(session, [attempt.plan_id]).values()
    files = _files(session, {id_ for _rule, ids in detail.inputs.values() for id_ in ids})
    return render(common, unit, detail, files, attempt.number, plan_sha256=digest)


def _plans(session: Session, ids: Iterable[int]) -> dict[int, tuple[str, StageCommon]]:
    query = select(PlanRow.id, PlanRow.sha256, cast(PlanRow.common, Text)).where(PlanRow.id.in_(ids))
    return {id_: (digest, _read_common(text)) for id_, digest, text in session.execute(query)}


@lru_cache(maxsize=8)
def _read_common(text: str) -> StageCommon:
    return StageCommon.model_validate_json(text)


def _files(session: Session, ids: Collection[int]) -> dict[int, FoundFile]:
    """Return files, each with a copy: one that is present, else one that was, for the job to find out and to tell."""
    files: dict[int, FoundFile] = {}
    # Not streamed: behind a cursor PostgreSQL would walk the whole catalogue in the order of its IDs.
    for row in session.execute(found_columns(stored=False).where(among(FileRow.id, ids))):
        files.setdefault(row.id, found_file(row))
    lost = [file for file in files.values() if not file.store]
    copies = replicas(session, [file.id for file in lost]) if lost else {}
    for file in lost:
        if file.id not in copies:
            raise RequestRefused(
                f"{file.name} is an input of a job that is to be issued, and no store has it or had it",
                remedy="register a copy of it, then rerun",
            )
        files[file.id] = replace(file, store=copies[file.id][0].store, path=copies[file.id][0].path)
    return files


def _add_attempts(
    session: Session, jobs: list[Row[Any]], orders: list[JobOrder], lease_id: int | None, now: datetime
) -> list[int]:
    rows = [
        {
            "job_id": job.id,
            "plan_id": job.plan_id,
            "lease_id": lease_id,
            "number": order.attempt.number,
            "state": AttemptState.ISSUED.value,
            "order_sha256": order_sha256(order),
            "issued_at": now,
        }
        for job, order in zip(jobs, orders, strict=True)
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


def _planned_inputs(attempt_id: int, common: StageCommon, detail: JobDetail) -> Iterator[dict[str, object]]:
    for step in common.stage.steps:
        for role in step.inputs:
            rule, ids = detail.inputs.get(role, (0, ()))
            for file_id in ids:
                yield {
                    "attempt_id": attempt_id,
                    "step": step.name,
                    "role": role,
                    "file_id": file_id,
                    "rule": common.rules[rule],
                    "origin": common.origins[role],
                }
