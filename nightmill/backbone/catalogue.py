"""What files exist, what they are and where their copies are: the one way in, and the bulk ways to find them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Select, insert, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nightmill.backbone.expressions import Expression, to_sql
from nightmill.backbone.schema import AttemptRow, Base, CampaignRow, FileRow, JobRow, ReplicaRow, StoreRow
from nightmill.errors import NameTaken, RequestRefused, UnknownName
from nightmill.model.dimensions import DIMENSIONS, DataId
from nightmill.model.fate import Origin
from nightmill.model.journal import MetadataValue
from nightmill.model.store import Store

CHUNK: Final = 5_000
"""How many values one query asks for: far below the parameters that either database allows."""

_FILES: Final = Base.metadata.tables["file"]
_REPLICAS: Final = Base.metadata.tables["replica"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is to be registered.

    Parameters
    ----------
    store, path
        Where its bytes stand already; both None for a file that is known and not kept.
    provenance
        What the person who brings it says about where it comes from (origin manual).
    """

    name: str
    type: str
    origin: Origin
    size_bytes: int
    sha256: str
    data_id: DataId = field(default_factory=dict)
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    original_name: str | None = None
    provenance: str | None = None
    store: str | None = None
    path: str | None = None
    compression: str = ""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of the catalogue with one of its copies: what a plan needs to know of it."""

    id: int
    name: str
    type: str
    size_bytes: int
    sha256: str
    data_id: Mapping[str, str | int]
    begins_at: datetime | None
    ends_at: datetime | None
    attributes: Mapping[str, Any]
    store: str
    """Empty where no copy is present."""
    path: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue says of a name."""

    id: int
    type: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a file."""

    store: str
    path: str
    state: str
    verified_at: datetime


def register(
    session: Session,
    files: Sequence[NewFile],
    *,
    who: str,
    now: datetime,
    attempt_ids: Sequence[int] | None = None,
) -> list[int]:
    """Register files, each with its copy, in the transaction of the caller: all of them, or none.

    Parameters
    ----------
    who
        The user in whose name this happens.
    now
        When.
    attempt_ids
        For origin batch: the attempt that made each file.

    Returns
    -------
    list of int
        The catalogue's IDs, in the order of the files.

    Raises
    ------
    NameTaken
        Where a name stands in the catalogue already (all of them are listed, with whether the bytes are the same), or
        is given twice.
    UnknownName
        Where a store is not known.
    RequestRefused
        Where another file is registered at the same place of a store.
    """
    if not files:
        return []
    _refuse_taken(session, files)
    stores = _known_stores(session, {new.store for new in files if new.store is not None})
    makers: Iterable[int | None] = attempt_ids if attempt_ids is not None else [None] * len(files)
    rows = [_file_values(new, maker, who, now) for new, maker in zip(files, makers, strict=True)]
    try:
        with session.begin_nested():
            session.execute(insert(_FILES), rows)
            known = known_files(session, (new.name for new in files))
            ids = [known[new.name, new.compression].id for new in files]
            copies = [
                {
                    "file_id": id_,
                    "store_id": stores[new.store],
                    "path": new.path,
                    "state": "present",
                    "verified_at": now,
                }
                for id_, new in zip(ids, files, strict=True)
                if new.store is not None
            ]
            if copies:
                session.execute(insert(_REPLICAS), copies)
    except IntegrityError:
        _refuse_taken(session, files)
        _refuse_places(session, files, stores)
        raise
    return ids


def known_files(session: Session, names: Iterable[str]) -> dict[tuple[str, str], Known]:
    """Look up names in bulk.

    Returns
    -------
    dict
        Name and compression to what the catalogue says; only of those that are there.
    """
    query = select(FileRow.name, FileRow.compression, FileRow.id, FileRow.type, FileRow.sha256)
    return {
        (name, compression): Known(id_, type_, sha256)
        for chunk in _chunks(names)
        for name, compression, id_, type_, sha256 in session.execute(query.where(FileRow.name.in_(chunk)))
    }


def names_taken(session: Session, names: Iterable[str]) -> set[str]:
    """Return those of the names that stand in the catalogue, under whatever compression."""
    query = select(FileRow.name)
    return {name for chunk in _chunks(names) for name in session.scalars(query.where(FileRow.name.in_(chunk)))}


def files_named(session: Session, names: Iterable[str]) -> dict[str, FileRow]:
    """Return files by their names; of one that stands in several compressions, the first registered.

    Raises
    ------
    UnknownName
        Where the catalogue has no file of a name; with a guess.
    """
    wanted = list(dict.fromkeys(names))
    rows: dict[str, FileRow] = {}
    for chunk in _chunks(wanted):
        for row in session.scalars(select(FileRow).where(FileRow.name.in_(chunk)).order_by(FileRow.id)):
            rows.setdefault(row.name, row)
    for name in wanted:
        if name not in rows:
            near = select(FileRow.name).where(FileRow.name.startswith(name[:4], autoescape=True)).limit(CHUNK)
            raise UnknownName(
                "file", name, list(session.scalars(near)), remedy="see what there is with 'nightmill find'"
            )
    return {name: rows[name] for name in wanted}


def store_ids(session: Session, stores: Mapping[str, Store]) -> dict[str, int]:
    """Return the IDs of stores by their names; those that are not in the catalogue yet are inserted.

    A store that moved keeps its ID: its URL here follows the site's configuration.
    """
    wanted = {name: store for name, store in stores.items() if store.catalogued}
    rows = {row.name: row for row in session.scalars(select(StoreRow).where(StoreRow.name.in_(wanted)))}
    for name, store in wanted.items():
        if name not in rows:
            rows[name] = StoreRow(name=name, url=store.url, kind=store.kind)
            session.add(rows[name])
        rows[name].url, rows[name].kind = store.url, store.kind
    session.flush()
    return {name: row.id for name, row in rows.items()}


def find(
    session: Session,
    *,
    types: Sequence[str] = (),
    where: Expression | None = None,
    origins: Sequence[Origin] = (),
    limit: int | None = None,
    all: bool = False,
) -> Iterator[FileRow]:
    """Yield files in the order of their registration, streamed.

    Parameters
    ----------
    types, origins
        Any of them; none given means every one.
    all
        With the files that no plan would take: logs, and what superseded attempts made.
    """
    query = select(FileRow).order_by(FileRow.id).limit(limit).execution_options(yield_per=1000)
    if not all:
        query = query.outerjoin(AttemptRow, FileRow.attempt_id == AttemptRow.id).where(selectable())
    if types:
        query = query.where(FileRow.type.in_(types))
    if origins:
        query = query.where(FileRow.origin.in_(origins))
    if where is not None:
        query = query.where(to_sql(where))
    return iter(session.scalars(query))


def selectable() -> ColumnElement[bool]:
    """Say which files may be inputs: brought ones, and what the attempts made that are results.

    For a query that joins the attempt of the file, by an outer join.
    """
    return or_(FileRow.attempt_id.is_(None), AttemptRow.result)


def select_files(
    session: Session,
    *,
    type: str,
    where: Sequence[Expression] = (),
    origins: Sequence[Origin] = (Origin.RAW, Origin.MANUAL),
    campaigns: Sequence[str] = (),
    stage: str = "",
    watermark: int | None = None,
    stored: bool = True,
) -> list[FoundFile]:
    """Return the files that a plan may take, each with a copy that is present, by one query.

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

    Returns
    -------
    list of FoundFile
        In the order of their IDs; a file with several copies comes with the first of them.
    """
    query = found_columns(stored=stored).where(FileRow.type == type)
    if campaigns:
        query = (
            query.join(AttemptRow, FileRow.attempt_id == AttemptRow.id)
            .join(JobRow, AttemptRow.job_id == JobRow.id)
            .join(CampaignRow, JobRow.campaign_id == CampaignRow.id)
            .where(AttemptRow.result, CampaignRow.name.in_(campaigns))
        )
        if stage:
            query = query.where(JobRow.stage == stage)
    else:
        query = query.outerjoin(AttemptRow, FileRow.attempt_id == AttemptRow.id)
        query = query.where(selectable(), FileRow.origin.in_(origins))
    if watermark is not None:
        query = query.where(FileRow.id <= watermark)
    for expression in where:
        query = query.where(to_sql(expression))
    return found_files(session, query)


def found_columns(*, stored: bool = True) -> Select[Any]:
    """Select the columns of :class:`FoundFile`; add conditions and hand it to :func:`found_files`.

    Only files with a copy that is present, but for ``stored=False``.
    """
    present = (ReplicaRow.file_id == FileRow.id) & (ReplicaRow.state == "present")
    return (
        select(
            FileRow.id,
            FileRow.name,
            FileRow.type,
            FileRow.size_bytes,
            FileRow.sha256,
            FileRow.begins_at,
            FileRow.ends_at,
            FileRow.attributes,
            StoreRow.name,
            ReplicaRow.path,
            *(getattr(FileRow, name) for name in DIMENSIONS),
        )
        .join(ReplicaRow, present, isouter=not stored)
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id, isouter=not stored)
        .order_by(FileRow.id, ReplicaRow.id)
    )


def found_files(session: Session, query: Select[Any]) -> list[FoundFile]:
    """Carry out a query that began as :func:`found_columns`, with one copy a file."""
    found: dict[int, FoundFile] = {}
    for row in session.execute(query.execution_options(yield_per=CHUNK)):
        if row[0] not in found:
            found[row[0]] = found_file(row)
    return list(found.values())


def found_file(row: Sequence[Any]) -> FoundFile:
    """Make a file of the first columns of a row of :func:`found_columns`."""
    id_, name, type_, size_bytes, sha256, begins_at, ends_at, attributes, store, path, *dimensions = row
    values = zip(DIMENSIONS, dimensions, strict=False)
    data_id = {dimension: value for dimension, value in values if value is not None}
    return FoundFile(
        id_, name, type_, size_bytes, sha256, data_id, begins_at, ends_at, attributes, store or "", path or ""
    )


def data_id(row: FileRow) -> dict[str, str | int]:
    """Return the dimensions of a file that have a value."""
    values = ((name, getattr(row, name)) for name in DIMENSIONS)
    return {name: value for name, value in values if value is not None}


def replicas(session: Session, file_ids: Iterable[int]) -> dict[int, list[Replica]]:
    """Return the copies of files by the files' IDs; files without one are left out."""
    query = (
        select(ReplicaRow.file_id, StoreRow.name, ReplicaRow.path, ReplicaRow.state, ReplicaRow.verified_at)
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id)
        .order_by(ReplicaRow.id)
    )
    copies: dict[int, list[Replica]] = {}
    for chunk in _chunks(file_ids):
        for file_id, store, path, state, verified_at in session.execute(query.where(ReplicaRow.file_id.in_(chunk))):
            copies.setdefault(file_id, []).append(Replica(store, path, state, verified_at))
    return copies


def _refuse_taken(session: Session, files: Sequence[NewFile]) -> None:
    known = known_files(session, (new.name for new in files))
    same: list[str] = []
    other: list[str] = []
    for new in files:
        found = known.get((new.name, new.compression))
        if found is not None:
            (same if found.sha256 == new.sha256 else other).append(new.name)
    times = Counter((new.name, new.compression) for new in files)
    other += [name for (name, _), count in times.items() if count > 1]
    if same or other:
        raise NameTaken(same=same, other=other)


def _refuse_places(session: Session, files: Sequence[NewFile], stores: Mapping[str | None, int]) -> None:
    query = select(ReplicaRow.store_id, ReplicaRow.path, FileRow.name).join(FileRow, ReplicaRow.file_id == FileRow.id)
    places = {(stores[new.store], new.path): new.name for new in files if new.store is not None}
    for chunk in _chunks(path for _, path in places):
        for store_id, path, holder in session.execute(query.where(ReplicaRow.path.in_(chunk))):
            if (store_id, path) in places:
                raise RequestRefused(
                    f"{places[store_id, path]} cannot be registered at {path}: {holder} is registered there already",
                    remedy="one place holds one file; give the new one a place of its own",
                )


def _known_stores(session: Session, names: set[str]) -> dict[str | None, int]:
    stores: dict[str | None, int] = {name: id_ for id_, name in session.execute(select(StoreRow.id, StoreRow.name))}
    for name in sorted(names - set(stores)):
        raise UnknownName(
            "store in the catalogue",
            name,
            [known for known in stores if known],
            remedy="run 'nightmill init' in the site's folder after a change of its stores",
        )
    return stores


def _file_values(new: NewFile, attempt_id: int | None, who: str, now: datetime) -> dict[str, object]:
    strangers = set(new.data_id) - set(DIMENSIONS)
    if strangers:
        raise ValueError(f"{new.name}: no dimensions of a file: {', '.join(sorted(strangers))}")
    return {
        "name": new.name,
        "compression": new.compression,
        "type": new.type,
        "origin": new.origin.value,
        "size_bytes": new.size_bytes,
        "sha256": new.sha256,
        **{name: new.data_id.get(name) for name in DIMENSIONS},
        "begins_at": new.begins_at,
        "ends_at": new.ends_at,
        "metadata": dict(new.metadata),
        "original_name": new.original_name,
        "provenance": new.provenance,
        "attempt_id": attempt_id,
        "registered_at": now,
        "registered_by": who,
    }


def _chunks(values: Iterable[Item]) -> Iterator[list[Item]]:
    items = list(values)
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
