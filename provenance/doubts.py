"""Copies of inputs that attempts could not have: what they found is kept, until the copy is staged again.

A doubt never says that a copy is lost: its store may have been away, or the way to it. The copy is tried last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.replicas import is_doubted
from nightmill.backbone.schema import DoubtRow, ReplicaRow, StoreRow
from nightmill.backbone.sites import is_here
from nightmill.backbone.upsert import add_missing
from nightmill.model.fate import Fate
from nightmill.model.journal import PassedOver
from nightmill.model.order import AttemptKey
from nightmill.model.report import JobReport

Place = tuple[str, str]
"""The name of a store of this site, and a path in it."""


def write_doubts(session: Session, ended: Sequence[JobReport], ids: Mapping[AttemptKey, int]) -> None:
    """Keep what attempts found of copies that they could not have, and end the doubts of those that they had."""
    found = [(report, place, told) for report in ended for place, told in _not_had(report)]
    if found:
        replicas = _replicas(session, {place for _report, place, _told in found})
        rows = [
            {
                "replica_id": replicas[place],
                "attempt_id": ids[report.attempt],
                "fate": told.fate or Fate.STORE_ERROR,
                "why": told.why,
                "at": report.ended_at,
            }
            for report, place, told in found
            if place in replicas
        ]
        add_missing(session, DoubtRow, rows, unique=("replica_id", "attempt_id"))
    if not ended or session.scalar(select(DoubtRow.id).limit(1)) is None:
        return
    had = {place: report.staged_at for report in ended for place in _had(report)}
    for place, id_ in _replicas(session, had, is_doubted()).items():
        earlier = (ReplicaRow.id == id_, ReplicaRow.verified_at < had[place])
        session.execute(update(ReplicaRow).where(*earlier).values(verified_at=had[place]))


def _not_had(report: JobReport) -> Iterator[tuple[Place, PassedOver]]:
    """Yield the copies that an attempt could not have, of those alone that its order names."""
    paths = {(file.name, copy.store): copy.path for file in report.order.inputs for copy in file.copies}
    for told in report.passed_over:
        if (path := paths.get((told.name, told.store))) is not None:
            yield (told.store, path), told


def _had(report: JobReport) -> Iterator[Place]:
    """Yield the copies that an attempt staged."""
    if report.staged_at is None:
        return
    passed_over = {(told.name, told.store) for told in report.passed_over}
    for file in report.order.inputs:
        yield next((copy.store, copy.path) for copy in file.copies if (file.name, copy.store) not in passed_over)


def _replicas(session: Session, places: Collection[Place], *only: ColumnElement[bool]) -> dict[Place, int]:
    """Return the IDs of the copies at some places."""
    query = (
        select(StoreRow.name, ReplicaRow.path, ReplicaRow.id)
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id)
        .where(is_here(session), among(ReplicaRow.path, {path for _store, path in places}), *only)
    )
    rows = session.execute(query) if places else ()
    return {(store, path): id_ for store, path, id_ in rows if (store, path) in places}
