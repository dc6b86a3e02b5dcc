"""What files exist, what they are and where their copies are: the one way in, and the bulk ways to find them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, case, false, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from nightmill.backbone.among import among
from nightmill.backbone.as_of import on_record
from nightmill.backbone.catalogue.withdrawals import withdrawn
from nightmill.backbone.schema import (
    AttemptRow,
    CampaignRow,
    FileRow,
    FileWarningRow,
    JobRow,
    PlannedInputRow,
    ReplicaRow,
    StoreRow,
    TakenRow,
)
from nightmill.backbone.sites import is_here, store_elsewhere
from nightmill.backbone.sql import key_value, to_sql
from nightmill.errors import RequestRefused, UnknownName
from nightmill.expressions import Expression
from nightmill.model.attachment import JUNK
from nightmill.model.bundle import FILE_TYPE
from nightmill.model.dimensions import DIMENSIONS, KeyType
from nightmill.model.found_file import FoundFile
from nightmill.model.origin import Origin

FETCH: Final = 5_000
"""How many rows are fetched at a time, where all of them would be too many."""
GUESSES: Final = 5_000
"""How many names are looked at for a guess."""
_STORE: Final = 8
"""Where the name of a store of this site stands in :func:`file_columns`."""
_BY_ID: Final = (FileRow.id, ReplicaRow.id)
"""The copies of a file come one after another."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue says of a name."""

    id: int
    type: str
    sha256: str
    version: int


def known_files(session: Session, names: Iterable[str]) -> dict[str, Known]:
    """Look up names in bulk; return what the catalogue says last of those that are there, withdrawn ones too."""
    columns = (FileRow.name, FileRow.id, FileRow.type, FileRow.sha256, FileRow.version)
    known: dict[str, Known] = {}
    for name, *found in session.execute(select(*columns).where(among(FileRow.name, names))):
        new = Known(*found)
        if name not in known or new.version > known[name].version:
            known[name] = new
    return known


def names_taken(session: Session, names: Iterable[str], *, as_of: datetime | None = None) -> set[str]:
    """Return those of the names that stand in the catalogue, or stood there at a time."""
    return set(
        session.scalars(select(FileRow.name).where(among(FileRow.name, names), on_record(FileRow.registered_at, as_of)))
    )


def names_like(session: Session, beginning: str, end: str, *, as_of: datetime | None = None) -> Iterator[str]:
    """Yield the names in the catalogue that begin and end so, streamed; some that differ in capitals among them."""
    alike = FileRow.name.startswith(beginning, autoescape=True) & FileRow.name.endswith(end, autoescape=True)
    query = select(FileRow.name).where(alike, on_record(FileRow.registered_at, as_of))
    return iter(session.scalars(query.execution_options(yield_per=FETCH)))


def files_named(session: Session, names: Iterable[str]) -> dict[str, FileRow]:
    """Return files by their names, as they were described last, withdrawn ones too.

    Raises
    ------
    UnknownName
        Where the catalogue has no file of a name; with a guess.
    """
    wanted = list(dict.fromkeys(names))
    query = select(FileRow).where(among(FileRow.name, wanted)).order_by(FileRow.version)
    rows = {row.name: row for row in session.scalars(query)}
    for name in wanted:
        if name not in rows:
            near = near_names(session, name)
            raise UnknownName("file", name, near, remedy="see what there is with 'nightmill find'")
    return {name: rows[name] for name in wanted}


def name_meant(session: Session, given: str) -> str | None:
    """Return the name of the file that somebody may mean: that of this name, else the one that came under it.

    Raises
    ------
    RequestRefused
        Where several files came under it.
    """
    if known_files(session, [given]):
        return given
    came = select(FileRow.name).where(FileRow.original_name == given).order_by(FileRow.id).limit(GUESSES)
    names = list(dict.fromkeys(session.scalars(came)))
    if len(names) > 1:
        raise RequestRefused(f"{len(names)} files came as {given!r}: {', '.join(names)}", remedy="name one of them")
    return names[0] if names else None


def near_names(session: Session, name: str) -> list[str]:
    """Return names of files that begin as a name does, for a guess at what it meant."""
    alike = (FileRow.version == 1) & FileRow.name.startswith(name[:4], autoescape=True)
    return list(session.scalars(select(FileRow.name).where(alike).order_by(FileRow.name).limit(GUESSES)))


def find(
    session: Session,
    *,
    types: Sequence[str] = (),
    where: Expression | None = None,
    origins: Sequence[Origin] = (),
    level: int | None = None,
    ids: Iterable[int] | None = None,
    warned: bool = False,
    limit: int | None = None,
    all: bool = False,
) -> Iterator[FileRow]:
    """Yield files in the order of their registration, streamed.

    Parameters
    ----------
    types, origins
        Any of them; none given means every one.
    level
        Only what jobs made for which the worst lookup of their inputs had this level.
    ids
        Of the only files that may be found.
    warned
        Only those of which a check warns.
    all
        With the files that no plan would take: logs and bundles, unless ``types`` has them, those that were withdrawn
        or retyped, and those of attempts that are not the result of their job.
    """
    query = select(FileRow).order_by(FileRow.id).limit(limit).execution_options(yield_per=1000)
    if not all:
        query = query.outerjoin(AttemptRow, FileRow.attempt_id == AttemptRow.id).where(selectable())
        if not types:
            query = query.where(FileRow.type.not_in(("log", JUNK, FILE_TYPE)))
    if types:
        query = query.where(FileRow.type.in_(types))
    if origins:
        query = query.where(FileRow.origin.in_(origins))
    if level is not None:
        worst = select(PlannedInputRow.attempt_id).group_by(PlannedInputRow.attempt_id)
        query = query.where(FileRow.attempt_id.in_(worst.having(func.max(PlannedInputRow.level) == level)))
    if where is not None:
        query = query.where(to_sql(where))
    if ids is not None:
        query = query.where(among(FileRow.id, ids))
    if warned:
        query = query.where(FileRow.id.in_(select(FileWarningRow.file_id)))
    return iter(session.scalars(query))


def selectable(as_of: datetime | None = None) -> ColumnElement[bool]:
    """Say which files may be inputs: brought ones that were not withdrawn, and what the attempts made that are results.

    For a query that joins the attempt of the file, by an outer join. An attempt is a result from when its files are
    registered, until it is replaced, or never: which may be inputs is therefore known of any time.

    Parameters
    ----------
    as_of
        Those that might have been at a time; by default now.
    """
    return (
        or_(FileRow.attempt_id.is_(None), counts(as_of)) & ~withdrawn(as_of) & on_record(FileRow.registered_at, as_of)
    )


def counts(as_of: datetime | None = None) -> ColumnElement[bool]:
    """Say of a file and its attempt that the file is one of its job's result, which may have taken it from there."""
    result = aliased(AttemptRow)
    is_taken = (
        select(TakenRow.file_id)
        .join(result, result.id == TakenRow.attempt_id)
        .where(_is_result(result, as_of), true() if as_of is None else result.ended_at <= as_of)
    )
    return or_(_is_result(AttemptRow, as_of), FileRow.id.in_(is_taken))


def _is_result(attempt: type[AttemptRow], as_of: datetime | None) -> ColumnElement[bool]:
    """Say of an attempt that it is the result of its job, or was at a time."""
    return or_(attempt.result, false() if as_of is None else attempt.replaced_at > as_of)


def selected(
    session: Session,
    *,
    type: str,
    where: Sequence[Expression] = (),
    origins: Sequence[Origin] = (Origin.RAW, Origin.MANUAL),
    campaigns: Sequence[str] = (),
    stage: str = "",
    watermark: int | None = None,
    stored: bool = True,
    order: Mapping[str, KeyType] | None = None,
    as_of: datetime | None = None,
) -> Select[Any]:
    """Select the files that a plan may take, each with a copy that is present, for :func:`found_files`.

    Parameters
    ----------
    type
        Their file type.
    where
        Expressions that they must all fulfil.
    origins
        Where they came from; of no effect where ``campaigns`` are named.
    campaigns
        The results of these campaigns instead.
    stage
        Only what this stage of the campaigns made.
    watermark
        The highest file ID that may be seen.
    stored
        False to get those without a copy too.
    order
        Keys, with their types, by whose values they come, as Python orders these; those that have none, first. Files
        of the same values come in the order of their IDs.
    as_of
        Those that a plan might have taken at a time; by default now.
    """
    query = found_columns(session, stored=stored).where(FileRow.type == type)
    if campaigns:
        query = (
            query.join(AttemptRow, FileRow.attempt_id == AttemptRow.id)
            .join(JobRow, AttemptRow.job_id == JobRow.id)
            .join(CampaignRow, JobRow.campaign_id == CampaignRow.id)
            .where(counts(as_of), CampaignRow.name.in_(campaigns))
            .where(on_record(FileRow.registered_at, as_of))
        )
        if stage:
            query = query.where(JobRow.stage == stage)
    else:
        query = query.outerjoin(AttemptRow, FileRow.attempt_id == AttemptRow.id)
        query = query.where(selectable(as_of), FileRow.origin.in_(origins))
    if watermark is not None:
        query = query.where(FileRow.id <= watermark)
    for expression in where:
        query = query.where(to_sql(expression))
    if order:
        query = query.order_by(None).order_by(*_ascending(session, order), *_BY_ID)
    return query


def _ascending(session: Session, keys: Mapping[str, KeyType]) -> Iterator[ColumnElement[Any]]:
    """Yield what orders files by the values of keys as Python does, whatever the language of the database."""
    code_points = "C" if session.get_bind().dialect.name == "postgresql" else "BINARY"
    for name, kind in keys.items():
        column = key_value(name, kind)
        yield (column.collate(code_points) if kind in ("str", "time") else column).asc().nulls_first()


def file_columns(session: Session) -> tuple[Any, ...]:
    """Return what :func:`found_file` wants to know, of a file, a copy and its store."""
    here = is_here(session)
    return (
        FileRow.id,
        FileRow.name,
        FileRow.type,
        FileRow.size_bytes,
        FileRow.sha256,
        FileRow.begins_at,
        FileRow.ends_at,
        FileRow.attributes,
        case((here, StoreRow.name)),
        case((here, ReplicaRow.path)),
        case((~here, store_elsewhere())),
        *(getattr(FileRow, name) for name in DIMENSIONS),
    )


def found_columns(session: Session, *, stored: bool = True) -> Select[Any]:
    """Select the columns of :class:`FoundFile`; add conditions and hand it to :func:`found_files`.

    Only files with a copy that is present, at whichever site, but for ``stored=False``.
    """
    present = (ReplicaRow.file_id == FileRow.id) & (ReplicaRow.state == "present")
    return (
        select(*file_columns(session))
        .select_from(FileRow)
        .join(ReplicaRow, present, isouter=not stored)
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id, isouter=not stored)
        .order_by(*_BY_ID)
    )


def found_files(session: Session, query: Select[Any]) -> Iterator[FoundFile]:
    """Carry out a query that began as :func:`found_columns`; yield one copy a file, of this site if it has any."""
    return map(found_file, found_rows(session, query))


def found_rows(session: Session, query: Select[Any]) -> Iterator[Row[Any]]:
    """Yield what :func:`found_file` makes a file of, for a query that may have further columns at its end."""
    last = None
    for row in session.execute(query.execution_options(yield_per=FETCH)):
        if last is not None and row[0] == last[0]:
            if last[_STORE] is None and row[_STORE] is not None:
                last = row
            continue
        if last is not None:
            yield last
        last = row
    if last is not None:
        yield last


def found_file(row: Sequence[Any]) -> FoundFile:
    """Make a file of the first columns of a row of :func:`found_columns`."""
    id_, name, type_, size_bytes, sha256, begins_at, ends_at, metadata, store, path, elsewhere, *dimensions = row
    values = zip(DIMENSIONS, dimensions, strict=False)
    data_id = {dimension: value for dimension, value in values if value is not None}
    return FoundFile(
        id_, name, type_, size_bytes, sha256, data_id, begins_at, ends_at, metadata, store or "", path or "",
        elsewhere=elsewhere or "",
    )  # fmt: skip


def data_id(row: FileRow) -> dict[str, str | int]:
    """Return the dimensions of a file that have a value."""
    values = ((name, getattr(row, name)) for name in DIMENSIONS)
    return {name: value for name, value in values if value is not None}
