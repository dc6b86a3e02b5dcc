"""Copies of files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import DoubtRow, FileRow, ReplicaRow, StoreRow
from nightmill.backbone.sites import is_here, store_label
from nightmill.model.base import grouped

_IN_VAIN: Final = (DoubtRow.replica_id == ReplicaRow.id, DoubtRow.at > ReplicaRow.verified_at)


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a file."""

    store: str
    """Its name; of another site, SITE:STORE."""
    path: str
    state: str
    verified_at: datetime
    doubt: str = ""
    """Why it was in vain when it was tried last; empty where it was not tried in vain since it was verified."""


def replicas(session: Session, file_ids: Iterable[int]) -> dict[int, list[Replica]]:
    """Return the copies of files by the files' IDs, those at this site first; files without one are left out."""
    query = (
        select(ReplicaRow.file_id, store_label(session), ReplicaRow.path, ReplicaRow.state, ReplicaRow.verified_at)
        .add_columns(func.coalesce(_last_doubt(), ""))
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id)
        .where(among(ReplicaRow.file_id, file_ids))
        .order_by(is_here(session).desc(), ReplicaRow.id)
    )
    return grouped((file_id, Replica(*told)) for file_id, *told in session.execute(query))


def in_store(session: Session, names: Iterable[str], store: str) -> set[str]:
    """Return those of some files that have a copy in a store of this site, whatever its state, by their names."""
    query = (
        select(FileRow.name)
        .join(ReplicaRow, ReplicaRow.file_id == FileRow.id)
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id)
        .where(is_here(session), StoreRow.name == store, among(FileRow.name, names))
    )
    return set(session.scalars(query))


def is_doubted() -> ColumnElement[bool]:
    """Say of a copy that it was tried in vain since it was verified last."""
    return select(DoubtRow.id).where(*_IN_VAIN).exists()


def _last_doubt() -> ColumnElement[str | None]:
    last = select(DoubtRow.why).where(*_IN_VAIN).order_by(DoubtRow.at.desc(), DoubtRow.id.desc()).limit(1)
    return last.correlate(ReplicaRow).scalar_subquery()
