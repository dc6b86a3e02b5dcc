"""The log of a running step, shown in the spool to who does not see its scratch: on request, as long as somebody asks.

Who follows leaves a request, an empty file that is named for the attempt. The worker takes it away when it looks at its
step, and shows the log for a while: a copy of its last bytes, to which each look adds what is new. A request that stays
was not seen. So no clock is compared with another, and a follower that dies leaves nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import Field, ValidationError

from nightmill.errors import BadFile
from nightmill.execution.descriptors import opened_file
from nightmill.execution.logs.cut import next_data, next_hole
from nightmill.model.base import Frozen

LIVE: Final = "live"
"""Folder of the spool: a file a request, and a copy of a log beside it."""
LOOK_SECONDS: Final = 0.5
"""A worker looks for requests no more often."""
SHOW_SECONDS: Final = 10.0
"""So long after a request, a log is shown."""
ASK_SECONDS: Final = 1.0
"""A follower asks again no more often."""
KEEP_BYTES: Final = 4 << 20
"""At least so much of the end of a log is shown, and at most twice as much."""
ROOM_BYTES: Final = 64 << 20
"""So much room of the spool is left to journals."""
HEAD_BYTES: Final = 512
_BLOCK_BYTES: Final = 1 << 18
_COPY: Final = ".log"
_NEW: Final = ".new"

_log = logging.getLogger("nightmill")


class Head(Frozen):
    """The first bytes of a copy, one line of JSON and blanks: what follows them is this part of the log."""

    begins: int = Field(ge=0)
    """The first byte of the log that is there."""
    ends: int = Field(ge=0)
    """The byte after the last; what lies behind it in the copy does not count."""
    trouble: str = ""
    """Why nothing is added for now."""


class LiveLog:
    """The log of one attempt, for who asks to see it. Nothing that fails here is a failure of the attempt.

    Parameters
    ----------
    spool
        Where requests are left.
    name
        Of the attempt, as :func:`nightmill.execution.scratch.token` gives it.
    """

    def __init__(self, spool: Path, name: str) -> None:
        self._folder, self._name = spool / LIVE, name
        self._look_at, self._until, self._again_at = time.monotonic() + LOOK_SECONDS, 0.0, 0.0
        self._copy: int | None = None
        self._begins = self._ends = 0
        self._trouble = ""

    def look(self, log: int) -> None:
        """Take a request away where there is one, and show what an open log has as long as somebody asks for it."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        if self._is_asked():
            self._until = now + SHOW_SECONDS
        if now < self._until:
            self.catch_up(log)
        else:
            self.end()

    def catch_up(self, log: int) -> None:
        """Show all that an open log has, where it is shown."""
        if not self._again_at <= time.monotonic() < self._until:
            return
        try:
            self._add(log)
        except OSError as error:
            self._give_up(error)

    def end(self) -> None:
        """Remove the copy, if there is one."""
        self._trouble, self._until, self._again_at = "", 0.0, 0.0
        if self._copy is None:
            return
        os.close(self._copy)
        self._copy = None
        with suppress(OSError), _opened(self._folder) as folder:
            os.unlink(self._name + _COPY, dir_fd=folder)

    def _is_asked(self) -> bool:
        with suppress(OSError), _opened(self._folder) as folder:
            os.unlink(self._name, dir_fd=folder)
            return True
        return False

    def _add(self, log: int) -> None:
        size = os.fstat(log).st_size
        if self._copy is None or not os.fstat(self._copy).st_nlink or size - self._begins > 2 * KEEP_BYTES:
            self._copy = self._begun(max(0, size - KEEP_BYTES))
        if size <= self._ends:  # also where the step cut it off
            return
        room = os.fstatvfs(self._copy)
        if room.f_bavail * room.f_frsize < ROOM_BYTES:
            raise OSError(errno.ENOSPC, "the spool has too little room")
        begins = self._ends
        while (hole := next_hole(log, begins)) < size:  # what stood there is left out
            begins = next_data(log, hole)
        if begins > self._ends:
            self._copy = self._begun(begins)
        ends = self._ends
        while ends < size and (block := os.pread(log, min(_BLOCK_BYTES, size - ends), ends)):
            ends += os.pwrite(self._copy, block, HEAD_BYTES + ends - self._begins)
        os.fdatasync(self._copy)  # clients of NFS bring blocks to the server in any order
        self._ends, self._trouble = ends, ""
        self._write_head(self._copy)

    def _begun(self, at: int) -> int:
        """Begin a copy at a byte of the log, in place of any other, and return its descriptor."""
        with _opened(self._folder) as folder:
            with suppress(FileNotFoundError):
                os.unlink(self._name + _NEW, dir_fd=folder)
            copy = os.open(
                self._name + _NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder
            )
            try:
                self._begins = self._ends = at
                self._write_head(copy)
                os.rename(self._name + _NEW, self._name + _COPY, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.close(copy)
                with suppress(OSError):
                    os.unlink(self._name + _NEW, dir_fd=folder)
                raise
        if self._copy is not None:
            os.close(self._copy)
        return copy

    def _write_head(self, copy: int) -> None:
        head = Head(begins=self._begins, ends=self._ends, trouble=self._trouble).model_dump_json()
        os.pwrite(copy, head.encode().ljust(HEAD_BYTES - 1) + b"\n", 0)
        os.fdatasync(copy)

    def _give_up(self, error: OSError) -> None:
        """Say why nothing more is shown, and give back the room; it is tried again after a while."""
        why, self._again_at = error.strerror or type(error).__name__, time.monotonic() + SHOW_SECONDS
        if why != self._trouble:
            _log.warning("the log of %s cannot be shown in %s: %s", self._name, self._folder, why)
        self._trouble = why
        with suppress(OSError):
            if self._copy is None:
                self._copy = self._begun(self._ends)
            os.ftruncate(self._copy, HEAD_BYTES)
            self._begins = self._ends
            self._write_head(self._copy)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a worker shows of a log.

    Parameters
    ----------
    begins
        The byte of the log at which ``data`` begins: a later one than was asked for where that is not shown any more.
    trouble
        Why nothing is added for now; empty where it is.
    """

    begins: int
    data: bytes
    trouble: str


class Request:
    """Asks the worker of an attempt for its log; use it as a context, of which nothing stays.

    Parameters
    ----------
    spool, name
        As of :class:`LiveLog`.
    """

    def __init__(self, spool: Path, name: str) -> None:
        self._folder, self._name = spool / LIVE, name
        self._ask_at, self._since = 0.0, time.monotonic()
        self._left: tuple[int, int] | None = None
        self._is_own = False
        self.seen = False
        """Whether the worker has ever taken a request away."""

    @property
    def silent_seconds(self) -> float:
        """For how long what was asked is not seen by the worker."""
        return time.monotonic() - self._since

    def ask(self) -> None:
        """Leave a request where none waits.

        Raises
        ------
        BadFile
            Where it cannot be left.
        """
        now = time.monotonic()
        if now < self._ask_at:
            return
        self._ask_at, before = now + ASK_SECONDS, self._left
        try:
            self._leave()
        except OSError as error:
            raise BadFile(f"nothing can be left in {self._folder}: {error.strerror}", reason="unreadable") from error
        if self._left != before:
            self.seen, self._since = before is not None, now

    def read(self, at: int) -> Shown | None:
        """Return what is shown from a byte of the log on; None where nothing is.

        Raises
        ------
        BadFile
            Where something else stands in its place.
        """
        try:
            with _opened(self._folder) as folder, opened_file(self._name + _COPY, folder) as copy:
                head = Head.model_validate_json(os.pread(copy, HEAD_BYTES, 0))
                begins = max(at, head.begins)
                size = min(2 * KEEP_BYTES, max(0, head.ends - begins))
                return Shown(begins, os.pread(copy, size, HEAD_BYTES + begins - head.begins), head.trouble)
        except (OSError, ValidationError):  # it is begun anew, or has just ended
            return None
        except BadFile as error:
            if error.reason == "missing":
                return None
            raise

    def withdraw(self) -> None:
        """Remove the request, where it is this one's."""
        with suppress(OSError), _opened(self._folder) as folder:
            if self._is_own and _identity(self._name, folder) == self._left:
                os.unlink(self._name, dir_fd=folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.withdraw()

    def _leave(self) -> None:
        self._folder.mkdir(exist_ok=True)
        with _opened(self._folder) as folder:
            try:
                os.close(os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder))
                is_own = True
            except FileExistsError:  # of another who follows, or not seen yet
                is_own = False
            with suppress(FileNotFoundError):
                left = _identity(self._name, folder)
                if left != self._left:
                    self._left, self._is_own = left, is_own


def sweep(spool: Path, *, is_claimed: Callable[[str], bool]) -> None:
    """Remove requests and copies of attempts that are not carried out any more: a process that died left them.

    Parameters
    ----------
    is_claimed
        Whether a process still claims the attempt of this name.
    """
    for path in orphans(spool, is_claimed=is_claimed):
        with suppress(OSError):
            path.unlink()


def orphans(spool: Path, *, is_claimed: Callable[[str], bool]) -> list[Path]:
    """Return what :func:`sweep` would remove."""
    try:
        found = sorted((spool / LIVE).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in found if not is_claimed(path.name.partition(".")[0])]


def _identity(name: str, folder: int) -> tuple[int, int]:
    facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return facts.st_ino, facts.st_mtime_ns


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open the folder, anew each time: so a client of NFS asks its server what is in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
