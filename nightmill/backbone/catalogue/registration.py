"""The one way into the catalogue: files with their copies, their metadata and where they come from, or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.file_warnings import add_warnings
from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.schema import Base, FileRow, ReplicaRow, StoreRow
from nightmill.backbone.sites import is_here
from nightmill.backbone.upsert import add_missing
from nightmill.errors import NameTaken, RequestRefused, UnknownName
from nightmill.model.dimensions import DIMENSIONS, DataId
from nightmill.model.file_type import compression_of
from nightmill.model.file_warning import FileWarning
from nightmill.model.footprint import Footprint
from nightmill.model.journal import MetadataValue
from nightmill.model.origin import Origin

_FILES: Final = Base.metadata.tables["file"]
_REPLICAS: Final = Base.metadata.tables["replica"]


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is to be registered.

    Parameters
    ----------
    original_name
        What it was called when it was brought (origins raw and manual).
    provenance
        What the person who brings it says about where it comes from (origin manual).
    store, path
        Where its bytes stand already; both None for a file that is known and not kept.
    footprints
        Which parts of the sky it covers.
    warnings
        What checks say of it that do not hold it back.
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
    version: int = 1
    """Above 1 for a file that is described anew: its name and its bytes are those of the version before."""
    footprints: tuple[Footprint, ...] = ()
    warnings: tuple[FileWarning, ...] = ()


def register(
    session: Session, files: Sequence[NewFile], *, who: str, now: datetime, attempt_ids: Sequence[int] | None = None
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
        Where this site has no such store.
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
            ids = [known[new.name].id for new in files]
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
            if any(new.footprints for new in files):
                from nightmill.backbone.catalogue.footprints import add_footprints  # numpy, for who has footprints

                add_footprints(session, ids, [new.footprints for new in files])
            add_warnings(session, ids, [new.warnings for new in files])
    except IntegrityError:
        _refuse_taken(session, files)
        _refuse_places(session, files, stores)
        raise
    return ids


def add_copy(session: Session, file_id: int, store: str, path: str, *, now: datetime) -> None:
    """Register a copy of a file that is known, unless this site's store has one.

    Raises
    ------
    UnknownName
        Where this site has no such store.
    """
    store_id = _known_stores(session, {store})[store]
    copy = {"file_id": file_id, "store_id": store_id, "path": path, "state": "present", "verified_at": now}
    add_missing(session, ReplicaRow, [copy], unique=("file_id", "store_id"))


def add_copies(session: Session, files: Sequence[NewFile], *, now: datetime) -> None:
    """Register where files stand that are known already, by their names.

    Raises
    ------
    RequestRefused
        Where another file is registered at the same place of a store.
    """
    if not files:
        return
    _refuse_places(session, files, _known_stores(session, {new.store for new in files if new.store is not None}))
    known = known_files(session, (new.name for new in files))
    for new in files:
        assert new.store is not None
        assert new.path is not None
        add_copy(session, known[new.name].id, new.store, new.path, now=now)


def _refuse_taken(session: Session, files: Sequence[NewFile]) -> None:
    known = known_files(session, (new.name for new in files))
    same: list[str] = []
    other: list[str] = []
    for new in files:
        found = known.get(new.name)
        if found is not None and found.version >= new.version:
            (same if found.sha256 == new.sha256 else other).append(new.name)
    other += [name for name, count in Counter(new.name for new in files).items() if count > 1]
    if same or other:
        raise NameTaken(same=same, other=other)


def _refuse_places(session: Session, files: Sequence[NewFile], stores: Mapping[str | None, int]) -> None:
    places = {(stores[new.store], new.path): new.name for new in files if new.store is not None}
    paths = (path for _, path in places if path is not None)
    query = select(ReplicaRow.store_id, ReplicaRow.path, FileRow.name).join(FileRow, ReplicaRow.file_id == FileRow.id)
    for store_id, path, holder in session.execute(query.where(among(ReplicaRow.path, paths))):
        if (store_id, path) in places:
            raise RequestRefused(
                f"{places[store_id, path]} cannot be registered at {path}: {holder} is registered there already",
                remedy="one place holds one file; give the new one a place of its own",
            )


def _known_stores(session: Session, names: set[str]) -> dict[str | None, int]:
    query = select(StoreRow.id, StoreRow.name).where(is_here(session))
    stores: dict[str | None, int] = {name: id_ for id_, name in session.execute(query)}
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
        "compression": compression_of(new.name),
        "version": new.version,
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
