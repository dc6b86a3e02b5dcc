"""Files that failed attempts left for another attempt at their job to take."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select, update
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


def held_copies(session: Session, ended_before: datetime) -> list[HeldCopy]:
    """Return the copies at this site of what failed attempts left that ended long ago, unless somebody wants them.

    A result may have taken them, or the next attempt at their job, which was asked for or is under way, be about to.
    """
    result = aliased(AttemptRow)
    taken = select(TakenRow.file_id).join(result, result.id == TakenRow.attempt_id).where(result.result)
    query = (
        select(ReplicaRow.id, StoreRow.name, ReplicaRow.path, FileRow.size_bytes)
        .join(FileRow, FileRow.id == ReplicaRow.file_id)
        .join(GenerationRow, GenerationRow.file_id == FileRow.id)
        .join(AttemptRow, AttemptRow.id == FileRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(StoreRow, StoreRow.id == ReplicaRow.store_id)
        .where(
            AttemptRow.state != AttemptState.PUBLISHED,
            AttemptRow.ended_at < ended_before,
            ReplicaRow.state == ReplicaState.PRESENT,
            FileRow.id.not_in(taken),
            JobRow.state.not_in([JobState.READY.value, JobState.ACTIVE.value, JobState.HELD.value]),
            is_here(session),
        )
        .order_by(ReplicaRow.id)
    )
    return [HeldCopy(*copy) for copy in session.execute(query)]


def forget_held(session: Session, ids: Collection[int]) -> None:
    """Put on record that copies are gone; orders that name them are had again all the same."""
    session.execute(
        update(ReplicaRow).where(among(ReplicaRow.id, ids)).values(state=ReplicaState.MISSING.value),
        execution_options={"synchronize_session": False},
    )
