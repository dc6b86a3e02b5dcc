"""A witness of what a step opens: the kernel itself, by inotify, with one event a file at most.

A watch is on a file, not on its name: whoever opens it under whatever name, by a hard link, to map it or to run it, is
seen. It ends with the first event, so that no step can flood it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

_OPEN: Final = 0x20
_OVERFLOW: Final = 0x4000
_DONT_FOLLOW: Final = 0x02000000
_ONESHOT: Final = 0x80000000
_EVENT: Final = struct.Struct("iIII")
_FILES_AT_A_TIME: Final = 4000
"""The files of one queue, each of which may have two events there; the kernel's default length is 16,384."""
_READ_BYTES: Final = 1 << 16


class _Queue:
    """A queue of events of the kernel. It is used again and again: closing one takes the kernel some 10 ms."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.descriptor: int = _libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise _last_error()

    def add(self, path: str) -> int:
        """Watch a file, and return the number by which events name it."""
        number: int = _libc().inotify_add_watch(
            self.descriptor, os.fsencode(path), ctypes.c_uint32(_OPEN | _DONT_FOLLOW | _ONESHOT)
        )
        if number < 0:
            raise _last_error()
        return number

    def events(self) -> Iterator[tuple[int, int]]:
        """Take every event that waits: the number of its watch, and what happened."""
        while True:
            try:
                data = os.read(self.descriptor, _READ_BYTES)
            except BlockingIOError:
                return
            place = 0
            while place < len(data):
                number, mask, _cookie, length = _EVENT.unpack_from(data, place)
                yield number, mask
                place += _EVENT.size + length

    def forget(self, numbers: set[int]) -> None:
        """End watches, and take the events of their ends."""
        for number in numbers:
            _libc().inotify_rm_watch(self.descriptor, number)  # of a file that was removed, it has ended by itself
        for _event in self.events():
            pass


_idle: Final[deque[_Queue]] = deque()
"""Queues of this process that nobody uses now."""


class Witness:
    """Sees which of some files are opened, from when it is made until it is asked.

    Parameters
    ----------
    files
        Names to paths. Where one of them cannot be watched, none is: nobody is to take what was not looked at for what
        was not opened.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._queues: list[tuple[_Queue, dict[int, list[str]]]] = []
        names = list(files)
        self._sees = True
        try:
            for first in range(0, len(names), _FILES_AT_A_TIME):
                queue, watched = _taken(), dict[int, list[str]]()
                self._queues.append((queue, watched))
                for name in names[first : first + _FILES_AT_A_TIME]:
                    watched.setdefault(queue.add(files[name]), []).append(name)
        except OSError:
            self._sees = False

    def end(self) -> frozenset[str] | None:
        """Look no longer, and return the names of the files that were opened; None where it cannot be known."""
        opened: set[str] = set()
        while self._queues:
            queue, watched = self._queues.pop()
            waiting = set(watched)
            for number, mask in queue.events():
                self._sees = self._sees and not mask & _OVERFLOW
                if mask & _OPEN:
                    opened.update(watched.get(number, ()))
                waiting.discard(number)
            queue.forget(waiting)
            _idle.append(queue)
        return frozenset(opened) if self._sees else None


def _taken() -> _Queue:
    """Take a queue that waits, or a new one; one of a process that forked to this is that other's."""
    while _idle:
        try:
            queue = _idle.pop()
        except IndexError:  # another thread was faster
            break
        if queue.process == os.getpid():
            return queue
    return _Queue()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
