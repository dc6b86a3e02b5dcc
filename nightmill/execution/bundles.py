"""Bundles on a host: fetched once, and unpacked for each worker, so that no step can reach what another job's sees.

``CACHE/bundles`` has the archives, each under its digest. ``CACHE/trees`` has a folder for each worker that lives; what
one of a dead worker holds is removed by the next.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import IO, Final

from nightmill.errors import BadFile, JobFailed, StoredFileMissing, StoreError
from nightmill.execution.faults import scratch_failed
from nightmill.execution.removal import remove
from nightmill.execution.sealed import SealedTree
from nightmill.files.archive import unpack
from nightmill.files.checksum import fingerprint
from nightmill.model.bundle import bundle_name
from nightmill.model.fate import Fate
from nightmill.model.layout import BUNDLE, seen
from nightmill.model.order import OrderBundle

ARCHIVES_KEPT: Final = 32
BYTES_KEPT: Final = 1 << 30
"""Of more archives, or of more bytes, those that were not used for the longest time are removed."""
Fetch = Callable[[str, Path], int]
"""Copies a file of the bundle's store to a local path that does not exist yet."""


class BundleCache:
    """The bundles that the jobs of one worker see; safe for use by several threads.

    Parameters
    ----------
    folder
        The cache of the host; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.archives = folder / "bundles"
        self.trees = folder / "trees"
        self._changing = Lock()
        self._numbers = count()
        self._idle: dict[str, list[SealedTree]] = {}
        self._own: tuple[Path, int] | None = None
        """A folder of this worker's own, and the descriptor of the lock that says that it lives."""

    @contextmanager
    def taken(self, bundle: OrderBundle, fetch: Fetch) -> Iterator[SealedTree]:
        """Give the files of a bundle, whole, to one job; nobody else uses them meanwhile.

        Raises
        ------
        JobFailed
            Where its archive is not there or is not what its digest says, or the cache cannot be used.
        """
        tree = self._take(bundle, fetch)
        try:
            yield tree
        finally:
            with self._changing:
                self._idle.setdefault(bundle.digest, []).append(tree)

    def _take(self, bundle: OrderBundle, fetch: Fetch) -> SealedTree:
        try:
            with self._changing:
                idle = self._idle.get(bundle.digest, [])
                while idle:
                    tree = idle.pop()
                    if not tree.broken():
                        return tree
                    remove(tree.path)
                return self._unpacked(bundle, fetch)
        except OSError as error:
            raise scratch_failed(error, place="cache") from error

    def _unpacked(self, bundle: OrderBundle, fetch: Fetch) -> SealedTree:
        target = self._place() / str(next(self._numbers))
        try:
            with self._archive(bundle, fetch) as archive:
                return SealedTree(target, unpack(archive, target), seen(BUNDLE))
        except BadFile as error:
            remove(target)
            raise _corrupt(bundle, error.message) from error

    def _archive(self, bundle: OrderBundle, fetch: Fetch) -> IO[bytes]:
        """Open the archive that its digest names, from the cache or, where that has none, from its store."""
        self.archives.mkdir(parents=True, exist_ok=True)
        path = self.archives / f"{bundle.digest}.tar"
        with suppress(FileNotFoundError):
            kept = path.open("rb")
            if fingerprint(path, kept.fileno()) == (bundle.size_bytes, bundle.digest):
                with suppress(OSError):
                    os.utime(path)
                return kept
            kept.close()
            path.unlink()
        part = self._place() / f"{next(self._numbers)}.part"
        try:
            fetch(bundle.path, part)
        except StoredFileMissing as error:
            raise JobFailed(f"bundle {bundle_name(bundle.digest)} is gone: {error}", fate=Fate.INPUT_MISSING) from error
        except StoreError as error:
            raise JobFailed(
                f"bundle {bundle_name(bundle.digest)} cannot be staged: {error}", fate=Fate.STORE_ERROR
            ) from error
        fetched = part.open("rb")
        if (found := fingerprint(part, fetched.fileno())) != (bundle.size_bytes, bundle.digest):
            fetched.close()
            part.unlink()
            raise _corrupt(bundle, f"it has {found[0]} bytes and checksum {found[1]}")
        part.chmod(0o444)  # for the others of the site's group, too; the cache itself is closed to strangers
        part.replace(path)
        self._make_room(path)
        return fetched

    def _make_room(self, newest: Path) -> None:
        """Remove archives that were not used for long; who has one open goes on reading it."""
        facts = {}
        for path in self.archives.glob("*.tar"):
            with suppress(FileNotFoundError):
                facts[path] = path.stat()
        kept = size_bytes = 0
        for path in sorted(facts, key=lambda each: (each == newest, facts[each].st_mtime_ns), reverse=True):
            kept, size_bytes = kept + 1, size_bytes + facts[path].st_size
            if path != newest and (kept > ARCHIVES_KEPT or size_bytes > BYTES_KEPT):
                path.unlink(missing_ok=True)

    def _place(self) -> Path:
        """Return the folder of this worker; make it, and remove those of the dead, where it has none yet."""
        if self._own is None:
            self.trees.mkdir(parents=True, exist_ok=True)
            self._clean()
            while self._own is None:
                place = self.trees / token_hex(8)
                lock = os.open(place.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.fstat(lock).st_nlink:  # or another took it for one of the dead, before it was locked
                    self._own = place, lock
                    place.mkdir(mode=0o700)
                else:
                    os.close(lock)
        return self._own[0]

    def _clean(self) -> None:
        for path in self.trees.glob("*.lock"):
            with suppress(OSError):  # gone, another user's, or of a worker that lives
                lock = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(path.with_suffix(""))
                    path.unlink()
                finally:
                    os.close(lock)

    def close(self) -> None:
        """Remove what was unpacked; the archives stay."""
        with self._changing:
            self._idle.clear()
            if self._own is not None:
                (place, lock), self._own = self._own, None
                remove(place)
                with suppress(OSError):
                    place.with_suffix(".lock").unlink()
                os.close(lock)


def _corrupt(bundle: OrderBundle, why: str) -> JobFailed:
    return JobFailed(
        f"bundle {bundle_name(bundle.digest)} in store {bundle.store!r} is not what was submitted: {why}",
        fate=Fate.INPUT_CORRUPT,
        remedy=f"bring back a good copy of {bundle.path}",
    )
