"""A store that is a folder: on a local disk, or on one that many machines share."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nightmill.errors import NameCollision, StoredFileMissing, StoreError, StoreFull
from nightmill.model.store import Store

_FICLONE = 0x40049409
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_REFLINK = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.ETXTBSY)


class LocalStager:
    """Moves bytes between a folder and local paths; see :class:`nightmill.model.ports.Stager` for what it promises.

    Copies are reflinks where the file system has them. A file appears under its name by an exclusive hard link from its
    temporary name beside it, so nobody ever sees half of one.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        parts = urlsplit(store.url)
        self.root = Path(unquote(parts.path) if parts.scheme else store.url)

    def fetch(self, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet."""
        with self._named("read", path), self._path(path).open("rb") as source:
            return _copy(source.fileno(), target)

    def upload(self, source: Path, path: str, *, attempt: str) -> None:
        """Bring a local file in under a temporary name, durable, not yet visible."""
        temporary = self._temporary(path, attempt)
        with self._named("write", path):
            temporary.unlink(missing_ok=True)
            try:
                with source.open("rb") as file:
                    _copy(file.fileno(), temporary, durable=True)
            except FileNotFoundError:
                temporary.parent.mkdir(parents=True, exist_ok=True)
                with source.open("rb") as file:
                    _copy(file.fileno(), temporary, durable=True)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    def reveal(self, path: str, *, attempt: str) -> None:
        """Give an uploaded file its name: exclusive and atomic."""
        temporary = self._temporary(path, attempt)
        with self._named("publish", path):
            try:
                os.link(temporary, self._path(path))
            except FileExistsError:
                raise NameCollision(
                    f"store {self.store.name!r} already holds {path!r}; it was not overwritten",
                    remedy="see what it is with 'nightmill show', and change the file type's template",
                ) from None
            temporary.unlink()

    def settle(self, paths: Iterable[str]) -> None:
        """Make the names of revealed files durable."""
        for folder in {self._path(path).parent for path in paths}:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def discard(self, path: str, *, attempt: str) -> None:
        """Remove an upload that was not revealed."""
        with self._named("clean up", path):
            self._temporary(path, attempt).unlink(missing_ok=True)

    def uploaded(self, path: str, *, attempt: str) -> tuple[int, str] | None:
        """Return size in bytes and SHA-256 of an upload that was not revealed, or None."""
        try:
            with self._named("read", path), self._temporary(path, attempt).open("rb") as file:
                return os.fstat(file.fileno()).st_size, file_digest(file, "sha256").hexdigest()
        except StoredFileMissing:
            return None

    def size(self, path: str) -> int | None:
        """Return the size in bytes of a stored file, or None where there is none."""
        try:
            with self._named("look at", path):
                return self._path(path).stat().st_size
        except StoredFileMissing:
            return None

    def sha256(self, path: str) -> str:
        """Read a stored file and return its SHA-256 as hexadecimal digits."""
        with self._named("read", path), self._path(path).open("rb") as file:
            return file_digest(file, "sha256").hexdigest()

    def remove(self, path: str) -> None:
        """Remove a stored file; none there is no error."""
        with self._named("remove", path):
            self._path(path).unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of every stored file below a prefix."""
        for folder, folders, names in os.walk(self._path(prefix) if prefix else self.root):
            folders.sort()
            for name in sorted(names):
                if not (name.startswith(".") and name.endswith(".part")):
                    file = Path(folder, name)
                    with suppress(FileNotFoundError):
                        yield file.relative_to(self.root).as_posix(), file.stat().st_size

    def _path(self, path: str) -> Path:
        if path.startswith("/") or ".." in path.split("/") or not path:
            raise StoreError(f"{path!r} is no path inside of store {self.store.name!r}")
        return self.root / path

    def _temporary(self, path: str, attempt: str) -> Path:
        full = self._path(path)
        return full.with_name(f".{full.name}.{attempt}.part")

    @contextmanager
    def _named(self, doing: str, path: str) -> Iterator[None]:
        where = f"{path!r} in store {self.store.name!r} ({self.root})"
        try:
            yield
        except FileNotFoundError as error:
            raise StoredFileMissing(
                f"cannot {doing} {where}: it is not there", remedy="see where its copies are with 'nightmill show'"
            ) from error
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFull(f"cannot {doing} {where}: no space left", remedy="make room, then rerun") from error
            raise StoreError(f"cannot {doing} {where}: {error.strerror}") from error


def _copy(source: int, target: Path, *, durable: bool = False) -> int:
    """Copy an open file to a new one, by reflink where possible; return the bytes."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    try:
        _clone_or_copy(source, descriptor)
        if durable:
            os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _clone_or_copy(source: int, target: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return
    except OSError as error:
        if error.errno not in _NO_REFLINK:
            raise
    left = os.fstat(source).st_size
    while left > 0:
        sent = os.sendfile(target, source, None, left)
        if sent == 0:
            break
        left -= sent
