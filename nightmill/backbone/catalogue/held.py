"""Files that failed attempts left for another attempt at their job to take."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session, aliased

from nightmill.backbone.among import among
from nightmill.backbone.schema import AttemptRow, FileRow, GenerationRow, JobRow, ReplicaRow, StoreRow, TakenRow
from nightmill.backbone.sites import is_here
from nightmill.model.states import AttemptState, JobState, ReplicaState


class HeldCopy(NamedTuple):
    """A copy of such a file."""

    id: int
    store: str
    path: str
    size_bytes: int


class HeldNow(NamedTuple):
    """How much of it there is."""

    files: int
    size_bytes: int
    since: datetime | None
    """When the oldest of their attempts ended; None where there is none."""


def held_copies(session: Session, ended_before: datetime) -> list[HeldCopy]:
    """Return the copies at this site of what failed attempts left that ended long ago, unless somebody wants them.

    A result may have taken them, or the next attempt at their job, which was asked for or is under way, be about to.
    """
    unwanted = JobRow.state.not_in([JobState.READY.value, JobState.ACTIVE.value, JobState.HELD.value])
    query = _held(session, ReplicaRow.id, StoreRow.name, ReplicaRow.path, FileRow.size_bytes).order_by(ReplicaRow.id)
    return [HeldCopy(*copy) for copy in session.execute(query.where(AttemptRow.ended_at < ended_before, unwanted))]


def held_now(session: Session) -> HeldNow:
    """Return what copies this site holds of what failed attempts left, those that somebody wants included."""
    columns = (func.count(), func.coalesce(func.sum(FileRow.size_bytes), 0), func.min(AttemptRow.ended_at))
    count, size_bytes, since = session.execute(_held(session, *columns)).one()
    return HeldNow(count, int(size_bytes), since)


def _held(session: Session, *columns: Any) -> Select[Any]:
    result = aliased(AttemptRow)
    taken = select(TakenRow.file_id).join(result, result.id == TakenRow.attempt_id).where(result.result)
    return (
        select(*columns)
        .select_from(ReplicaRow)
        .join(FileRow, FileRow.id == ReplicaRow.file_id)
        .join(GenerationRow, GenerationRow.file_id == FileRow.id)
        .join(AttemptRow, AttemptRow.id == FileRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(StoreRow, StoreRow.id == ReplicaRow.store_id)
        .where(
            AttemptRow.state != AttemptState.PUBLISHED,
            ReplicaRow.state == ReplicaState.PRESENT,
            FileRow.id.not_in(taken),
            is_here(session),
        )
    )


def forget_held(session: Session, ids: Collection[int]) -> None:
    """Put on record that copies are gone; orders that name them are had again all the same."""
    session.execute(
        update(ReplicaRow).where(among(ReplicaRow.id, ids)).values(state=ReplicaState.MISSING.value),
        execution_options={"synchronize_session": False},
    )
