"""What a trace comes to: which of its files a step opened, and what it tried to reach beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nightmill.execution.audit.calls import CHANGES, FOLLOWED, LINKS, MOUNTS, OPENS, RUNS, Call
from nightmill.execution.confine.landlock import READ_DIR, READ_FILE, WRITE_FILE
from nightmill.execution.confine.places import Place
from nightmill.model.layout import INPUTS, OUTPUTS

LISTED: Final = 100
"""How many paths are kept that a step tried to reach, each once; beyond, they are counted."""
_LOADED: Final = 10_000
"""How many programs and libraries are kept, and processes known."""
_LIBRARY: Final = re.compile(r"\.so(?:\.[\w.-]+)?$")
_ROOT: Final = re.compile(r"/proc/(?:self|thread-self|\d+)(?:/task/\d+)?/root(?=/|$)")
_OF_PROCESS: Final = re.compile(r"/proc/(\d+)/(?:task/\d+/)?(?:auxv|environ|fd|map_files|maps|mem|smaps)(?=/|$)")
"""What is of a process alone."""
_ITSELF: Final = re.compile(r"/proc/(?:self|thread-self)(?=/|$)")
_NETWORKS: Final = ("AF_INET", "AF_INET6", "AF_PACKET", "AF_VSOCK")
_DEVICES: Final = ("/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr")
"""What a program has of its own in the folder of devices, beside what is open to every step."""


@dataclass(frozen=True)
class Traced:
    """What a trace comes to.

    Parameters
    ----------
    whole
        Whether it was told to the end of the step: else anything may have happened.
    opened
        The files that were opened, of those that were asked for.
    reached
        Paths beside what the step was given that it tried to reach, whether or not it could, in their order.
    more
        How many further ones there were.
    absent
        Paths among its inputs, and among the outputs of steps before it, where it looked for a file and there is none.
    networks
        Kinds of networks that it asked for, as ``AF_INET``, and was denied.
    libraries
        Programs and shared objects that it ran and loaded.
    """

    whole: bool
    opened: frozenset[str] = frozenset()
    reached: tuple[str, ...] = ()
    more: int = 0
    absent: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


class Tally:
    """Takes in calls one by one; what it keeps is bounded, however many there are.

    Parameters
    ----------
    places
        What the step may reach, with the rights of :mod:`nightmill.execution.confine.landlock`.
    scratch
        Of its job: what is changed there is found by its seals.
    asked
        Files that are looked for among what is opened.
    searched
        Folders where programs and libraries are looked for: one that is not found there, nobody wanted to read.
    """

    def __init__(
        self, places: Iterable[Place], scratch: str, asked: Iterable[str], searched: Iterable[str] = ()
    ) -> None:
        self._searched = frozenset(searched)
        self._rights: dict[str, int] = dict.fromkeys(_DEVICES, READ_FILE | WRITE_FILE | READ_DIR)
        for path, rights in places:
            self._rights[path] = self._rights.get(path, 0) | rights
        self._scratch = f"{scratch}/"
        self._staged = (f"{scratch}/{INPUTS}/", f"{scratch}/{OUTPUTS}/")
        self._asked = frozenset(asked)
        self._opened: set[str] = set()
        self._reached: dict[str, None] = {}
        self._absent: dict[str, None] = {}
        self._more: set[int] = set()
        self._own: set[int] = set()
        self._networks: dict[str, None] = {}
        self._libraries: dict[str, None] = {}

    def add(self, call: Call) -> None:
        """Take in a call."""
        if len(self._own) < _LOADED:
            self._own.add(call.pid)
        if call.name in OPENS:
            self._add_opened(call)
        elif call.name == "socket":
            if call.error and call.family in _NETWORKS:
                self._networks.setdefault(call.family)
        elif call.name in RUNS:
            self._add_run(call)
        elif call.name in (*CHANGES, *LINKS):
            for place, path in enumerate(call.paths):
                self._look(path, call, WRITE_FILE if place or call.name in CHANGES else READ_FILE)
        elif call.name in MOUNTS and not call.error:
            for path in call.paths[:2]:
                self._note(path)

    def _add_run(self, call: Call) -> None:
        for path in call.paths[:1]:
            self._look(path, call, READ_FILE)
            if not call.error:
                self._load(os.path.realpath(path))

    def _add_opened(self, call: Call) -> None:
        for path in call.paths:
            self._look(path, call, WRITE_FILE if call.writes else READ_FILE)
            if not call.error:
                if path in self._asked:
                    self._opened.add(path)
                if _LIBRARY.search(path):
                    self._load(path)

    def traced(self, *, whole: bool) -> Traced:
        """Return what it comes to."""
        return Traced(
            whole,
            frozenset(self._opened),
            tuple(self._reached),
            len(self._more),
            tuple(self._absent),
            tuple(self._networks),
            tuple(self._libraries),
        )

    def _look(self, path: str, call: Call, right: int) -> None:
        """Note a path that is not given; one that is given to be read may be asked for more, in vain."""
        path = _ROOT.sub("", path, count=1) or "/"
        if not path.startswith("/"):  # a pipe or a socket, by its descriptor
            return
        if (process := _OF_PROCESS.match(path)) is not None and int(process[1]) not in self._own:
            self._note(path)
        if call.name not in OPENS or call.error:
            path = _resolved(path, call)
        if call.error == "ENOENT" and right == READ_FILE and path.startswith(self._staged):
            if len(self._absent) < LISTED:
                self._absent.setdefault(path)
            return
        if self._is_open(path, right) or (call.error and path.rpartition("/")[0] in self._searched):
            return
        in_vain = call.error or path.startswith(self._scratch)
        if right == WRITE_FILE and in_vain and self._is_open(path, READ_FILE):
            return
        if (call.folder or Path(path).is_dir()) and self._is_open(path, READ_DIR):
            return
        self._note(path)

    def _is_open(self, path: str, right: int) -> bool:
        while True:
            if self._rights.get(path, 0) & right:
                return True
            if path == "/":
                return False
            path = path.rpartition("/")[0] or "/"

    def _note(self, path: str) -> None:
        if path in self._reached:
            return
        if len(self._reached) < LISTED:
            self._reached[path] = None
        elif len(self._more) < _LOADED:
            self._more.add(hash(path))

    def _load(self, path: str) -> None:
        if len(self._libraries) < _LOADED:
            self._libraries.setdefault(path)


def _resolved(path: str, call: Call) -> str:
    """Return where a path leads, as far as that can be seen now; where strace does not tell what it was in truth."""
    path = _ITSELF.sub(f"/proc/{call.pid}", path, count=1)
    if call.name not in CHANGES or call.name in FOLLOWED:
        return os.path.realpath(path)
    folder, _, name = path.rpartition("/")
    return f"{os.path.realpath(folder or '/').rstrip('/')}/{name}"
