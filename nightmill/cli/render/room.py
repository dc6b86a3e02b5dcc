"""Whether there is room, and whether it can be written to: by writing, and by what the file system says."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.cli.documents.sites import Finding
from nightmill.errors import NightmillError

if TYPE_CHECKING:
    from nightmill.backbone.database import Database
    from nightmill.model.store import Store
    from nightmill.operations.site import Site

LEAST_BYTES: Final = 2**30
LEAST_INODES: Final = 10_000
"""Less than that is not well; of a small file system, less than a twentieth of it."""
SHARE: Final = 20
BLOCK_BYTES: Final = 64 * 1024
"""What is written: more than a file system may keep beside the name of a file."""


def room(site: Site) -> Iterator[Finding]:
    """Write to each folder of a site, and to the disk of its database, and say how much more there is room for.

    A store that is not a folder is asked whether it answers; nobody knows what room it has.
    """
    folders = _folders(site)
    for name, folder in folders.items():
        yield _folder(name, folder)
    for name, store in site.config.stores.items():
        if f"store {name}" not in folders:
            yield _answers(site, store, "'nightmill doctor --flight' writes to it")


def writable(database: Database, shown: str) -> Finding:
    """Write to a database of the right schema, and undo it."""
    from sqlalchemy import text

    try:
        with database.writing() as session:
            session.execute(text("UPDATE alembic_version SET version_num = version_num"))
            session.rollback()
    except NightmillError as error:
        return Finding("database", False, str(error))
    return Finding("database", True, shown)


def _folders(site: Site) -> Mapping[str, Path]:
    from nightmill.operations.site import folder_of

    folders = {"scratch": site.config.scratch, "spool": site.config.spool}
    if site.database.is_sqlite:
        folders["database disk"] = Path(site.database.engine.url.database or "").absolute().parent
    for name, store in site.config.stores.items():
        if (folder := folder_of(store)) is not None:
            folders[f"store {name}"] = folder
    return folders


def partners(site: Site) -> Iterator[Finding]:
    """Say whether the catalogue knows the partners of a site, and their stores can be read."""
    from sqlalchemy import select

    from nightmill.backbone.sites import store_elsewhere
    from nightmill.operations.site import read

    if not site.config.partners:
        return
    known = set(read(site, lambda session: session.scalars(select(store_elsewhere())).all()))
    for name, store in site.config.far_stores.items():
        if name in known:
            yield _answers(site, store, "it is read, and never written")
        else:
            yield Finding(f"store {name}", False, "the catalogue has no such site and store: see 'partners'")


def _answers(site: Site, store: Store, then: str) -> Finding:
    from nightmill.execution.stores import open_stager
    from nightmill.model.secrets import masked

    try:
        open_stager(store, site.config.secrets).size("doctor")
    except NightmillError as error:
        return Finding(f"store {store.name}", False, str(error))
    return Finding(f"store {store.name}", True, f"{masked(store.url)} answers; {then}")


def _folder(name: str, folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".doctor.", buffering=0) as file:
            left = memoryview(os.urandom(BLOCK_BYTES))  # which no file system can make small
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        told = os.statvfs(folder)
    except OSError as error:
        return Finding(name, False, f"{folder} cannot be written: {error.strerror}")
    well, seen = _left(told)
    state = "can be written" if well else "has too little room, make some"
    return Finding(name, well, f"{folder} {state}: {seen}")


def nearly_full(site: Site) -> Iterator[str]:
    """Say whether scratch or spool have too little room, by what their file systems say.

    Nothing is written, and no store is touched: one on a mount that hangs is the doctor's to tell.
    """
    for name, folder in (("scratch", site.config.scratch), ("spool", site.config.spool)):
        with suppress(OSError):
            well, seen = _left(os.statvfs(folder))
            if not well:
                yield f"{name}: {folder} has too little room, make some: {seen}"


def _left(told: os.statvfs_result) -> tuple[bool, str]:
    """Return whether a file system has as much room as should be, and in words how much it has."""
    free, size = told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize
    wanted, inodes = min(LEAST_BYTES, size // SHARE), min(LEAST_INODES, told.f_files // SHARE)
    seen = f"{free / 2**30:.2f} of {size / 2**30:.2f} GiB free (wanted: {wanted / 2**30:.2f})"
    if told.f_files:  # some file systems make inodes as they need them
        seen += f", {told.f_favail} of {told.f_files} inodes (wanted: {inodes})"
    return free >= wanted and told.f_favail >= inodes, seen
