"""A background process that outlives the command that started it, and the file that remembers it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from pwd import getpwuid

import psutil

from nightmill.errors import RequestRefused, ServerAway
from nightmill.execution.owner import is_alive, owner_of
from nightmill.model.base import Frozen
from nightmill.model.journal import Owner

TURN = "turn"
"""Name of the file in a daemon's folder whose time tells when it last had a turn, for those that take turns."""
LOG_BYTES = 10_000_000
"""From here on, a log is set aside before the next process writes to it."""


class DaemonState(StrEnum):
    """Whether a daemon runs."""

    RUNNING = "running"
    """Its process is alive, or belongs to another host, from where nothing else is known."""
    STOPPED = "stopped"
    """It was never started, or was stopped on request."""
    DEAD = "dead"
    """It was started, nobody stopped it, and its process is gone."""


class DaemonRecord(Frozen):
    """What is remembered of a daemon between commands."""

    owner: Owner
    """Its process: not the PID alone, which may have been given to another since."""
    stopped: bool = False
    """Whether it was stopped on request."""
    details: Mapping[str, str]
    """What it tells its clients."""


@dataclass(frozen=True)
class Daemon:
    """One named background process of one folder.

    Keeps ``NAME.json`` (its record, readable by its owner alone) and ``NAME.log`` there, and the log before that as
    ``NAME.log.1`` where it had grown large.
    """

    folder: Path
    name: str

    @property
    def log(self) -> Path:
        """Where its stdout and stderr go."""
        return self.folder / f"{self.name}.log"

    @property
    def old_log(self) -> Path:
        """Where a log stands that was set aside because it had grown large."""
        return self.log.with_name(f"{self.log.name}.1")

    @property
    def turn_at(self) -> datetime | None:
        """When it last had a turn; None where it never had."""
        with suppress(FileNotFoundError):
            return datetime.fromtimestamp((self.folder / TURN).stat().st_mtime, UTC)
        return None

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.name}.json"

    def record(self) -> DaemonRecord | None:
        """Return what is remembered, or None where it was never started.

        Raises
        ------
        ServerAway
            Where it belongs to another user.
        """
        with self.own():
            try:
                return DaemonRecord.model_validate_json(self._file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                return None

    @contextmanager
    def own(self) -> Iterator[None]:
        """Say whose it is, where the system refuses what is done in this context because it is another user's."""
        try:
            yield
        except (PermissionError, psutil.AccessDenied) as error:
            raise ServerAway(
                f"the {self.name} in {self.folder} belongs to user {owner_name(self.folder)!r}, and answers to that "
                "user alone",
                remedy=f"ask that user, or become that user: sudo -u {owner_name(self.folder)} ...",
            ) from error

    def state(self) -> DaemonState:
        """Tell whether it runs."""
        record = self.record()
        if record is None or record.stopped:
            return DaemonState.STOPPED
        return DaemonState.DEAD if is_alive(record.owner) is False else DaemonState.RUNNING

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep two commands from starting or stopping it at the same time."""
        with self.own():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.folder / f"{self.name}.lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def new_log(self) -> int:
        """Set the log aside where it has grown large, in favour of the next process; return how many bytes it has."""
        if not self.log.exists():
            return 0
        size_bytes = self.log.stat().st_size
        if size_bytes < LOG_BYTES:
            return size_bytes
        self.log.replace(self.old_log)
        return 0

    def cut_log(self) -> None:
        """Set the log of a process aside that goes on writing it, where it has grown large; a last line may be lost."""
        if self.log.exists() and self.log.stat().st_size >= LOG_BYTES:
            shutil.copyfile(self.log, self.old_log)
            self.old_log.chmod(0o600)
            os.truncate(self.log, 0)  # it is opened to append

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str], details: Mapping[str, str]) -> Owner:
        """Start the process in a session of its own, with default signals, in the daemon's folder.

        A process started from a shell with ``&`` ignores SIGINT, and so would its children: hence the defaults.

        Returns
        -------
        Owner
            The process, remembered together with ``details``.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *argv],
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE],
        )
        owner = owner_of(pid)
        self._write(DaemonRecord(owner=owner, details=dict(details)))
        return owner

    def become(self, details: Mapping[str, str]) -> None:
        """Remember this process in its place, which is about to turn into it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write(DaemonRecord(owner=owner_of(os.getpid()), details=dict(details)))

    def tell(self, **details: str) -> None:
        """Add to what it tells its clients."""
        record = self.record()
        assert record is not None  # it was spawned
        self._write(record.model_copy(update={"details": {**record.details, **details}}))

    def stop(self, grace_seconds: float) -> bool:
        """End the process: SIGTERM, and after ``grace_seconds`` SIGKILL to its whole process group.

        Returns
        -------
        bool
            Whether there was a process to stop. What is remembered of it says "stopped" either way.

        Raises
        ------
        RequestRefused
            Where it is a process of another host, which may run on.
        ServerAway
            Where it is a process of another user, which runs on.
        """
        record = self.record()
        if record is None or record.stopped:
            return False
        alive = is_alive(record.owner)
        if alive is None:
            raise RequestRefused(
                f"the {self.name} was started on host {record.owner.host!r}, and only there it can be stopped",
                remedy=f"if that host is lost for good, remove {self._file}",
            )
        if alive:
            with self.own(), suppress(psutil.NoSuchProcess, ProcessLookupError):  # it ends by itself meanwhile
                process = psutil.Process(record.owner.pid)
                process.terminate()
                try:
                    process.wait(grace_seconds)
                except psutil.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        self._write(record.model_copy(update={"stopped": True}))
        return alive

    def ended(self) -> None:
        """Remember that it was told to stop, by whatever means, and did; it says so itself."""
        record = self.record()
        assert record is not None  # it was spawned
        self._write(record.model_copy(update={"stopped": True}))

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of its log, indented, for a message."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "    (no log)"
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])

    def _write(self, record: DaemonRecord) -> None:
        keep(self._file, record)


def keep(file: Path, record: Frozen) -> None:
    """Write a record to a file, as :func:`keep_text`."""
    keep_text(file, record.model_dump_json())


def keep_text(file: Path, text: str) -> None:
    """Write a file that its owner alone can read: whatever happens, it is whole, or the one before."""
    temporary = file.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)  # its mode would be kept, and whoever has it open could read on
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(file)


def owner_name(path: Path) -> str:
    """Return the user whose a path is, or the nearest folder above it that can be seen."""
    for each in (path, *path.parents):
        with suppress(OSError):
            number = each.stat().st_uid
            try:
                return getpwuid(number).pw_name
            except KeyError:
                return str(number)
    return "root"


def clean_environment(updates: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the user's own Prefect settings, plus ``updates``.

    A site's own settings are all that its server and its runner go by.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return {**inherited, "PYTHONUNBUFFERED": "1", **updates}
