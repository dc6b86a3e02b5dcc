"""A data manager in the manner of Rucio, and its stager: ``rucio://SCOPE/folder/of/the/storage``.

Files have logical names, SCOPE:NAME. A catalogue says where the replica of each lies in the storage, under a name that
only it knows; so a name is given by a row, whatever lies there.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from nightmill.errors import StoreError
from nightmill.files.checksum import fingerprint
from nightmill.model.store import Store
from stagers.common import NewFile, collision, is_inside, missing, outside

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS replica (did TEXT PRIMARY KEY, pfn TEXT, bytes INTEGER);
CREATE TABLE IF NOT EXISTS upload (did TEXT, attempt TEXT, pfn TEXT, PRIMARY KEY (did, attempt));
"""


class RucioStager:
    """Moves bytes between the storage and local paths; what it promises is said by the port."""

    def __init__(self, store: Store) -> None:
        self.store = store
        parts = urlsplit(store.url)
        self._scope = parts.netloc
        self._storage = Path(unquote(parts.path))
        self._verified: dict[tuple[str, str], str] = {}

    def fetch(self, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet."""
        with self._replica(path, "read") as source, NewFile(target) as file:
            copied = 0
            while data := source.read(1 << 20):
                file.write(data)
                copied += len(data)
            return copied

    def upload(self, source: Path, path: str, *, attempt: str) -> None:
        """Bring a local file in, not yet visible."""
        did, pfn = self._did(path), uuid4().hex
        with source.open("rb") as file:
            if self.size(path) is not None:
                raise collision(path, self.store)
            with self._at(pfn).open("xb") as copy:
                copyfileobj(file, copy)
                copy.flush()
                os.fsync(copy.fileno())
        with self._catalogue() as catalogue:
            self._drop(catalogue, did, attempt)
            catalogue.execute("INSERT INTO upload VALUES (?, ?, ?)", (did, attempt, pfn))

    def reveal(self, path: str, *, attempt: str) -> None:
        """Give an uploaded file its name, by a row that there can be once."""
        did = self._did(path)
        with self._catalogue() as catalogue:
            pfn = self._uploaded(catalogue, did, attempt)
            if pfn is None:
                raise missing("publish", self._named(path))
            if self._verified.get((did, attempt), pfn) != pfn:
                raise StoreError(f"{path!r} was changed in store {self.store.name!r}", remedy="see who writes there")
            try:
                size = self._at(pfn).stat().st_size
                catalogue.execute("INSERT INTO replica VALUES (?, ?, ?)", (did, pfn, size))
            except sqlite3.IntegrityError as error:
                raise collision(path, self.store) from error
            catalogue.execute("DELETE FROM upload WHERE did = ? AND attempt = ?", (did, attempt))

    def settle(self, paths: Iterable[str]) -> None:
        """Return: what the catalogue has committed is durable."""
        for path in paths:
            self._did(path)

    def discard(self, path: str, *, attempt: str) -> None:
        """Remove an upload that was not revealed."""
        with self._catalogue() as catalogue:
            self._drop(catalogue, self._did(path), attempt)

    def uploaded(self, path: str, *, attempt: str) -> tuple[int, str] | None:
        """Return size in bytes and SHA-256 of an upload that was not revealed, or None."""
        did = self._did(path)
        with self._catalogue() as catalogue:
            pfn = self._uploaded(catalogue, did, attempt)
        if pfn is None:
            return None
        self._verified[did, attempt] = pfn
        return fingerprint(self._at(pfn))

    def size(self, path: str) -> int | None:
        """Return the size in bytes of a stored file, or None where there is none."""
        with self._catalogue() as catalogue:
            row = catalogue.execute("SELECT bytes FROM replica WHERE did = ?", (self._did(path),)).fetchone()
        return None if row is None else int(row[0])

    def sha256(self, path: str) -> str:
        """Read a stored file and return its SHA-256 as hexadecimal digits."""
        with self._replica(path, "read") as file:
            return fingerprint(path, file.fileno())[1]

    def remove(self, path: str) -> None:
        """Remove a stored file, if it is there."""
        with self._catalogue() as catalogue:
            rows = catalogue.execute("DELETE FROM replica WHERE did = ? RETURNING pfn", (self._did(path),)).fetchall()
        for (pfn,) in rows:
            self._at(pfn).unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of every stored file below a prefix."""
        below = f"{self._did(prefix)}/" if prefix else f"{self._scope}:"
        with self._catalogue() as catalogue:
            rows = catalogue.execute("SELECT did, bytes FROM replica ORDER BY did").fetchall()
        yield from ((did.removeprefix(f"{self._scope}:"), size) for did, size in rows if did.startswith(below))

    def uploads(self) -> Iterator[tuple[str, str]]:
        """Yield place and attempt of every upload that was not revealed."""
        with self._catalogue() as catalogue:
            yield from catalogue.execute("SELECT pfn, attempt FROM upload").fetchall()

    # ------------------------------------------------------------------------------------------ the catalogue

    @contextmanager
    def _catalogue(self) -> Iterator[sqlite3.Connection]:
        """Open the catalogue for one transaction, alone."""
        if not self._storage.is_dir():
            raise StoreError(f"the storage {self._storage} of store {self.store.name!r} does not exist")
        with closing(sqlite3.connect(self._storage / "catalogue.db", timeout=60)) as catalogue:
            catalogue.executescript(_TABLES)
            catalogue.isolation_level = None
            catalogue.execute("BEGIN IMMEDIATE")
            try:
                yield catalogue
            except BaseException:
                catalogue.execute("ROLLBACK")
                raise
            catalogue.execute("COMMIT")

    def _uploaded(self, catalogue: sqlite3.Connection, did: str, attempt: str) -> str | None:
        query = "SELECT pfn FROM upload WHERE did = ? AND attempt = ?"
        row = catalogue.execute(query, (did, attempt)).fetchone()
        return None if row is None else str(row[0])

    def _drop(self, catalogue: sqlite3.Connection, did: str, attempt: str) -> None:
        query = "DELETE FROM upload WHERE did = ? AND attempt = ? RETURNING pfn"
        for (pfn,) in catalogue.execute(query, (did, attempt)).fetchall():
            with suppress(FileNotFoundError):
                self._at(pfn).unlink()

    @contextmanager
    def _replica(self, path: str, doing: str) -> Iterator[BinaryIO]:
        with self._catalogue() as catalogue:
            row = catalogue.execute("SELECT pfn FROM replica WHERE did = ?", (self._did(path),)).fetchone()
        try:
            file = None if row is None else self._at(row[0]).open("rb")
        except FileNotFoundError:
            file = None
        if file is None:
            raise missing(doing, self._named(path))
        with file:
            yield file

    def _at(self, pfn: str) -> Path:
        return self._storage / pfn

    def _did(self, path: str) -> str:
        if not is_inside(path):
            raise outside(path, self.store)
        return f"{self._scope}:{path}"

    def _named(self, path: str) -> str:
        return f"{path!r} in store {self.store.name!r} (scope {self._scope})"
