"""Where attempts begin that do not begin with the first step, and what they take from earlier ones of their jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.withdrawals import withdrawals
from nightmill.backbone.schema import AttemptRow, ExecutionRow, FileRow, GenerationRow, TakenRow
from nightmill.backbone.sites import this_site
from nightmill.backbone.work.reruns import Again
from nightmill.config.rules import NOWHERE
from nightmill.errors import UnknownName
from nightmill.model.base import grouped
from nightmill.model.order import JobOrder
from nightmill.model.pipeline import Output, Stage, Step
from nightmill.planning.again import issued_orders
from nightmill.planning.copies import Inputs, inputs_of
from nightmill.planning.sealed import JobDetail, Restart, StageCommon, TakenFile


class Made(NamedTuple):
    """A file that a step of an earlier attempt made."""

    file_id: int
    name: str
    step: str
    role: str


@dataclass(frozen=True)
class Restarts:
    """Where jobs begin.

    Parameters
    ----------
    by_job
        Job IDs to where each begins; None is the first step.
    lacking
        What cannot be taken, and why: one sentence each.
    """

    by_job: Mapping[int, Restart | None] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Earlier:
    """An attempt that files are taken from: the result of its job, else its last."""

    number: int
    is_result: bool
    order: JobOrder
    places: Mapping[int, int | None]
    """File IDs of what it took itself, to their places."""
    made: Sequence[Made]


def restarts(session: Session, jobs: Sequence[tuple[Again, StageCommon]], step: str = "") -> Restarts:
    """Work out where jobs begin, and what of the steps before they take.

    Parameters
    ----------
    jobs
        All of them, with what their plans have in common.
    step
        Where to begin; by default each where its last attempt failed.

    Raises
    ------
    UnknownName
        Where a job has no such step.
    """
    earlier = _earlier(session, [job for job, _ in jobs])
    wanted = {made.file_id for each in earlier.values() for made in each.made}
    copies = inputs_of(session, wanted, site_id=this_site(session))
    withdrawn = {id_: str(told[-1]) for id_, told in withdrawals(session, wanted).items()}
    found: dict[int, Restart | None] = {}
    lacking: list[str] = []
    for job, common in jobs:
        stage = common.of(JobDetail.model_validate(job.detail)).stage
        before = earlier.get(job.id)
        begin = step or job.failed_step
        names = [each.name for each in stage.steps]
        if begin and begin not in names:
            raise UnknownName(
                f"step of {job.name}", begin, names, remedy=f"it has {', '.join(names)}; --stage chooses jobs of one"
            )
        place = names.index(begin) if begin else 0
        if place == 0:
            found[job.id] = None
            continue
        lacks = list(_lacking(stage, place, before, copies, withdrawn))
        lacking += [f"{job.name}: {why}" for why in lacks]
        if before is not None and not lacks:
            found[job.id] = _restart(stage, place, before, copies, common.stores)
    return Restarts(found, tuple(lacking))


def _earlier(session: Session, jobs: Sequence[Again]) -> dict[int, _Earlier]:
    query = select(AttemptRow).where(among(AttemptRow.job_id, [job.id for job in jobs]))
    rows: dict[int, AttemptRow] = {}
    for row in session.scalars(query.order_by(AttemptRow.result, AttemptRow.number)):
        rows[row.job_id] = row  # the last one that comes is the result, else the last attempt
    by_attempt = {row.id: row for row in rows.values()}
    orders = dict(zip(sorted(by_attempt), issued_orders(session, by_attempt), strict=True))
    made = _made(session, by_attempt)
    details = {job.id: job.detail for job in jobs}
    return {
        row.job_id: _Earlier(
            row.number,
            row.result,
            orders[row.id],
            _places(JobDetail.model_validate(row.job_detail or details[row.job_id])),
            made.get(row.id, ()),
        )
        for row in by_attempt.values()
    }


def _places(detail: JobDetail) -> dict[int, int | None]:
    return {file.file_id: file.place for file in detail.restart.files} if detail.restart else {}


def _made(session: Session, attempt_ids: Iterable[int]) -> dict[int, list[Made]]:
    """Return what counts for attempts, by their IDs: what they made, and what they took."""
    ids = list(attempt_ids)
    own = select(FileRow.attempt_id, FileRow.id.label("file_id")).where(among(FileRow.attempt_id, ids))
    taken = select(TakenRow.attempt_id, TakenRow.file_id).where(among(TakenRow.attempt_id, ids))
    counts = own.union_all(taken).subquery()
    query = (
        select(counts.c.attempt_id, FileRow.id, FileRow.name, ExecutionRow.step, GenerationRow.role)
        .join(FileRow, FileRow.id == counts.c.file_id)
        .join(GenerationRow, GenerationRow.file_id == FileRow.id)
        .join(ExecutionRow, ExecutionRow.id == GenerationRow.execution_id)
        .order_by(FileRow.id)
    )
    return grouped((attempt_id, Made(*made)) for attempt_id, *made in session.execute(query))


def _outputs(steps: Iterable[Step]) -> Iterator[tuple[Step, str, Output]]:
    return ((step, role, output) for step in steps for role, output in step.outputs.items())


def _lacking(
    stage: Stage, place: int, before: _Earlier | None, copies: Inputs, withdrawn: Mapping[int, str]
) -> Iterator[str]:
    """Yield what steps read that none of their files can be taken for, and why."""
    read = {role for step in stage.steps[place:] for role in step.inputs}
    for step, role, output in _outputs(stage.steps[:place]):
        if role not in read:
            continue
        what = f"{role}{f' ({output.type})' if output.type else ''} of step {step.name!r}"
        if before is None:
            yield f"{what} is not there: it never ran"
            continue
        files = [made for made in before.made if (made.step, made.role) == (step.name, role)]
        gone = [made for made in files if not any(copy.present for copy in copies.copies[made.file_id])]
        attempt = f"attempt a{before.number:02d}"
        if output.type and not files and not before.is_result:
            yield f"{what} is not there: {attempt} failed, and kept nothing of it (keep_on_failure of the stage)"
        elif not output.type or (output.to == NOWHERE and len(gone) == len(files)):
            yield f"{what} is not there: it is not kept"
        elif not files and output.required:
            yield f"{what} is not there: the catalogue has none of {attempt}"
        else:
            yield from (f"{what} is not there: no copy of {made.name} is present at this site" for made in gone)
            yield from (f"{made.name} {withdrawn[made.file_id]}" for made in files if made.file_id in withdrawn)


def _restart(stage: Stage, place: int, before: _Earlier, copies: Inputs, stores: Iterable[str]) -> Restart:
    outputs = {output.role: output for step in before.order.steps for output in step.outputs}
    earlier = [step.name for step in stage.steps[:place]]
    rank = {store: number for number, store in enumerate(stores)}
    files = []
    for made in (each for each in before.made if each.step in earlier):
        file = copies.files[made.file_id]
        there = [copy for copy in copies.copies[made.file_id] if copy.present]
        copy = min(there, key=lambda each: (rank.get(each.store, len(rank)), each.id)) if there else None
        names = outputs[made.role].names
        files.append(
            TakenFile(
                file_id=made.file_id,
                role=made.role,
                name=made.name,
                place=names.index(made.name) if made.name in names else before.places.get(made.file_id),
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                store=copy.store if copy else "",
                path=copy.path if copy else "",
            )
        )
    only = tuple([step.name for step in stage.steps[place:]])
    return Restart(attempt=before.number, only=only, files=tuple(files))
