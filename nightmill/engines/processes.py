"""Processes of this host: a worker process a dispatch, the simplest of carriers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from pydantic import Field, ValidationError

from nightmill.errors import RequestRefused
from nightmill.execution.dispatches import OUTPUT
from nightmill.execution.host import this_host
from nightmill.execution.owner import host_name, is_alive, owner_of
from nightmill.model.base import Frozen
from nightmill.model.dispatch import Dispatch, Standing
from nightmill.model.fate import Fate
from nightmill.model.journal import Owner

_OWN_ENDS: Final = (0, 1)
"""How a worker exits that has told everything."""
_TOLD: Final = 128 + signal.SIGTERM


class ProcessOptions(Frozen):
    """How many processes there are."""

    workers: int = Field(default=0, ge=0)
    """Worker processes at a time; 0 for one a core of the host."""


class Processes:
    """``processes``: each dispatch is carried out by a process of its own, on the host of its slice.

    A process outlives the one that started it. How it ended only that one can tell; another can tell that it did.
    """

    Options: Final = ProcessOptions
    look_seconds: Final = 0.25
    dispatch_seconds: Final = 0.5  # an interpreter starts, and imports what a worker needs

    def __init__(self, name: str, options: ProcessOptions) -> None:
        self._name = name
        self.places = options.workers or this_host().cores
        self._running: dict[str, Owner] = {}
        self._ended: dict[str, Standing] = {}

    def submit(self, dispatches: Sequence[Dispatch]) -> list[str]:
        """Start a process for each."""
        self._reap()
        for dispatch in dispatches:
            if barred := dispatch.hosts.bar(host_name()):
                raise RequestRefused(
                    f"engine {self._name!r} has this host alone: {barred}", remedy="use another engine"
                )
        return [self._start(dispatch) for dispatch in dispatches]

    def _start(self, dispatch: Dispatch) -> str:
        told = dispatch.folder / OUTPUT
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", *dispatch.argv],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        owner = owner_of(pid)
        handle = owner.model_dump_json()
        self._running[handle] = owner
        return handle

    def _reap(self) -> None:
        """See which children have ended."""
        for handle, owner in list(self._running.items()):
            try:
                pid, status = os.waitpid(owner.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else in this process has heard how it ended
                del self._running[handle]
                continue
            if pid:
                del self._running[handle]
                self._ended[handle] = _ended(owner, os.waitstatus_to_exitcode(status))

    def look(self, handles: Sequence[str]) -> dict[str, Standing]:
        """Ask the kernel for each process."""
        self._reap()
        return {handle: self._ended.get(handle) or _look(handle) for handle in handles}

    def end(self, handles: Sequence[str]) -> None:
        """Send SIGTERM to each process that runs."""
        for owner in map(_owner, handles):
            if owner is not None and is_alive(owner):
                with suppress(ProcessLookupError):
                    os.kill(owner.pid, signal.SIGTERM)

    def find(self, names: Sequence[str]) -> Mapping[str, str]:
        """Find none: a second process for a dispatch would do nothing."""
        return {}

    def close(self) -> None:
        """Leave those alone that run."""
        self._reap()


def _look(handle: str) -> Standing:
    """Tell of a process that runs, or that another one started."""
    owner = _owner(handle)
    alive = is_alive(owner) if owner is not None else None
    if owner is None or alive is None:
        return Standing(state="unknown")
    if alive:
        return Standing(state="running", host=owner.host)
    told_here = "how it ended only the process that started it could tell"
    evidence = f"worker process {owner.pid} on {owner.host} is gone; {told_here}"
    return Standing(state="ended", host=owner.host, fate=Fate.LOST, evidence=evidence)


def _owner(handle: str) -> Owner | None:
    try:
        return Owner.model_validate_json(handle)
    except ValidationError:
        return None


def _ended(owner: Owner, code: int) -> Standing:
    host = owner.host
    who = f"worker process {owner.pid} on {host}"
    if code in _OWN_ENDS:
        return Standing(state="ended", host=host, unfit=bool(code))
    if code in (_TOLD, -signal.SIGTERM):
        evidence = f"{who} was told to end by somebody who is not nightmill (SIGTERM)"
        return Standing(state="ended", host=host, fate=Fate.ENDED_OUTSIDE, evidence=evidence)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    return Standing(state="ended", host=host, fate=Fate.LOST, evidence=f"{who} {how}", unfit=code > 0)
