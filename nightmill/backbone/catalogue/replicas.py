"""Copies of files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import ReplicaRow, StoreRow
from nightmill.backbone.sites import is_here, store_label


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a file."""

    store: str
    """Its name; of another site, SITE:STORE."""
    path: str
    state: str
    verified_at: datetime


def replicas(session: Session, file_ids: Iterable[int]) -> dict[int, list[Replica]]:
    """Return the copies of files by the files' IDs, those at this site first; files without one are left out."""
    query = (
        select(ReplicaRow.file_id, store_label(session), ReplicaRow.path, ReplicaRow.state, ReplicaRow.verified_at)
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id)
        .where(among(ReplicaRow.file_id, file_ids))
        .order_by(is_here(session).desc(), ReplicaRow.id)
    )
    copies: dict[int, list[Replica]] = {}
    for file_id, store, path, state, verified_at in session.execute(query):
        copies.setdefault(file_id, []).append(Replica(store, path, state, verified_at))
    return copies
