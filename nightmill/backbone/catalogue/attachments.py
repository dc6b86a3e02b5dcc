"""Loading what files hold row by row: hidden, in parts, as often as it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.database import Database
from nightmill.backbone.schema import AttachedRow, AttachmentRow, FileAttachmentRow
from nightmill.backbone.upsert import add_missing
from nightmill.model.attachment import MEMBERSHIP, Attachment, RowValue

ROWS: Final = 10_000
"""Rows a transaction: none holds up others for long, however many there are."""


def loaded(session: Session, digests: Iterable[str]) -> dict[str, int]:
    """Return the IDs of attachments whose every row is there, by their digests."""
    query = select(AttachmentRow.sha256, AttachmentRow.id).where(
        among(AttachmentRow.sha256, digests), AttachmentRow.loaded_at.is_not(None)
    )
    return {sha256: id_ for sha256, id_ in session.execute(query)}


def load(
    database: Database,
    attachment: Attachment,
    columns: Sequence[str],
    rows: Iterable[Sequence[RowValue]],
    *,
    now: datetime,
) -> int:
    """Load the rows of an attachment, in transactions of its own, and return its ID.

    One that was begun before goes on where it stands; two that load the same do not disturb each other.
    """

    def begin(session: Session) -> tuple[int, int]:
        new = {"kind": attachment.kind, "sha256": attachment.sha256, "row_count": attachment.rows}
        add_missing(session, AttachmentRow, [new], unique=("sha256",))
        found = session.scalars(select(AttachmentRow.id).where(AttachmentRow.sha256 == attachment.sha256)).one()
        return found, _next(session, found)

    id_, done = database.write(begin)
    rest = islice(enumerate(rows), done, None)
    while block := list(islice(rest, ROWS)):

        def add(session: Session, block: list[tuple[int, Sequence[RowValue]]] = block) -> None:
            # the row of the attachment is locked: who loads the same waits, and finds these rows there
            session.execute(select(AttachmentRow.id).where(AttachmentRow.id == id_).with_for_update())
            there = _next(session, id_)
            new = [
                {"attachment_id": id_, "number": number, "data": dict(zip(columns, row, strict=True))}
                for number, row in block
                if number >= there
            ]
            if new:
                session.execute(insert(AttachedRow), new)

        database.write(add)
    database.write(
        lambda session: session.execute(update(AttachmentRow).where(AttachmentRow.id == id_).values(loaded_at=now))
    )
    return id_


def _next(session: Session, attachment_id: int) -> int:
    last = session.scalar(select(func.max(AttachedRow.number)).where(AttachedRow.attachment_id == attachment_id))
    return 0 if last is None else last + 1


def attach(session: Session, file_ids: Sequence[int], attachments: Sequence[Sequence[int]]) -> None:
    """Let files have attachments that are loaded: their rows are seen with the files."""
    rows = [
        {"file_id": file_id, "attachment_id": id_}
        for file_id, ids in zip(file_ids, attachments, strict=True)
        for id_ in dict.fromkeys(ids)
    ]
    if rows:
        session.execute(insert(FileAttachmentRow), rows)


def membership_rows(session: Session, file_ids: Iterable[int]) -> Iterator[tuple[int, Mapping[str, RowValue]]]:
    """Yield the rows that say which files belong to which units, as :func:`rows_of` does."""
    return rows_of(session, MEMBERSHIP, file_ids)


def rows_of(session: Session, kind: str, file_ids: Iterable[int]) -> Iterator[tuple[int, Mapping[str, RowValue]]]:
    """Yield the rows of a kind, each with the ID of the file that holds it; streamed.

    Yields
    ------
    tuple of int and Mapping
        File after file, in the order of the rows.
    """
    attachment_id = FileAttachmentRow.attachment_id
    query = (
        select(FileAttachmentRow.file_id, AttachedRow.data)
        .join(AttachmentRow, AttachmentRow.id == attachment_id)
        .join(AttachedRow, AttachedRow.attachment_id == attachment_id)
        .where(AttachmentRow.kind == kind, among(FileAttachmentRow.file_id, file_ids))
        .order_by(FileAttachmentRow.file_id, attachment_id, AttachedRow.number)
        .execution_options(yield_per=ROWS)
    )
    yield from session.execute(query).tuples()


def attached(session: Session, file_id: int) -> dict[str, int]:
    """Return how many rows a file has, by their kind."""
    query = (
        select(AttachmentRow.kind, func.sum(AttachmentRow.row_count))
        .join(FileAttachmentRow, FileAttachmentRow.attachment_id == AttachmentRow.id)
        .where(FileAttachmentRow.file_id == file_id)
        .group_by(AttachmentRow.kind)
    )
    return {kind: int(count) for kind, count in session.execute(query)}


def drop_unseen(session: Session, before: datetime) -> int:
    """Remove attachments that were loaded before a time and that no file has; return how many."""
    unseen = (
        select(AttachmentRow.id)
        .outerjoin(FileAttachmentRow, FileAttachmentRow.attachment_id == AttachmentRow.id)
        .where(FileAttachmentRow.file_id.is_(None), AttachmentRow.loaded_at < before)
    )
    ids = list(session.scalars(unseen))
    session.execute(delete(AttachedRow).where(among(AttachedRow.attachment_id, ids)))
    session.execute(delete(AttachmentRow).where(among(AttachmentRow.id, ids)))
    return len(ids)
