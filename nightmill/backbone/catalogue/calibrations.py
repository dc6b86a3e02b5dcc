"""Files in the role of calibrations: in a named set, valid for a range of time, trusted to a degree.

The role is apart from the file's own times and is never changed: each act appends a row, and the latest row of a file
in a set is what holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Self

from sqlalchemy import Select, func, insert, select
from sqlalchemy.orm import Session

from nightmill.backbone.as_of import on_record
from nightmill.backbone.catalogue.files import files_named, found_columns, found_file, selectable
from nightmill.backbone.catalogue.withdrawals import withdrawals, withdrawn
from nightmill.backbone.schema import AttemptRow, CalibrationRow, ContextRoleRow, ContextRow, FileRow
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.calibration import Maturity
from nightmill.model.file_type import FileType
from nightmill.model.found_file import FoundFile


@dataclass(frozen=True, slots=True)
class Role:
    """A role that a file is to be given."""

    set_name: str
    valid_from: datetime
    valid_until: datetime
    maturity: Maturity

    @classmethod
    def of_type(cls, file_type: FileType, begins_at: datetime | None, ends_at: datetime | None) -> Self | None:
        """Return the role that a file type gives a file that is brought; None where it gives none."""
        declared = file_type.calibration
        if declared is None or begins_at is None:
            return None
        valid_from, valid_until = declared.validity(begins_at, begins_at if ends_at is None else ends_at)
        return cls(declared.set, valid_from, valid_until, Maturity(declared.maturity))


@dataclass(frozen=True, slots=True)
class CalibrationFile:
    """A file with the role that it holds in a set."""

    id: int
    file: FoundFile
    set_name: str
    valid_from: datetime
    valid_until: datetime
    maturity: Maturity
    at: datetime
    who: str
    why: str


def add(
    session: Session,
    file_names: Sequence[str],
    set_name: str,
    *,
    valid_from: datetime,
    valid_until: datetime,
    maturity: Maturity = Maturity.DRAFT,
    who: str,
    why: str,
    now: datetime,
) -> None:
    """Make files calibrations of a set; those that are in it already get the new range and maturity.

    Raises
    ------
    RequestRefused
        Where the range ends before it begins.
        Or where a file was withdrawn.
    UnknownName
        Where the catalogue has no such file.
    """
    if valid_until < valid_from:
        raise RequestRefused(
            f"the validity range ends at {valid_until.isoformat()}, before it begins at {valid_from.isoformat()}",
            remedy="give the earlier time first",
        )
    ids = {file.id: name for name, file in files_named(session, file_names).items()}
    for id_, told in withdrawals(session, ids).items():
        raise RequestRefused(
            f"{ids[id_]} {told[-1]}", remedy="add another file, or take it back with 'nightmill retype'"
        )
    role = Role(set_name, valid_from, valid_until, maturity)
    give(session, dict.fromkeys(ids, role), who=who, why=why, now=now)


def certify(
    session: Session, file_names: Sequence[str], set_name: str, *, who: str, why: str, now: datetime
) -> list[str]:
    """Say that calibrations of a set can be trusted.

    Returns
    -------
    list of str
        The files whose maturity changed; those that were certified already are left as they are.

    Raises
    ------
    UnknownName
        Where a file is not in the set.
    """
    return _change(session, file_names, set_name, Maturity.CERTIFIED, who, why, now)


def withdraw(
    session: Session, file_names: Sequence[str], set_name: str, *, who: str, why: str, now: datetime
) -> list[str]:
    """Take calibrations out of use; what was made with them keeps them in its provenance.

    Returns
    -------
    list of str
        The files whose maturity changed.

    Raises
    ------
    UnknownName
        Where a file is not in the set.
    """
    return _change(session, file_names, set_name, Maturity.WITHDRAWN, who, why, now)


def current(
    session: Session, set_names: Sequence[str] = (), type: str = "", *, context: str = "", as_of: datetime | None = None
) -> list[CalibrationFile]:
    """Return the roles that hold now, or that a context pins, by one query; withdrawn ones too.

    Only files that a plan may take: with a copy that is present, and not of superseded attempts.

    Parameters
    ----------
    set_names
        The sets; none given means every one.
    type
        The file type; empty for every one.
    context
        Name of the context; empty for what holds now.
    as_of
        What held at a time instead, by the clocks of those who put it on record. Where copies were then is not known:
        a file without one is among them.

    Raises
    ------
    UnknownName
        Where there is no such context, or was none then.
    """
    held_ids = _pinned(session, context, set_names, as_of) if context else _latest(set_names, as_of)
    query = (
        found_columns(session, stored=as_of is None)
        .add_columns(
            CalibrationRow.id,
            CalibrationRow.set_name,
            CalibrationRow.valid_from,
            CalibrationRow.valid_until,
            CalibrationRow.maturity,
            CalibrationRow.at,
            CalibrationRow.who,
            CalibrationRow.why,
        )
        .join(CalibrationRow, CalibrationRow.file_id == FileRow.id)
        .outerjoin(AttemptRow, FileRow.attempt_id == AttemptRow.id)
        .where(selectable(as_of), CalibrationRow.id.in_(held_ids))
    )
    if type:
        query = query.where(FileRow.type == type)
    held: dict[int, CalibrationFile] = {}
    for row in session.execute(query):
        id_, set_name, valid_from, valid_until, maturity, at, who, why = row[-8:]
        if id_ not in held or not held[id_].file.store:  # the first copy of this site, if it has any
            held[id_] = CalibrationFile(
                id_, found_file(row[:-8]), set_name, valid_from, valid_until, Maturity(maturity), at, who, why
            )
    return [held[id_] for id_ in sorted(held)]


def history(session: Session, file_id: int) -> list[CalibrationRow]:
    """Return every role that a file was ever given, the first one first."""
    return list(
        session.scalars(select(CalibrationRow).where(CalibrationRow.file_id == file_id).order_by(CalibrationRow.id))
    )


def pin(
    session: Session, name: str, set_names: Sequence[str], *, who: str, why: str, now: datetime
) -> tuple[ContextRow, int]:
    """Pin the roles that hold now in sets under a name: drafts and withdrawn ones are left out.

    Returns
    -------
    tuple
        The context, and how many roles it pins.

    Raises
    ------
    RequestRefused
        Where the name is taken, by other roles; the same ones again change nothing.
    UnknownName
        Where there is no such set.
    """
    require_sets(session, set_names)
    query = select(CalibrationRow, FileRow.name, FileRow.sha256).join(FileRow, FileRow.id == CalibrationRow.file_id)
    is_certified = CalibrationRow.maturity == Maturity.CERTIFIED
    holds = (CalibrationRow.id.in_(_latest(set_names)), is_certified, ~withdrawn())
    roles = session.execute(query.where(*holds).order_by(CalibrationRow.set_name, FileRow.name)).all()
    digest = sha256()
    for role, file, of_file in roles:
        span = f"{role.valid_from.isoformat()} {role.valid_until.isoformat()}"
        digest.update(f"{role.set_name} {file} {of_file} {span}\n".encode())
    there = session.scalar(select(ContextRow).where(ContextRow.name == name))
    if there is not None:
        if there.sha256 != digest.hexdigest():
            raise RequestRefused(
                f"context {name!r} pins other roles: it was made on {there.at:%Y-%m-%d %H:%M} UTC by {there.who}",
                remedy="give the new one a name of its own; a context never changes",
            )
        return there, len(roles)
    row = ContextRow(name=name, sha256=digest.hexdigest(), at=now, who=who, why=why)
    session.add(row)
    session.flush()
    pinned = [{"context_id": row.id, "calibration_id": role.id} for role, _, _ in roles]
    if pinned:
        session.execute(insert(ContextRoleRow), pinned)
    return row, len(roles)


def require_sets(session: Session, names: Iterable[str], *, as_of: datetime | None = None) -> None:
    """Make sure that there are sets of these names, or were at a time.

    Raises
    ------
    UnknownName
        Where there is none of a name; with a guess.
    """
    known = list(session.scalars(select(CalibrationRow.set_name).where(on_record(CalibrationRow.at, as_of)).distinct()))
    for name in names:
        if name not in known:
            raise UnknownName("calibration set", name, known, remedy="see 'nightmill calib list' for the sets")


def context_named(session: Session, name: str, *, as_of: datetime | None = None) -> ContextRow:
    """Return a context by its name.

    Raises
    ------
    UnknownName
        Where there is none, or was none at a time.
    """
    row = session.scalar(select(ContextRow).where(ContextRow.name == name, on_record(ContextRow.at, as_of)))
    if row is None:
        known = list(session.scalars(select(ContextRow.name).where(on_record(ContextRow.at, as_of))))
        raise UnknownName("context", name, known, remedy="see 'nightmill calib contexts', or pin one")
    return row


def contexts(session: Session) -> list[tuple[ContextRow, int]]:
    """Return every context with the number of its roles, the first one first."""
    query = select(ContextRow, func.count(ContextRoleRow.calibration_id)).outerjoin(
        ContextRoleRow, ContextRoleRow.context_id == ContextRow.id
    )
    return [(row, count) for row, count in session.execute(query.group_by(ContextRow.id).order_by(ContextRow.id))]


def _pinned(session: Session, context: str, set_names: Sequence[str], as_of: datetime | None) -> Select[Any]:
    row = context_named(session, context, as_of=as_of)
    query = select(ContextRoleRow.calibration_id).where(ContextRoleRow.context_id == row.id)
    if not set_names:
        return query
    roles = query.join(CalibrationRow, CalibrationRow.id == ContextRoleRow.calibration_id)
    return roles.where(CalibrationRow.set_name.in_(set_names))


def _latest(set_names: Sequence[str], as_of: datetime | None = None) -> Select[Any]:
    query = select(func.max(CalibrationRow.id)).where(on_record(CalibrationRow.at, as_of))
    query = query.group_by(CalibrationRow.file_id, CalibrationRow.set_name)
    return query.where(CalibrationRow.set_name.in_(set_names)) if set_names else query


def _change(
    session: Session, file_names: Sequence[str], set_name: str, maturity: Maturity, who: str, why: str, now: datetime
) -> list[str]:
    held = {
        name: role
        for name, role in session.execute(
            select(FileRow.name, CalibrationRow)
            .join(FileRow, CalibrationRow.file_id == FileRow.id)
            .where(CalibrationRow.id.in_(_latest([set_name])), ~withdrawn())
        )
    }
    for name in file_names:
        if name not in held:
            raise UnknownName(
                f"calibration in set {set_name!r}", name, list(held), remedy="add it first with 'nightmill calib add'"
            )
    changed = [name for name in dict.fromkeys(file_names) if held[name].maturity != maturity]
    roles = {
        held[name].file_id: Role(set_name, held[name].valid_from, held[name].valid_until, maturity) for name in changed
    }
    give(session, roles, who=who, why=why, now=now)
    return changed


def give(session: Session, roles: Mapping[int, Role], *, who: str, why: str, now: datetime) -> None:
    """Give files roles, by the files' IDs."""
    rows = [
        {
            "file_id": file_id,
            "set_name": role.set_name,
            "valid_from": role.valid_from,
            "valid_until": role.valid_until,
            "maturity": role.maturity.value,
            "at": now,
            "who": who,
            "why": why,
        }
        for file_id, role in roles.items()
    ]
    if rows:
        session.execute(insert(CalibrationRow), rows)
