"""Journal files: written by one process, read by anyone at any time."""

from __future__ import annotations

import errno
import gzip
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError

from nightmill.errors import NightmillError, ServiceError
from nightmill.execution.claims import Claim, Claims, sync_folder
from nightmill.execution.owner import this_process
from nightmill.model.journal import ENTRY, Entry, JournalHeader, Owner
from nightmill.model.order import AttemptKey

SUFFIX: Final = ".jsonl"
COMPRESSED: Final = ".gz"
"""Added to the name of a journal that is recorded and was compressed."""
RECORDED: Final = "recorded"
"""Folder of the spool for the journals of dead processes whose every entry is recorded."""
_ATTEMPT: Final = re.compile(rb'"attempt": *(\{[^{}]*\})')


class JournalBroken(NightmillError):
    """A journal file is damaged before its last line."""


class SpoolAway(ServiceError):
    """The spool cannot be used: a job that cannot tell what it does must not go on."""


class JournalWriter:
    """Appends entries to a new journal file in a spool.

    Safe for use by several threads. An entry is in the file when :meth:`append` returns, and on the disk when a later
    :meth:`sync` has returned. The file gets its name when its first line is durable, so one that has none was left by a
    dead process.

    Parameters
    ----------
    spool
        Folder that outlives the process: shared storage, never scratch.
    listener
        Called with each entry after it was appended.
    dispatch
        The dispatch that it is of.

    Raises
    ------
    SpoolAway
        Here and in each method, where the spool cannot be written. Half an entry is never left behind; where it cannot
        be known what is on the disk, nothing more is written.
    """

    def __init__(self, spool: Path, *, listener: Callable[[Entry], None] | None = None, dispatch: str = "") -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._unsynced = False
        self._sound = True
        self._size = 0
        owner = this_process()
        now = datetime.now(UTC)
        self.path = spool / f"{now:%Y%m%dT%H%M%S%f}-{owner.host}-{owner.pid}.jsonl"
        unnamed = self.path.with_suffix(".new")
        with self._told():
            spool.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(unnamed, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                header = JournalHeader(owner=owner, begun_at=now, writer=self.path.stem, dispatch=dispatch)
                self._write(header.model_dump_json())
                self._sync()
                unnamed.rename(self.path)
                sync_folder(spool)
            except OSError:
                os.close(self._descriptor)
                unnamed.unlink(missing_ok=True)
                raise
        self._claims = Claims(spool, Claim(journal=self.path.stem, owner=owner, begun_at=now, dispatch=dispatch))

    @property
    def name(self) -> str:
        """The writer's name, which no other has."""
        return self.path.stem

    def claim(self, attempts: Iterable[AttemptKey]) -> dict[AttemptKey, Claim | None]:
        """Claim attempts for this writer, durably; see :meth:`nightmill.execution.claims.Claims.take`."""
        with self._told():
            return self._claims.take(attempts)

    def release_claims(self) -> None:
        """End the claims of this writer, whose every entry is recorded."""
        with self._told():
            self._claims.release()

    def append(self, entry: Entry) -> None:
        """Append one entry."""
        line = entry.model_dump_json()
        with self._lock, self._told():
            self._write(line)
        if self._listener is not None:
            self._listener(entry)

    def sync(self) -> None:
        """Make everything that was appended durable."""
        with self._lock, self._told():
            if self._unsynced:
                self._sync()

    def close(self) -> None:
        """Make everything durable and close the file."""
        try:
            self.sync()
        finally:
            os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: str) -> None:
        data = (line + "\n").encode()
        left = memoryview(data)
        self._must_be_sound()
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            self._sound = False
            os.ftruncate(self._descriptor, self._size)  # the next entry must not follow a half
            self._sound = True
            raise
        self._size += len(data)
        self._unsynced = True

    def _sync(self) -> None:
        self._must_be_sound()
        self._sound = False  # after an error the system takes what was not written for written
        os.fsync(self._descriptor)
        self._sound = True
        self._unsynced = False

    def _must_be_sound(self) -> None:
        if not self._sound:
            raise OSError(errno.EIO, "its disk failed before")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpoolAway(
                f"the journal {self.path} cannot be written: {error.strerror}",
                remedy="make room in the spool or mend its disk; what was published is found when the spool is drained",
            ) from error


@dataclass(frozen=True)
class Damage:
    """A line of a journal that is not an entry."""

    line: int
    what: str
    attempt: AttemptKey | None
    """Of which attempt it told; None where nothing of it can be read, so that it may be any."""


@dataclass(frozen=True)
class Journal:
    """What a journal file says so far."""

    path: Path
    header: JournalHeader | None
    """None where the writer died before its first line was whole, or that line is damaged."""
    entries: tuple[Entry, ...]
    damage: tuple[Damage, ...] = ()
    """Lines before the last that are not entries; the others count."""

    def wrote(self, owner: Owner) -> bool:
        """Whether a process may be the writer: by the first line, or by the file's name where that is damaged."""
        if self.header is not None:
            return self.header.owner == owner
        return self.path.stem.endswith(f"-{owner.host}-{owner.pid}")


def read_journal(path: Path) -> Journal:
    """Read a journal file, which may still grow, may end in half a line, and may be damaged or compressed.

    Raises
    ------
    JournalBroken
        Where it cannot be decompressed.
    """
    whole, _, _torn = _content(path).rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    header: JournalHeader | None = None
    entries: list[Entry] = []
    damage: list[Damage] = []
    for number, line in enumerate(lines, start=1):
        try:
            if number == 1:
                header = JournalHeader.model_validate_json(line)
            else:
                entries.append(ENTRY.validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "the line"
            damage.append(Damage(number, f"it is not a journal entry: {key}: {first['msg']}", _attempt_in(line)))
    return Journal(path, header, tuple(entries), tuple(damage))


def read_whole_journal(path: Path) -> Journal:
    """Read a journal file as :func:`read_journal` does; a damaged one is not read.

    Raises
    ------
    JournalBroken
        Where a line before the last is not an entry, or it cannot be decompressed.
    """
    journal = read_journal(path)
    for damage in journal.damage:
        raise JournalBroken(
            f"{path}:{damage.line}: {damage.what}",
            remedy="mend the line or set the file aside; the jobs that it names can be rerun",
        )
    return journal


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != COMPRESSED:
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise JournalBroken(
            f"{path}: it cannot be decompressed: {error}", remedy="set the file aside and tell the developers"
        ) from error


def _attempt_in(line: bytes) -> AttemptKey | None:
    """Return the attempt that a damaged line names, as far as that can still be read."""
    match = _ATTEMPT.search(line)
    with suppress(ValidationError):
        return AttemptKey.model_validate_json(match[1]) if match else None
    return None


def append_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Append entries, durably, to a journal whose writer is dead; a torn last line is cut off first.

    A writer that is only taken for dead, and comes back, may append to it as well: no line of the two is mixed.
    """
    with path.open("rb") as before:
        torn = before.read().rpartition(b"\n")[2]
    with path.open("ab", buffering=0) as file:
        if torn:
            file.truncate(path.stat().st_size - len(torn))
        left = memoryview(b"".join([entry.model_dump_json().encode() + b"\n" for entry in entries]))
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())


def journals(spool: Path) -> Iterator[Path]:
    """Yield the journal files of a spool, oldest first."""
    if spool.is_dir():
        yield from sorted(spool.glob("*.jsonl"))


def recorded_journals(spool: Path) -> Iterator[Path]:
    """Yield the journal files that are recorded to their end, compressed or not, oldest first."""
    folder = spool / RECORDED
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.name.endswith((SUFFIX, SUFFIX + COMPRESSED)))


def set_aside(path: Path) -> None:
    """Move a journal that is recorded to its end out of the way of the next drain."""
    target = path.parent / RECORDED
    target.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):  # somebody took it for damaged, and set it apart
        path.rename(target / path.name)
