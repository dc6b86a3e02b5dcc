"""A store on another machine, over SFTP: ``sftp://user@host:port/folder``."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import asyncssh
from asyncssh import SFTPAttrs, SFTPError

from nightmill.errors import StoredFileMissing, StoreError, StoreFull
from nightmill.model.store import Store
from stagers.common import (
    Hash,
    NewFile,
    Patience,
    attempt_of,
    collision,
    is_inside,
    is_temporary,
    missing,
    outside,
    temporary_name,
)
from stagers.place import Place
from stagers.ssh import BLOCK_BYTES, BLOCK_SECONDS, NOT_THERE, LostConnection, Session, Sessions

T = TypeVar("T")

_SENDING: Final = 0o600
"""The mode of an upload that nobody has read again."""
_FULL: Final = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)
_EXISTS: Final = (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists)
"""How servers say, among others, that a name is taken."""

_Seen = tuple[int | None, int | None, int | None]
"""Size, when it was written, in seconds, and mode."""


class SftpStager:
    """Moves bytes to and from another machine; see :class:`nightmill.model.ports.Stager` for what it promises.

    A file appears under its name by an exclusive hard link (``hardlink@openssh.com``) from its temporary name beside
    it. Files and folders are made durable by ``fsync@openssh.com`` where the server has that. The store's own folder
    is never made. No path leads out of it, neither by its text nor by symbolic links there.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._place = Place.of(store)
        self._sessions = Sessions(self._place)
        self._verified: dict[str, _Seen] = {}
        """What was read of uploads, by their temporary names."""

    def fetch(self, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet; a copy that was interrupted goes on."""
        self._check(path)
        with NewFile(target) as file:
            facts = self._read("read", path, lambda session: self._real(session, path), file)
        return facts.size or 0

    def upload(self, source: Path, path: str, *, attempt: str) -> None:
        """Bring a local file in under a temporary name, durable, not yet visible."""
        self._check(path)

        def act(session: Session) -> None:
            try:
                folder = self._folder(session, path)
            except NOT_THERE:
                folder = self._make_folder(session, posixpath.dirname(path), path)
            if session.is_there(_join(folder, path)):
                raise collision(path, self.store)
            temporary = _join(folder, path, attempt)
            with suppress(*NOT_THERE):
                session.call(session.sftp.remove(temporary))
            self._send(session, file, temporary, path)

        with source.open("rb", buffering=0) as file:
            self._do("write", path, act)

    def reveal(self, path: str, *, attempt: str) -> None:
        """Give an uploaded file its name: exclusive and atomic."""
        self._check(path)
        asked = False

        def act(session: Session) -> None:
            nonlocal asked
            folder = self._folder(session, path)
            final = _join(folder, path)
            temporary = _join(folder, path, attempt)
            verified = self._verified.get(temporary)
            session.call(session.sftp.lstat(temporary))
            if verified is None:
                session.call(session.sftp.chmod(temporary, self.store.access.stored_mode))
                verified = _seen(session.call(session.sftp.stat(temporary)))
            again, asked = asked, True
            try:
                session.call(session.sftp.link(temporary, final))
            except _EXISTS:
                if not session.is_there(final):
                    raise
                # What a connection that broke had asked for may have been done.
                if not (again and session.are_one(temporary, final, self.store.access.stored_mode)):
                    raise collision(path, self.store) from None
            except asyncssh.SFTPOpUnsupported as error:
                raise StoreError(
                    f"cannot publish {self._named(path)}: its server has no hard links (hardlink@openssh.com)",
                    remedy="use OpenSSH's sftp-server there, or another kind of store",
                ) from error
            if _seen(session.call(session.sftp.lstat(final))) != verified:
                session.call(session.sftp.remove(final))
                raise StoreError(
                    f"{path!r} was changed in store {self.store.name!r} between its verification and its publication",
                    remedy="see who else writes to the store, then rerun",
                )
            self._verified.pop(temporary, None)
            with suppress(SFTPError, LostConnection):  # the name is given, and must not be taken for one that is not
                session.call(session.sftp.remove(temporary))

        self._do("publish", path, act)

    def settle(self, paths: Iterable[str]) -> None:
        """Make the names of revealed files durable."""
        folders: dict[str, str] = {}
        for path in paths:
            self._check(path)
            folders.setdefault(posixpath.dirname(path), path)
        for path in folders.values():

            def act(session: Session, path: str = path) -> None:
                session.sync_folder(self._folder(session, path))

            self._do("settle", path, act)

    def discard(self, path: str, *, attempt: str) -> None:
        """Remove an upload that was not revealed."""
        self._check(path)

        def act(session: Session) -> None:
            temporary = self._temporary(session, path, attempt)
            self._verified.pop(temporary, None)
            session.call(session.sftp.remove(temporary))

        with suppress(StoredFileMissing):
            self._do("clean up", path, act)

    def uploaded(self, path: str, *, attempt: str) -> tuple[int, str] | None:
        """Return size in bytes and SHA-256 of an upload that was not revealed, or None."""
        self._check(path)
        temporary, read = "", Hash()

        def find(session: Session) -> str:
            nonlocal temporary
            temporary = self._temporary(session, path, attempt)
            if not stat.S_ISREG(session.call(session.sftp.lstat(temporary)).permissions or 0):
                raise StoreError(f"the upload of {self._named(path)} is not a file", remedy="see who else writes there")
            return temporary

        try:
            facts = self._read("read", path, find, read, mode=self.store.access.stored_mode)
        except StoredFileMissing:
            return None
        self._verified[temporary] = _seen(facts)
        return facts.size or 0, read.digest()

    def size(self, path: str) -> int | None:
        """Return the size in bytes of a stored file, or None where there is none."""
        self._check(path)

        def act(session: Session) -> SFTPAttrs:
            return session.call(session.sftp.stat(self._real(session, path)))

        try:
            facts = self._do("look at", path, act)
        except StoredFileMissing:
            return None
        return facts.size if stat.S_ISREG(facts.permissions or 0) else None

    def sha256(self, path: str) -> str:
        """Read a stored file and return its SHA-256 as hexadecimal digits."""
        self._check(path)
        read = Hash()
        self._read("read", path, lambda session: self._real(session, path), read)
        return read.digest()

    def remove(self, path: str) -> None:
        """Remove a stored file, if it is there."""
        self._check(path)

        def act(session: Session) -> None:
            session.call(session.sftp.remove(_join(self._folder(session, path), path)))

        with suppress(StoredFileMissing):
            self._do("remove", path, act)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of every stored file below a prefix, where it lies: links are not followed."""
        for path, facts in self._walk(prefix):
            if not is_temporary(posixpath.basename(path)):
                yield path, facts.size or 0

    def uploads(self) -> Iterator[tuple[str, str]]:
        """Yield place and attempt of every upload that was not revealed."""
        for path, _facts in self._walk(""):
            if is_temporary(name := posixpath.basename(path)):
                yield path, attempt_of(name)

    # ------------------------------------------------------------------------------------------- reading

    def _walk(self, folder: str) -> Iterator[tuple[str, SFTPAttrs]]:
        if folder:
            self._check(folder)

        def act(session: Session) -> list[asyncssh.SFTPName]:
            place = self._real(session, folder) if folder else session.root
            return list(session.call(session.sftp.readdir(place)))

        try:
            names = self._do("list", folder or ".", act)
        except StoredFileMissing:
            return
        for each in sorted(names, key=lambda name: str(name.filename)):
            name, mode = str(each.filename), each.attrs.permissions or 0
            path = f"{folder}/{name}" if folder else name
            if stat.S_ISREG(mode):
                yield path, each.attrs
            elif stat.S_ISDIR(mode) and name not in (".", ".."):
                yield from self._walk(path)

    def _read(
        self, doing: str, path: str, find: Callable[[Session], str], taker: NewFile | Hash, *, mode: int | None = None
    ) -> SFTPAttrs:
        """Read a file from its beginning to its end, over as many connections as it takes, and return its facts.

        Parameters
        ----------
        find
            Returns where it lies.
        mode
            What the very file that was read is given.
        """
        offset, patience = 0, Patience()
        began: SFTPAttrs | None = None

        def act(session: Session) -> SFTPAttrs:
            nonlocal offset, began
            file = session.call(session.sftp.open(find(session), asyncssh.FXF_READ, encoding=None))
            try:
                facts = session.call(file.stat())
                if not stat.S_ISREG(facts.permissions or 0):
                    raise missing(doing, self._named(path))
                began = began or facts
                if (facts.size, facts.mtime) != (began.size, began.mtime):
                    raise StoreError(f"{self._named(path)} was changed while it was read", remedy="try it again")
                for data in session.blocks(file, offset, facts.size or 0):
                    taker.write(data)
                    offset += len(data)
                    patience.reached(offset)
                if offset != facts.size:
                    raise LostConnection(f"{offset} of {facts.size} bytes came")
                if mode is not None:
                    session.call(file.setstat(SFTPAttrs(permissions=mode)))
                    facts = session.call(file.stat())
                return facts
            finally:
                session.release(file)

        return self._do(doing, path, act, patience)

    # ------------------------------------------------------------------------------------------- writing

    def _send(self, session: Session, source: BinaryIO, temporary: str, path: str) -> None:
        file = session.create(temporary, _SENDING)
        offset = 0
        try:
            try:
                source.seek(0)
                while data := source.read(BLOCK_BYTES):
                    session.call(file.write(data, offset), BLOCK_SECONDS)
                    offset += len(data)
                with suppress(asyncssh.SFTPOpUnsupported):
                    session.call(file.fsync(), BLOCK_SECONDS)
            finally:
                session.release(file)
        except SFTPError as error:
            left = source.seek(0, 2) - offset
            is_full = isinstance(error, _FULL) or session.has_less(posixpath.dirname(temporary), left)
            with suppress(SFTPError):
                session.call(session.sftp.remove(temporary))
            if is_full:
                raise self._full(path) from error
            raise

    def _make_folder(self, session: Session, folder: str, path: str) -> str:
        """Make a folder below the store's, durable with every one above it that was missing; return where it is."""
        if not folder or not session.is_there(session.root):
            raise self._no_folder()
        current = session.root
        for name in folder.split("/"):
            above, current = current, posixpath.join(current, name)
            try:
                session.call(session.sftp.mkdir(current))
            except _EXISTS as error:
                if not session.is_there(current):
                    raise self._full(path) if session.has_less(above, 1) else error from error
                current = self._inside(session, current, path)
                continue
            session.call(session.sftp.chmod(current, self.store.access.folder_mode))
            session.sync_folder(above)
        return current

    # --------------------------------------------------------------------------------------------- paths

    def _check(self, path: str) -> None:
        if not is_inside(path):
            raise outside(path, self.store)

    def _inside(self, session: Session, place: str, path: str) -> str:
        """Return where a place really is, which symbolic links may lead to, but not out of the store."""
        real = str(session.call(session.sftp.realpath(place)))
        if real != session.root and not real.startswith(f"{session.root.rstrip('/')}/"):
            raise StoreError(
                f"{path!r} is not a path inside of store {self.store.name!r}: a symbolic link leads it to {real}",
                remedy="put a folder in the place of the link, or make a store of where it leads to",
            )
        return real

    def _real(self, session: Session, path: str) -> str:
        return self._inside(session, posixpath.join(session.root, path), path)

    def _folder(self, session: Session, path: str) -> str:
        """Return where the folder of a path is, which must exist."""
        parent = posixpath.dirname(path)
        folder = self._real(session, parent) if parent else session.root
        session.call(session.sftp.stat(folder))
        return folder

    def _temporary(self, session: Session, path: str, attempt: str) -> str:
        return _join(self._folder(session, path), path, attempt)

    # -------------------------------------------------------------------------------------------- errors

    def _do(self, doing: str, path: str, act: Callable[[Session], T], patience: Patience | None = None) -> T:
        """Do something with a session, and once more with another where its connection breaks; name what fails."""
        patience = patience or Patience()
        while True:
            try:
                with self._sessions.borrowed() as session:
                    try:
                        return act(session)
                    except NOT_THERE as error:
                        if not session.is_there(session.root):
                            raise self._no_folder() from error
                        raise missing(doing, self._named(path)) from error
            except LostConnection as error:
                if not patience.wait():
                    raise StoreError(
                        f"cannot {doing} {self._named(path)}: {error}", remedy="see whether that host can be reached"
                    ) from error
            except SFTPError as error:
                if isinstance(error, _FULL):
                    raise self._full(path) from error
                raise StoreError(f"cannot {doing} {self._named(path)}: {error.reason or error}") from error

    def _named(self, path: str) -> str:
        return f"{path!r} in store {self.store.name!r} ({self._place})"

    def _full(self, path: str) -> StoreFull:
        return StoreFull(f"cannot write {self._named(path)}: no space left", remedy="make room, then rerun")

    def _no_folder(self) -> StoreError:
        return StoreError(
            f"the folder of store {self.store.name!r} ({self._place}) does not exist",
            remedy="make it on that machine, or see whether a disk is not mounted there",
        )


def _seen(facts: SFTPAttrs) -> _Seen:
    return facts.size, facts.mtime, facts.permissions


def _join(folder: str, path: str, attempt: str = "") -> str:
    """Return where in its folder a file lies, or the upload of an attempt."""
    name = posixpath.basename(path)
    return posixpath.join(folder, temporary_name(name, attempt) if attempt else name)
