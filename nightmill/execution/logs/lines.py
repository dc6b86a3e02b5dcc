"""The lines of logs as JSON in the spool: what steps print, and what nightmill tells of their attempts.

The step itself writes into its log and knows nothing of it. Its worker reads what is new there whenever it looks at the
step, and adds it to a file of its own. Nothing that fails here is a failure of the attempt.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from nightmill.clock import Clock
from nightmill.execution.evidence import readable
from nightmill.execution.live import ROOM_BYTES
from nightmill.execution.logs.cut import Gap
from nightmill.execution.logs.spooled import LOGS, json_text, make_room, name_of
from nightmill.model.journal import AttemptEntry, Done, NotStaged, Started, StepEnded
from nightmill.model.order import AttemptKey
from nightmill.model.states import AttemptState

FILE_BYTES: Final = 4 << 20
"""A file that has so much is followed by another."""
LOOK_BYTES: Final = 1 << 20
"""So much of a log is read at one look while its step runs."""
BATCH_LINES: Final = 2000
"""So many lines are written at a time."""
LINE_BYTES: Final = 16 << 10
"""A longer line becomes several: receivers take no more than some 64 kB at a time."""
_LEVEL: Final = re.compile(r"\b(?:(DEBUG|TRACE)|(INFO|NOTICE)|(WARN(?:ING)?)|(ERROR|SEVERE)|(FATAL|CRITICAL))\b")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SAID: Final = re.compile(
    r"\W*(?:(warning)|(error|traceback \(most recent|segmentation fault|\w+error:)|(fatal))", re.IGNORECASE
)
_BEGIN: Final = 120
"""In so many first characters a line says its level."""

_log = logging.getLogger("nightmill")


def level_of(line: str) -> str:
    """Return the level that a line says it has, in one of the common ways; INFO where it says none."""
    begin = line[:_BEGIN]
    if (match := _LEVEL.search(begin)) and match.lastindex:
        return _LEVELS[match.lastindex - 1]
    if (match := _SAID.match(begin)) and match.lastindex:
        return _LEVELS[match.lastindex + 1]
    return "INFO"


class LineSpool:
    """The files of one process; safe for use by several threads.

    Parameters
    ----------
    spool
        The spool of the site.
    writer
        Name of the journal of the process.
    host
        Where it runs.
    most_bytes
        How much the files of all processes may take together.
    """

    def __init__(self, spool: Path, writer: str, host: str, most_bytes: int, now: Clock) -> None:
        self._spool, self._most_bytes, self.now = spool, most_bytes, now
        self.writer, self.host = writer, host
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._file: int | None = None
        self._number = self._size = self._lost = self._lost_ever = 0
        self._trouble = ""

    def add(self, line: str) -> None:
        """Add a line, to be written with others."""
        with self._lock:
            self._waiting.append(line)

    def flush(self) -> None:
        """Write what was added. What cannot be written is lost, and counted: a line says so as soon as one can."""
        with self._lock:
            if not self._waiting:
                return
            lines, self._waiting = self._waiting, []
            try:
                while lines:
                    self._write(lines[:BATCH_LINES])
                    del lines[:BATCH_LINES]
                self._trouble = ""
            except OSError as error:
                self._lost += len(lines)
                why = error.strerror or type(error).__name__
                if why != self._trouble:
                    _log.warning("log lines are lost, as %s cannot be written: %s", self._spool / LOGS, why)
                self._trouble = why

    def close(self) -> None:
        """Write what was added, and close the file."""
        self.flush()
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _write(self, lines: Sequence[str]) -> None:
        is_full = self._size >= min(FILE_BYTES, self._most_bytes // 8)
        if self._file is None or is_full or not os.fstat(self._file).st_nlink:
            self._begin()
        assert self._file is not None
        room = os.fstatvfs(self._file)
        if room.f_bavail * room.f_frsize < ROOM_BYTES:
            raise OSError(errno.ENOSPC, f"it leaves {ROOM_BYTES >> 20} MiB to journals")
        lost = [self._lost_line()] if self._lost else []
        data = memoryview("".join(f"{line}\n" for line in [*lost, *lines]).encode())
        size = self._size
        try:
            while data:
                written = os.write(self._file, data)
                size, data = size + written, data[written:]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)  # the next line must not follow a half
            raise
        self._size = size
        self._lost_ever, self._lost = self._lost_ever + self._lost, 0

    def _begin(self) -> None:
        """Begin the next file, where there is room for it."""
        folder = self._spool / LOGS
        folder.mkdir(exist_ok=True)
        path = folder / name_of(self.writer, self._number + 1)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        if self._file is not None:
            os.close(self._file)
        self._file, self._number, self._size = file, self._number + 1, 0
        self._lost += make_room(self._spool, self._most_bytes)

    def _lost_line(self) -> str:
        of = dict.fromkeys(("campaign", "stage", "unit", "job", "step"), "") | {"attempt": 0}
        ever = self._lost_ever + self._lost
        so_far = f" ({ever} by now)" if self._lost_ever else ""
        told = f"{self._lost} log lines were dropped{so_far}: the spool had no more room for them"
        at, number = stamp(self.now()), f"{sha256(self.writer.encode()).hexdigest()[:16]}-lost-{ever}"
        return json_text(
            {"@timestamp": at, "@version": "1", **of, "host": self.host, "id": number, "level": "WARNING"}
            | {"message": told}
        )


class AttemptLines:
    """Makes lines of what is told of one attempt, and of what its steps print.

    Parameters
    ----------
    spool
        Where they go.
    """

    def __init__(self, spool: LineSpool, attempt: AttemptKey) -> None:
        self._spool = spool
        self._of = {
            "@version": "1",
            "campaign": attempt.campaign,
            "stage": attempt.stage,
            "unit": attempt.unit,
            "attempt": attempt.number,
            "job": f"{attempt.campaign}/{attempt.job}",
            "host": spool.host,
        }
        self._id = sha256(f"{attempt} {spool.writer}".encode()).hexdigest()[:16]
        self._step, self._told = "", 0
        self._at = 0

    def tell(self, entry: AttemptEntry) -> None:
        """Add a line of nightmill's own, where an entry of the journal is worth one."""
        if (said := _said_of(entry)) is None:
            return
        self._told += 1
        level, step, message = said
        self._spool.add(self._line(step)(f"e{self._told}", level, message, stamp(entry.at)))
        if isinstance(entry, (StepEnded, Done)):
            self._spool.flush()

    def read(self, log: int, step: str, gap: Gap | None = None, *, last: bool = False) -> None:
        """Add what an open log has more than before: whole lines, the last one also without its end.

        Parameters
        ----------
        step
            Whose lines they are; empty for the one whose lines were read before.
        gap
            What of the log is left out.
        last
            Whether all of it is to be read; else some of it may be left for the next time.
        """
        self._step = step or self._step
        line, at = self._line(self._step), stamp(self._spool.now())
        size = os.fstat(log).st_size
        self._at = min(self._at, size)  # the step may have cut it off
        while True:
            if gap is not None and gap.begin <= self._at < gap.end:
                told = f"{gap.end - self._at} bytes of {self._step} are left out here"
                self._spool.add(line(str(self._at), "WARNING", told, at))
                self._at = gap.end
            end = gap.begin if gap is not None and self._at < gap.begin else size
            block = os.pread(log, min(LOOK_BYTES, end - self._at), self._at)
            is_whole = len(block) == end - self._at and (end < size or last)
            read = len(block) if is_whole or b"\n" not in block[-LINE_BYTES:] else block.rfind(b"\n") + 1
            if not is_whole and read <= LINE_BYTES and b"\n" not in block:
                read = 0  # the line goes on
            for offset, text in _lines(block[:read]):
                if message := readable(text.decode(errors="replace")).rstrip():
                    self._spool.add(line(str(self._at + offset), level_of(message), message, at))
            self._at += read
            self._spool.flush()
            if not read or not last:
                return

    def _line(self, step: str) -> _Line:
        return _Line(self._of | {"step": step}, self._id)


class _Line:
    """Writes lines of a step as JSON: what they share is written once."""

    def __init__(self, of: dict[str, object], attempt: str) -> None:
        self._shared, self._attempt = json_text(of)[1:-1], attempt

    def __call__(self, number: str, level: str, message: str, at: str) -> str:
        begin = f'{{"@timestamp":"{at}",{self._shared},"id":"{self._attempt}-{number}"'
        return f'{begin},"level":"{level}","message":{json_text(message)}}}'


def stamp(at: datetime) -> str:
    """Write a time as sinks take it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lines(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a block with their places; a bar that is drawn over is one each time, a long one several."""
    at = 0
    for line in block.replace(b"\r", b"\n").split(b"\n"):
        for begin in range(0, len(line), LINE_BYTES):
            yield at + begin, line[begin : begin + LINE_BYTES]
        at += len(line) + 1


def _said_of(entry: AttemptEntry) -> tuple[str, str, str] | None:
    """Return level, step and message of what an entry tells; None where it is for the journal alone."""
    if isinstance(entry, Started):
        return "INFO", "", f"attempt a{entry.attempt.number:02d} begins"
    if isinstance(entry, NotStaged):
        return "ERROR", "", "; ".join(f"{each.name} of {each.store}: {each.why}" for each in entry.passed_over)
    if isinstance(entry, StepEnded):
        how = f"exited with code {entry.exit_code}" if entry.signal is None else f"was ended by signal {entry.signal}"
        level = "INFO" if entry.exit_code == 0 else "WARNING" if entry.accepted else "ERROR"
        accepted = f", accepted as {entry.accepted}" if entry.accepted else ""
        return level, entry.step, f"step {entry.step} {how} after {entry.cost.wall_seconds:.3f} s{accepted}"
    if isinstance(entry, Done):
        level = "INFO" if entry.state is AttemptState.PUBLISHED else "ERROR"
        return level, entry.step, f"attempt {entry.state}: {entry.fate}{': ' if entry.evidence else ''}{entry.evidence}"
    return None
