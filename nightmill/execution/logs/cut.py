"""The log of an attempt while it is written: of what a huge step prints both ends are kept, the middle is given back.

The step writes to a plain file that it appends to, whatever this process does. The middle becomes a hole in the file:
its bytes keep their places, and nothing that stands behind it moves.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

HURRIED_SECONDS: Final = 0.05
"""A log that grows fast is looked at again so soon."""
_BLOCK_BYTES: Final = 1 << 20
_PAGE_BYTES: Final = 4096
_LINE_BYTES: Final = 1 << 16
"""No cut looks further than that for the end of a line."""
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_LEFT_OUT: Final = re.compile(rb"^== (\d+) bytes \((\d+) lines\) of \S+ are left out here$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a log that is left out.

    Parameters
    ----------
    begin, end
        Its first byte, and the one behind its last.
    lines
        Ends of lines in it.
    """

    step: str
    begin: int
    end: int
    lines: int

    def __str__(self) -> str:
        return f"== {self.end - self.begin} bytes ({self.lines} lines) of {self.step} are left out here"


class StepLog:
    """What one step writes to an open log.

    Parameters
    ----------
    start
        The first byte of the log that is the step's.
    max_bytes
        How much of it is kept.
    heading
        What stands before that byte, by which it is seen that the step did not cut it off.
    """

    def __init__(self, log: int, step: str, start: int, max_bytes: int, heading: bytes = b"") -> None:
        self.log, self.step, self.start = log, step, start
        self._half, self._heading = max_bytes // 2, heading
        self._seen = start
        self.gap: Gap | None = None
        self.lost_bytes = 0
        """At least so many bytes the step cut off."""
        self.trouble = ""
        """Why the middle takes room until the step has ended; empty where it does not."""

    def look(self) -> bool:
        """Take out what is too much by now; return whether the log grows so fast that it is to be looked at soon."""
        size = os.fstat(self.log).st_size
        if size < self._seen:
            self._cut_off(size)
        grew, self._seen = size - self._seen, size
        begin = self.gap.end if self.gap else _up(self.start + self._half)
        end = (size - self._half) // _PAGE_BYTES * _PAGE_BYTES
        if size - self.start > 2 * self._half and end > begin:
            self._take_out(begin, end)
        return grew > self._half // 4

    def end(self) -> None:
        """Look for the last time: the step has ended. Whether the heading stands is seen, too."""
        self.look()
        at = self.start - len(self._heading)
        if self._heading and os.pread(self.log, len(self._heading), at) != self._heading:
            self.lost_bytes = max(self.lost_bytes, self.start)
            self.start = 0

    def kept(self, most: int) -> tuple[bytes, bytes]:
        """Return the first and the last of what the step wrote, each of so many bytes at most; nothing twice."""
        size = os.fstat(self.log).st_size
        begins, ends = (self.gap.end, self.gap.begin) if self.gap else (self.start, size)
        at = max(begins, size - most)
        head = os.pread(self.log, max(0, min(most, min(ends, at) - self.start)), self.start)
        return head, os.pread(self.log, max(0, size - at), at)

    def _take_out(self, begin: int, end: int) -> None:
        lines = sum(block.count(b"\n") for block in blocks(self.log, begin, end))
        first, before = (self.gap.begin, self.gap.lines) if self.gap else (begin, 0)
        self.gap = Gap(self.step, first, end, before + lines)
        if not self.trouble:
            try:
                punch(self.log, begin, end)
            except OSError as error:
                self.trouble = error.strerror or type(error).__name__

    def _cut_off(self, size: int) -> None:
        self.lost_bytes += self._seen - size
        self._seen = size
        if self.gap is not None and self.gap.end > size:
            self.gap = None


def _up(at: int) -> int:
    return -(-at // _PAGE_BYTES) * _PAGE_BYTES


def blocks(log: int, begin: int, end: int) -> Iterator[bytes]:
    """Yield what an open file has between two bytes, a block at a time."""
    while begin < end and (block := os.pread(log, min(_BLOCK_BYTES, end - begin), begin)):
        begin += len(block)
        yield block


def punch(file: int, begin: int, end: int) -> None:
    """Give the room of a part of an open file back to its disk: it reads as zeros from then on.

    Raises
    ------
    OSError
        Where its file system cannot do that.
    """
    if _fallocate()(file, _KEEP_SIZE | _PUNCH_HOLE, begin, end - begin):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _fallocate() -> Any:
    try:
        found = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError as error:  # another C library
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    found.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return found


def compact(log: int, gaps: Sequence[Gap], target: int) -> None:
    """Write a log without its gaps to an empty file; a line stands in the place of each, between whole lines."""
    at, size = 0, os.fstat(log).st_size
    for gap in [*(_at_lines(log, gap, size) for gap in gaps), None]:
        for block in blocks(log, at, gap.begin if gap else size):
            _write(target, block)
        if gap is not None:
            _write(target, f"{gap}\n".encode())
            at = gap.end


def _at_lines(log: int, gap: Gap, size: int) -> Gap:
    """Return a gap that begins and ends between lines, where these are not too long; it is no smaller."""
    before = os.pread(log, min(_LINE_BYTES, gap.begin), max(0, gap.begin - _LINE_BYTES))
    after = os.pread(log, min(_LINE_BYTES, size - gap.end), gap.end)
    begin = gap.begin - len(before) + before.rfind(b"\n") + 1 if b"\n" in before else gap.begin
    end = gap.end + after.find(b"\n") + 1
    return Gap(gap.step, begin, end, gap.lines + (1 if end > gap.end else 0))


def _write(target: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]


def place_in_compact(log: int, at: int) -> int:
    """Return where a byte of a log as it was written stands in what :func:`compact` made of it.

    Of a byte that was left out, that is where the line stands that says so.
    """
    size, moved = os.fstat(log).st_size, 0
    for match in _LEFT_OUT.finditer(os.pread(log, size, 0)):
        if at + moved <= match.start():
            break
        left_out = int(match[1])
        if at + moved < match.start() + left_out:
            return match.start()
        moved += len(match[0]) + 1 - left_out
    return at + moved


def next_data(log: int, at: int) -> int:
    """Return the first byte from one on that is not in a hole; the end of the file where none is."""
    return _seek(log, at, os.SEEK_DATA)


def next_hole(log: int, at: int) -> int:
    """Return the first byte from one on that is in a hole; the end of the file where none is."""
    return _seek(log, at, os.SEEK_HOLE)


def _seek(log: int, at: int, what: int) -> int:
    try:
        return os.lseek(log, at, what)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return max(at, os.fstat(log).st_size)
