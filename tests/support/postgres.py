"""A real PostgreSQL server of the tests' own: on a Unix socket in its own folder, gone when the tests end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from select import POLLIN, poll
from typing import Final

import psycopg
from psycopg import sql

SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "60",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    # The data need not outlive the tests.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}
DEBIAN_PROGRAMS: Final = Path("/usr/lib/postgresql")
START_SECONDS: Final = 600.0
SUPERUSER: Final = "postgres"


class PostgresUnavailable(Exception):
    """No server can be started on this machine; the message says what is missing."""


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    ``socket_directory`` is all that a client needs: there is no port and no password.
    """

    socket_directory: Path
    _numbers: Iterator[int]

    def url(self, database: str, user: str = SUPERUSER) -> str:
        """Return the SQLAlchemy URL of a database of this server, for psycopg 3."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.socket_directory}"

    def create(self, template: str = "template0") -> str:
        """Create a database of its own for a test, a copy of ``template``, and return its name."""
        name = f"test_{next(self._numbers)}"
        self._admin(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    def drop(self, database: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self._admin(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

    def _admin(self, statement: sql.Composed) -> None:
        with psycopg.connect(
            host=str(self.socket_directory), dbname="postgres", user=SUPERUSER, autocommit=True
        ) as connection:
            connection.execute(statement)


def find_binaries() -> Path:
    """Return the folder of ``initdb`` and ``postgres``: Debian's newest, else that of the PATH.

    Raises
    ------
    PostgresUnavailable
        Neither holds both programs.
    """
    debian = sorted(DEBIAN_PROGRAMS.glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    candidates = [*reversed(debian), *([Path(on_path).resolve().parent] if on_path else [])]
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresUnavailable(
        f"PostgreSQL's server programs are neither in {DEBIAN_PROGRAMS}/*/bin nor on the PATH; "
        "on Debian: apt-get install postgresql"
    )


@contextmanager
def running_server(settings: Mapping[str, str] = SETTINGS) -> Iterator[PostgresServer]:
    """Run a new, empty server, as an unprivileged user where this process is root.

    Parameters
    ----------
    settings
        Go over the tests' own; a benchmark wants one that keeps what it has promised.

    Raises
    ------
    PostgresUnavailable
        Its programs are missing, or it does not start; the message ends with its log.
    """
    binaries = find_binaries()
    account = _unprivileged_account() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="nightmill-pg-"))
    data, log = folder / "data", folder / "log"
    try:
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        options = ["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        _finish(_spawn([binaries / "initdb", "-D", data, *options], folder, account, log), log)
        options = [f"--{name}={value}" for name, value in {**SETTINGS, **settings}.items()]
        server = _spawn(
            [binaries / "postgres", "-D", data, f"--unix_socket_directories={folder}", *options],
            folder,
            account,
            log,
        )
        try:
            _await_connections(server, folder, log)
            yield PostgresServer(folder, count(1))
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            server.wait(START_SECONDS)
    finally:
        shutil.rmtree(folder)


class StoppableServer:
    """A PostgreSQL server of the test's own, which can be stopped and started again."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._folder = server.socket_directory
        self._argv = self._proc("cmdline").decode().split("\0")[:-1]
        self._user = pwd.getpwuid(Path(f"/proc/{self._pid()}").stat().st_uid)
        self._own: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        pid = self._pid()
        descriptor = os.pidfd_open(pid)
        os.kill(pid, signal.SIGINT)
        if self._own is not None:
            self._own.wait(30)
        else:
            ended = poll()
            ended.register(descriptor, POLLIN)
            assert ended.poll(30_000), "the server did not stop"
        os.close(descriptor)

    def start(self) -> None:
        as_root = os.geteuid() == 0
        self._own = subprocess.Popen(
            self._argv,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user.pw_uid if as_root else None,
            group=self._user.pw_gid if as_root else None,
            extra_groups=[] if as_root else None,
        )

    def _pid(self) -> int:
        return int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def _proc(self, name: str) -> bytes:
        return Path(f"/proc/{self._pid()}/{name}").read_bytes()


def _unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresUnavailable("PostgreSQL refuses to run as root, and neither postgres nor nobody is a user here")


def _spawn(
    argv: list[str | Path], folder: Path, account: pwd.struct_passwd | None, log: Path
) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,
        )


def _finish(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.wait(START_SECONDS) != 0:
        raise PostgresUnavailable(f"initdb failed:\n{log.read_text()}")


def _await_connections(server: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(folder), dbname="postgres", user=SUPERUSER).close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise PostgresUnavailable(f"the server did not start: {error}\n{log.read_text()}") from error
            time.sleep(0.02)
        else:
            return
