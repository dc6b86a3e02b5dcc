"""A store that is a folder: on a local disk, or on one that many machines share."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import unquote, urlsplit

from nightmill.errors import StoredFileMissing, StoreError, StoreFull
from nightmill.files.checksum import SMALL_BYTES
from nightmill.model.store import Store
from stagers.common import attempt_of, collision, is_inside, is_temporary, missing, outside, temporary_name

_FICLONE = 0x40049409
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_REFLINK = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.ETXTBSY)

_Identity = tuple[int, int, int, int]
"""Device, inode, size, and when it was written."""


class LocalStager:
    """Moves bytes between a folder and local paths; see :class:`nightmill.model.ports.Stager` for what it promises.

    Copies are reflinks where the file system has them. A file appears under its name by an exclusive hard link from its
    temporary name beside it, so nobody ever sees half of one. The store's own folder is never made here: where it is
    missing, a disk is probably not mounted.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        parts = urlsplit(store.url)
        self.root = Path(unquote(parts.path) if parts.scheme else store.url)
        self._verified: dict[str, _Identity] = {}
        """What was read of uploads, by their temporary names."""

    def fetch(self, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet."""
        with self._named("read", path):
            source = self._path(path).open("rb")
        with source:
            return _copy(source.fileno(), target, 0o400)

    def upload(self, source: Path, path: str, *, attempt: str, durable: bool = True) -> None:
        """Bring a local file in under a temporary name, durable, not yet visible.

        Many small files are faster with ``durable`` false, and one :meth:`sync` of all before the first is revealed.
        """
        temporary, mode = self._temporary(path, attempt), self.store.access.stored_mode
        with source.open("rb", buffering=0) as file, self._named("write", path):
            if os.path.lexists(self._path(path)):
                raise collision(path, self.store)
            try:
                _copy(file.fileno(), temporary, mode, durable=durable)
            except FileExistsError:  # of an upload that was killed
                temporary.unlink(missing_ok=True)
                _copy(file.fileno(), temporary, mode, durable=durable)
            except FileNotFoundError:
                self._make_folder(temporary.parent)
                _copy(file.fileno(), temporary, mode, durable=durable)

    def link(self, source: Path, path: str, *, attempt: str) -> None:
        """Bring a local file in as :meth:`upload` does, as a hard link: no bytes are copied."""
        temporary = self._temporary(path, attempt)
        with source.open("rb") as file, self._named("write", path):
            if os.path.lexists(self._path(path)):
                raise collision(path, self.store)
            if not temporary.parent.is_dir():
                self._make_folder(temporary.parent)
            temporary.unlink(missing_ok=True)
            # The file that is open is linked, never a symbolic link that came to stand at its path.
            own = file.fileno()
            os.link(f"/proc/self/fd/{own}", temporary, src_dir_fd=own, follow_symlinks=True)

    def reveal(self, path: str, *, attempt: str) -> None:
        """Give an uploaded file its name: exclusive and atomic."""
        temporary = self._temporary(path, attempt)
        with self._named("publish", path):
            try:
                os.link(temporary, self._path(path))
            except FileExistsError:
                raise collision(path, self.store) from None
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                raise StoreError(
                    f"cannot publish {path!r} in store {self.store.name!r} ({self.root}): {error.strerror}",
                    remedy="it takes a hard link, and the file system of this store seems to have none",
                ) from error
            verified = self._verified.pop(str(temporary), None)
            if verified is not None and _identity(self._path(path).lstat()) != verified:
                self._path(path).unlink()
                raise StoreError(
                    f"{path!r} was changed in store {self.store.name!r} between its verification and its publication",
                    remedy="see who else writes to the store, then rerun",
                )
            with suppress(OSError):  # the name is given, and must not be taken for one that is not
                temporary.unlink()

    def sync(self, paths: Iterable[str]) -> None:
        """Make what was uploaded for these paths durable, all at once."""
        folders = {self._path(path).parent: path for path in paths}
        for folder, path in {folder.stat().st_dev: (folder, path) for folder, path in folders.items()}.values():
            with self._named("write", path):
                _sync_file_system(folder)

    def settle(self, paths: Iterable[str]) -> None:
        """Make the names of revealed files durable."""
        for folder, path in {self._path(path).parent: path for path in paths}.items():
            with self._named("settle", path):
                _sync_folder(folder)

    def discard(self, path: str, *, attempt: str) -> None:
        """Remove an upload that was not revealed."""
        self._verified.pop(str(self._temporary(path, attempt)), None)
        self._unlink("clean up", path, self._temporary(path, attempt))

    def uploaded(self, path: str, *, attempt: str) -> tuple[int, str] | None:
        """Return size in bytes and SHA-256 of an upload that was not revealed, or None."""
        try:
            with self._named("read", path), self._temporary(path, attempt).open("rb", buffering=0) as file:
                facts = os.fstat(file.fileno())
                self._verified[file.name] = _identity(facts)
                size = facts.st_size
                if size < SMALL_BYTES:
                    data = file.read()
                    return len(data), sha256(data).hexdigest()
                return size, file_digest(file, "sha256").hexdigest()
        except StoredFileMissing:
            return None

    def size(self, path: str) -> int | None:
        """Return the size in bytes of a stored file, or None where there is none."""
        try:
            with self._named("look at", path):
                facts = self._path(path).stat()
        except StoredFileMissing:
            return None
        return facts.st_size if stat.S_ISREG(facts.st_mode) else None

    def sha256(self, path: str) -> str:
        """Read a stored file and return its SHA-256 as hexadecimal digits."""
        with self._named("read", path), self._path(path).open("rb") as file:
            return file_digest(file, "sha256").hexdigest()

    def remove(self, path: str) -> None:
        """Remove a stored file, if it is there."""
        self._unlink("remove", path, self._path(path))

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of every stored file below a prefix."""
        for folder, folders, names in os.walk(self._path(prefix) if prefix else self.root, onerror=_unless_missing):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name).relative_to(self.root).as_posix()
                if not is_temporary(name) and (size := self.size(path)) is not None:
                    yield path, size

    def uploads(self) -> Iterator[tuple[str, str]]:
        """Yield place and attempt of every upload that was not revealed."""
        for folder, folders, names in os.walk(self.root, onerror=_unless_missing):
            folders.sort()
            for name in sorted(filter(is_temporary, names)):
                yield Path(folder, name).relative_to(self.root).as_posix(), attempt_of(name)

    def _path(self, path: str) -> Path:
        inside = _inside(self.root, path)
        if inside is None:
            raise outside(path, self.store)
        return inside

    def _temporary(self, path: str, attempt: str) -> Path:
        return _beside(self._path(path), attempt)

    def _unlink(self, doing: str, path: str, target: Path) -> None:
        with suppress(StoredFileMissing), self._named(doing, path):
            target.unlink()

    def _make_folder(self, folder: Path) -> None:
        """Make a folder below the store's, durable with every one above it that was missing."""
        if folder == self.root:
            raise self._no_folder()
        if not folder.parent.is_dir():
            self._make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(self.store.access.folder_mode)
        _sync_folder(folder.parent)

    def _no_folder(self) -> StoreError:
        return StoreError(
            f"the folder {self.root} of store {self.store.name!r} does not exist",
            remedy="is its disk mounted? 'nightmill init' makes the folders of new stores",
        )

    @contextmanager
    def _named(self, doing: str, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f"{path!r} in store {self.store.name!r} ({self.root})"
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                if not self.root.is_dir():
                    raise self._no_folder() from error
                raise missing(doing, where) from error
            if error.errno in _FULL:
                raise StoreFull(f"cannot {doing} {where}: no space left", remedy="make room, then rerun") from error
            raise StoreError(f"cannot {doing} {where}: {error.strerror}") from error


def can_reflink(source: Path, target: Path) -> bool:
    """Whether files of one folder get into another without their bytes being copied; tried, and nothing stays."""
    with TemporaryFile(dir=source) as one, TemporaryFile(dir=target) as other:
        one.write(b"reflink")
        one.flush()
        return _clone(one.fileno(), other.fileno())


def _identity(facts: os.stat_result) -> _Identity:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=4096)
def _inside(root: Path, path: str) -> Path | None:
    """Return where a path of a store is, or None for none; kept, because a file's path is asked for many times."""
    return root / path if is_inside(path) else None


@lru_cache(maxsize=4096)
def _beside(full: Path, attempt: str) -> Path:
    return full.with_name(temporary_name(full.name, attempt))


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise StoreError(f"cannot list {error.filename}: {error.strerror}") from error


def _sync_file_system(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: int, target: Path, mode: int, *, durable: bool = False) -> int:
    """Copy an open file to a new one, by reflink where possible, and return the bytes; no umask changes its mode.

    Where it fails nothing is left behind, and the error names the target.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    try:
        _clone_or_copy(source, descriptor)
        if mode != 0o400:
            os.fchmod(descriptor, mode)
        if durable:
            os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    except OSError as error:
        target.unlink()
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        os.close(descriptor)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return True
    except OSError as error:
        if error.errno not in _NO_REFLINK:
            raise
        return False


def _clone_or_copy(source: int, target: int) -> None:
    if _clone(source, target):
        return
    left = os.fstat(source).st_size
    while left > 0:
        sent = os.sendfile(target, source, None, left)
        if sent == 0:
            break
        left -= sent
