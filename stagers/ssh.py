"""Connections to another machine by SSH: whom to trust, how to be let in, and a few connections that are kept."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
import weakref
from collections.abc import Awaitable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar, cast

import asyncssh

from nightmill.errors import StoreError
from stagers.place import Place, not_let_in, not_trusted

T = TypeVar("T")

CONNECTIONS: Final = 4
"""How many a process keeps with one store; whoever needs one more waits."""
IDLE_SECONDS: Final = 60.0
"""How long one is kept that nobody uses."""
CONNECT_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 60.0
"""How long the other machine may take to answer one request."""
BLOCK_SECONDS: Final = 300.0
"""How long a block may be on its way, among those of other connections, or a file on its way to the disk."""
BLOCK_BYTES: Final = 4 << 20
NOT_THERE: Final = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory)
"""How servers say that something is not there."""
_TRUST_NOBODY: Final[tuple[list[str], list[str], list[str]]] = ([], [], [])
"""Known hosts for asyncssh: none, so that it asks for each key."""


class LostConnection(Exception):
    """A connection that broke, could not be made, or does not answer; another may do."""


class _Client(asyncssh.SSHClient):
    """Sees the host's key where no known host has it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.key: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Trust the key that the store's URL names, and no other."""
        self.key = key
        return bool(self.place.fingerprint) and key.get_fingerprint() == self.place.fingerprint


class Session:
    """SFTP over one connection, for one thread at a time.

    Attributes
    ----------
    sftp
        The client; its coroutines are run by :meth:`call`.
    root
        The store's folder there, absolute and without symbolic links; where it does not exist, its name.
    broken
        Whether it is of no use any more.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient
    ) -> None:
        self._loop = loop
        self._connection = connection
        self.sftp = sftp
        self.root = ""
        self.broken = False
        self._idle: asyncio.TimerHandle | None = None

    def begin(self, request: Awaitable[T], seconds: float = ANSWER_SECONDS) -> Future[T]:
        """Send a request; :meth:`wait` has its answer."""

        async def bounded() -> T:
            return await asyncio.wait_for(request, seconds)

        return asyncio.run_coroutine_threadsafe(bounded(), self._loop)

    def wait(self, answer: Future[T]) -> T:
        """Wait for the answer of a request.

        Raises
        ------
        LostConnection
            Where none came.
        asyncssh.SFTPError
            Where the other machine refuses.
        """
        try:
            return answer.result()
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError, OSError) as error:
            self.broken = True
            raise LostConnection(_why(error)) from error
        except asyncssh.SFTPError:
            raise
        except BaseException:
            answer.cancel()
            self.broken = True
            raise

    def call(self, request: Awaitable[T], seconds: float = ANSWER_SECONDS) -> T:
        """Send a request and wait for its answer, see :meth:`wait`."""
        return self.wait(self.begin(request, seconds))

    def is_there(self, place: str) -> bool:
        """Whether there is anything under a name."""
        try:
            self.call(self.sftp.lstat(place))
        except NOT_THERE:
            return False
        return True

    def are_one(self, one: str, other: str, mode: int) -> bool:
        """Whether two names are of one file, which has a mode: what happens to the one is seen by the other."""
        self.call(self.sftp.chmod(one, mode | stat.S_IWUSR))
        try:
            return bool((self.call(self.sftp.lstat(other)).permissions or 0) & stat.S_IWUSR)
        finally:
            self.call(self.sftp.chmod(one, mode))

    def create(self, place: str, mode: int) -> asyncssh.SFTPClientFile:
        """Make a file that does not exist, and open it to be written."""
        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL
        return self.call(self.sftp.open(place, flags, asyncssh.SFTPAttrs(permissions=mode), encoding=None))

    def blocks(self, file: asyncssh.SFTPClientFile, offset: int, end: int) -> Iterator[bytes]:
        """Yield what stands in a file; while one block is used, the next one comes."""

        def next_block() -> Future[bytes] | None:
            size = min(BLOCK_BYTES, end - offset)
            return self.begin(cast(Awaitable[bytes], file.read(size, offset)), BLOCK_SECONDS) if size > 0 else None

        coming = next_block()
        while coming is not None:
            data = self.wait(coming)
            offset += len(data)
            coming = next_block() if data else None
            yield data

    def release(self, file: asyncssh.SFTPClientFile) -> None:
        """Close a file, where the connection stands."""
        if self.is_open:
            self.call(file.close())

    def sync_folder(self, folder: str) -> None:
        """Make the names in a folder durable, where the server can do that."""
        file = self.call(self.sftp.open(folder, asyncssh.FXF_READ, encoding=None))
        try:
            with suppress(asyncssh.SFTPOpUnsupported):
                self.call(file.fsync(), BLOCK_SECONDS)
        finally:
            self.release(file)

    def has_less(self, folder: str, size_bytes: int) -> bool:
        """Whether a file system has less room than that, as far as the server tells."""
        try:
            facts = self.call(self.sftp.statvfs(folder))
        except asyncssh.SFTPError:
            return False
        return facts.bavail * facts.frsize < size_bytes or facts.ffree == 0

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as one knows here."""
        return not self.broken and not self._connection.is_closed()

    def rest(self) -> None:
        """Close the connection in a while."""

        def later() -> None:
            self._idle = self._loop.call_later(IDLE_SECONDS, self._connection.abort)

        self._loop.call_soon_threadsafe(later)

    def wake(self) -> None:
        """Let the connection stand."""

        def now() -> None:
            if self._idle is not None:
                self._idle.cancel()

        self._loop.call_soon_threadsafe(now)

    def close(self) -> None:
        """Close the connection."""
        self._loop.call_soon_threadsafe(self._connection.abort)


class Sessions:
    """A few sessions with one place: opened as they are needed, kept for a while, for use by several threads.

    They belong to the process that opened them: in one that was forked, others are opened.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._pools: dict[int, _Pool] = {}

    @contextmanager
    def borrowed(self) -> Iterator[Session]:
        """Give a session to one thread.

        Raises
        ------
        LostConnection
            Where none can be opened just now.
        StoreError
            Where the host is not trusted, or does not let one in.
        """
        process = os.getpid()
        pool = self._pools.get(process) or self._pools.setdefault(process, _Pool(self._place))
        with pool.places:
            session = pool.take()
            try:
                yield session
            except (asyncssh.SFTPError, StoreError):
                pool.give_back(session)
                raise
            except BaseException:
                session.close()
                raise
            pool.give_back(session)


class _Pool:
    """The sessions of one process, and the thread in which their connections live."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.places = threading.BoundedSemaphore(CONNECTIONS)
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: weakref.WeakSet[asyncssh.SSHClientConnection] = weakref.WeakSet()

    def take(self) -> Session:
        while True:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            if session is None:
                return self._open()
            session.wake()
            if session.is_open:
                return session
            session.close()

    def give_back(self, session: Session) -> None:
        if not session.is_open:
            session.close()
            return
        session.rest()
        with self._lock:
            self._idle.append(session)

    def _open(self) -> Session:
        with self._lock:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_live, args=(loop,), name=f"sftp {self._place.store}", daemon=True)
                thread.start()
                weakref.finalize(self, _end, loop, thread, self._connections, os.getpid())
            loop = self._loop
        client = _Client(self._place)
        opening = asyncio.run_coroutine_threadsafe(_connect(self._place, client), loop)
        try:
            connection, sftp = opening.result()
        except asyncssh.HostKeyNotVerifiable as error:
            raise not_trusted(self._place, client.key, error) from error
        except asyncssh.PermissionDenied as error:
            raise not_let_in(self._place, error) from error
        except (asyncssh.Error, OSError) as error:
            raise LostConnection(_why(error)) from error
        except (asyncssh.ConfigParseError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise StoreError(f"cannot connect to {self._place} for store {self._place.store!r}: {error}") from error
        except BaseException:
            opening.cancel()
            raise
        self._connections.add(connection)
        session = Session(loop, connection, sftp)
        try:
            session.root = str(session.call(sftp.realpath(self._place.folder)))
        except asyncssh.SFTPError:
            session.root = self._place.folder
        return session


async def _connect(place: Place, client: _Client) -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]:
    """Connect as ``ssh`` would, but for the trust: that is never a matter of ``~/.ssh/config``."""
    options: dict[str, Any] = {"known_hosts": _TRUST_NOBODY}
    if not place.fingerprint:
        with suppress(FileNotFoundError):
            options["known_hosts"] = asyncssh.read_known_hosts(str(place.trusted))
    if place.port is not None:
        options["port"] = place.port
    if place.user is not None:
        options["username"] = place.user
    if place.password is not None:
        options["password"] = place.password
    if place.identity:
        try:
            options["client_keys"] = [asyncssh.read_private_key(place.identity, place.passphrase)]
        except OSError as error:
            raise asyncssh.KeyImportError(f"the identity {place.identity} cannot be read: {error.strerror}") from error
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise asyncssh.KeyImportError(f"the identity {place.identity} cannot be used: {error}") from error
        options["agent_path"] = None
    async with asyncio.timeout(CONNECT_SECONDS):
        connection = await asyncssh.connect(
            place.host,
            client_factory=lambda: client,
            keepalive_interval=ANSWER_SECONDS / 4,
            **options,
        )
        try:
            return connection, await connection.start_sftp_client()
        except BaseException:
            connection.abort()
            raise


def _live(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _end(
    loop: asyncio.AbstractEventLoop,
    thread: threading.Thread,
    connections: Iterable[asyncssh.SSHClientConnection],
    process: int,
) -> None:
    """Close what is open, and end the thread; in a process that was forked from it there is none."""
    if os.getpid() != process or not thread.is_alive():
        return

    async def shut() -> None:
        for connection in list(connections):
            connection.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        loop.stop()

    asyncio.run_coroutine_threadsafe(shut(), loop)
    if threading.current_thread() is not thread:
        thread.join(CONNECT_SECONDS)


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return str(getattr(error, "reason", "") or str(error) or type(error).__name__)
