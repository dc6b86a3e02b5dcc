"""Starting a step under strace, outside of its confinement, and reading what it tells as it comes."""

from __future__ import annotations

import errno
import marshal
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from nightmill.errors import RequestRefused
from nightmill.execution.audit import becoming
from nightmill.execution.audit.calls import MOVES, RUNS, Call, Calls, End, Unreadable, options
from nightmill.execution.audit.traced import Tally, Traced
from nightmill.execution.confine import landlock, spawner_process
from nightmill.execution.confine.rules import Rules
from nightmill.execution.launch.plain import Launch
from nightmill.execution.proc import state_of

PROGRAM: Final = "strace"
_PATIENCE_SECONDS: Final = 60.0
"""How long it may take until a step runs, and until the trace ends once the step has."""
_LOOK_SECONDS: Final = 0.5
_BLOCK: Final = 1 << 16
_REMEDY: Final = "install strace on this host (Debian: strace), or let the campaign have 'execution: {level: standard}'"


@cache
def version() -> str:
    """Return what audits steps on this host, once it was tried.

    Raises
    ------
    RequestRefused
        Where it is not installed, or may not trace.
    """
    if shutil.which(PROGRAM) is None:
        raise RequestRefused(f"steps cannot be audited: the program {PROGRAM!r} is not on this host", remedy=_REMEDY)
    tried = subprocess.run(
        [PROGRAM, "-DDD", *options(["socket"]), "-o", os.devnull, "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        timeout=_PATIENCE_SECONDS,
        check=False,
    )
    if tried.returncode:
        said = tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"]
        raise RequestRefused(
            f"steps cannot be audited: strace fails on this host: {said[-1].removeprefix('strace: ')}",
            remedy="see that processes may be traced (kernel.yama.ptrace_scope at most 1, SYS_PTRACE in a container),"
            " or let the campaign have 'execution: {level: standard}'",
        )
    told = subprocess.run([PROGRAM, "-V"], capture_output=True, encoding="utf-8", errors="replace", check=False).stdout
    return f"{PROGRAM} {told.splitlines()[0].rpartition(' ')[2]}"


class Trace:
    """What strace tells of one step, read as it comes.

    Parameters
    ----------
    directory
        Where the step begins.
    tally
        What takes it in.
    """

    def __init__(self, directory: str, tally: Tally) -> None:
        self._calls = Calls(directory)
        self._tally = tally
        self._step = 0
        self._is_own = self._has_begun = False
        self._fault: int | None = None
        self._is_told = True
        self.begun, self.ended = Event(), Event()
        """Set once the program of the step runs, or never will; once the step has ended, or its trace."""
        self._folder = Path(tempfile.mkdtemp(prefix="nightmill-audit-"))
        self.path = self._folder / "trace"
        """Where strace writes: nothing is ever kept there."""
        os.mkfifo(self.path, 0o600)
        self._reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._writing = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(self._reading, True)
        self._reader = Thread(target=self._read, name="nightmill-audit", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Read no more than is there already, once nobody writes any more."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
            shutil.rmtree(self._folder, ignore_errors=True)

    def wait_for_begin(self, process: int) -> OSError | None:
        """Wait until the program of the step runs; return why it never will.

        Parameters
        ----------
        process
            The number of what is to be the step, not yet waited for.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.begun.wait(_LOOK_SECONDS):
            if time.monotonic() > deadline or state_of(process) in ("", "Z", "X"):
                self.close()  # what was told is read to its end
                self.begun.wait(_PATIENCE_SECONDS)
        self.close()
        if self._has_begun:
            return None
        if self._fault is not None:
            return OSError(self._fault, os.strerror(self._fault))
        return OSError(errno.EPERM, "it could not be audited: strace, or what confines the step, ended before it began")

    def wait_for_end(self) -> None:
        """Wait until the end of the step was told, or the trace has ended."""
        self.ended.wait(_PATIENCE_SECONDS)

    def end(self) -> Traced:
        """Return what it comes to, once all processes of the step have ended."""
        self._reader.join(_PATIENCE_SECONDS)
        return self._tally.traced(whole=self._is_told and self.ended.is_set() and not self._reader.is_alive())

    def _read(self) -> None:
        is_whole = False
        try:
            while block := os.read(self._reading, _BLOCK):
                try:
                    for told in self._calls.read(block):
                        is_whole |= self._take(told)
                except Unreadable:
                    self._is_told = False
        finally:
            self._is_told &= is_whole
            os.close(self._reading)
            self.begun.set()
            self.ended.set()

    def _take(self, told: Call | End) -> bool:
        """Take in what is told; return whether it is the end of the step."""
        self._step = self._step or told.pid
        if isinstance(told, End):
            if told.pid == self._step:
                self.begun.set()
                self.ended.set()
                return True
        elif self._has_begun:
            self._tally.add(told)
        elif told.name in MOVES:
            self._is_own = True
        elif self._is_own and told.name in RUNS:
            if not told.error:
                self._has_begun = True
                self._tally.add(told)
                self.begun.set()
            elif self._fault in (None, errno.ENOENT, errno.ENOTDIR):
                self._fault = getattr(errno, told.error, errno.EPERM)
        return False


def around(trace: Trace, denied: Sequence[str], request: str) -> list[str]:
    """Return the command line of a step: strace, and in it what the step is before it is one."""
    tracer = [shutil.which(PROGRAM) or PROGRAM, "-DDD", *options(denied), "-o", str(trace.path)]
    return [*tracer, "--", sys.executable, "-I", "-S", becoming.__file__, request]


def request_of(launch: Launch, rules: Rules | None) -> str:
    """Return what tells a program what step it is to be, and what it may reach; None for whatever its user can."""
    request: dict[str, Any] = {
        "argv": [os.fsencode(each) for each in launch.argv],
        "directory": os.fsencode(launch.directory),
        "environment": {os.fsencode(name): os.fsencode(value) for name, value in launch.environment.items()},
        "handled": None,
        "spawner": str(Path(spawner_process.__file__).parent),
    }
    if rules is not None:
        places = (*rules.software, *rules.own)
        request |= {
            "handled": landlock.handled(landlock.abi()),
            "paths": [(os.fsencode(path), access) for path, access in places],
            "ports": rules.ports,
            "filter": rules.filter,
            "closes": True,
        }
    return marshal.dumps(request).hex()
