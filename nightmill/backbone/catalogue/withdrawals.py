"""Files that are not any more taken for what their rows say: withdrawn, or described anew.

Nothing of a file is changed: a dated row says that it does not hold any more, and by which other it was replaced.
:func:`withdrawn` is the one place that says so to a query.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, insert, select, text
from sqlalchemy.orm import Session, aliased

from nightmill.backbone.among import among
from nightmill.backbone.as_of import on_record
from nightmill.backbone.schema import FileRow, WithdrawalRow
from nightmill.model.base import grouped


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """That a file was withdrawn, or retyped."""

    type: str
    """What it was taken for until then."""
    retyped: str
    """What it is taken for since then; empty where it was withdrawn."""
    at: datetime
    who: str
    why: str

    def __str__(self) -> str:
        """Say so, as words that follow the file's name."""
        done = f"was retyped from {self.type} to {self.retyped}" if self.retyped else "was withdrawn"
        return f"{done} at {self.at:%Y-%m-%d %H:%M:%S} UTC by {self.who}: {self.why}"


def withdrawn(as_of: datetime | None = None) -> ColumnElement[bool]:
    """Say of a file that it does not hold any more, or did not at a time."""
    of_file = select(WithdrawalRow.id).where(WithdrawalRow.file_id == FileRow.id, on_record(WithdrawalRow.at, as_of))
    return of_file.correlate(FileRow).exists()


def withdrawals(session: Session, file_ids: Iterable[int]) -> dict[int, list[Withdrawal]]:
    """Return what was said of files, the first first, by the files' IDs; those that hold are left out."""
    new = aliased(FileRow)
    query = (
        select(WithdrawalRow.file_id, FileRow.type, new.type, WithdrawalRow.at, WithdrawalRow.who, WithdrawalRow.why)
        .join(FileRow, FileRow.id == WithdrawalRow.file_id)
        .outerjoin(new, new.id == WithdrawalRow.replaced_by)
        .where(among(WithdrawalRow.file_id, file_ids))
        .order_by(WithdrawalRow.id)
    )
    return grouped(
        (file_id, Withdrawal(type_, retyped or "", at, who, why))
        for file_id, type_, retyped, at, who, why in session.execute(query)
    )


def versions(session: Session, name: str) -> list[int]:
    """Return the IDs of all that a file was ever taken for, the first first."""
    return list(session.scalars(select(FileRow.id).where(FileRow.name == name).order_by(FileRow.version)))


def history(session: Session, name: str) -> list[Withdrawal]:
    """Return what was said of all that a file was ever taken for, the first first."""
    ids = versions(session, name)
    return sorted((each for told in withdrawals(session, ids).values() for each in told), key=lambda each: each.at)


def withdraw(
    session: Session, replaced: Iterable[tuple[int, int | None]], *, who: str, why: str, now: datetime
) -> None:
    """Say that files do not hold any more, each with the one that it was replaced by, if any."""
    rows = [{"file_id": file_id, "replaced_by": new, "at": now, "who": who, "why": why} for file_id, new in replaced]
    if rows:
        session.execute(insert(WithdrawalRow), rows)


def lock(session: Session, *, deciding: bool) -> None:
    """Keep withdrawals from being decided until this transaction ends; SQLite has one writer at a time anyway.

    Parameters
    ----------
    session
        A writing one.
    deciding
        Whether it decides one itself; others that merely rely on what holds go on side by side.
    """
    if session.get_bind().dialect.name == "postgresql":
        mode = "SHARE ROW EXCLUSIVE" if deciding else "SHARE"
        session.execute(text(f"LOCK TABLE withdrawal IN {mode} MODE"))
