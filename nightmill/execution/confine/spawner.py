"""The worker's end of the processes that start its steps, each one step at a time."""

from __future__ import annotations

import marshal
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final

from nightmill.execution.confine import landlock, seccomp, spawner_process
from nightmill.execution.confine.groups import Group, joined
from nightmill.execution.confine.landlock import CHANGE
from nightmill.execution.confine.places import Place
from nightmill.execution.confine.rules import Rules
from nightmill.execution.launch.plain import Launch, Outcome, Process
from nightmill.execution.proc import all_processes
from nightmill.model.observed import Confined, Level

Limits = tuple[tuple[int, int], ...]

END_SECONDS: Final = 5.0
_NOTHING: Final[Mapping[str, str]] = {}
KILLED: Final = b"\n== the process that starts the steps of this worker was killed, and the step with it\n"


class NotConfined(OSError):
    """A step could not be confined as it is to be."""


class Spawner:
    """A process that starts steps; see :mod:`nightmill.execution.confine.spawner_process`.

    Parameters
    ----------
    limits
        Those of steps.
    program
        Its command line, but for the descriptor that comes first of all arguments; by default nothing is imported.
    arguments
        Those that follow.
    environment, output
        Those that it has.
    folder
        Where it works, which is removed with it; by default it has none.
    confines
        Whether its steps are confined.
    group
        The control group that is to be its own, and is removed with it.

    Raises
    ------
    OSError
        Where it cannot be begun.
    """

    def __init__(
        self,
        limits: Limits,
        program: Sequence[str] = (),
        *arguments: str,
        environment: Mapping[str, str] = _NOTHING,
        folder: Path | None = None,
        output: int = subprocess.DEVNULL,
        confines: bool = True,
        group: Group | None = None,
    ) -> None:
        self._software: tuple[Place, ...] | None = None
        self._folder = folder
        self._control, theirs = socket.socketpair()
        cold = (sys.executable, "-I", "-S", spawner_process.__file__)
        with theirs:
            self._process = subprocess.Popen(
                [*(program or cold), str(theirs.fileno()), *arguments],
                cwd=folder or "/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.group = joined(group or Group(), self._process.pid)
        version = landlock.abi()
        try:
            fault = self._ask((landlock.handled(version), limits, confines, bool(self.group.folders)))
        except ConnectionError:
            self.close()
            raise
        holds = [f"landlock {version}"] if version else []
        holds += [] if seccomp.lacking() else ["seccomp"]
        lacks = [*landlock.lacking(version), *seccomp.lacking()]
        if fault:
            lacks.append(
                "mode and times of files outside can be changed, and memory of System V shared: this host lets nobody"
                f" mount ({fault})"
            )
        self.confined = Confined(
            level=Level.STANDARD,
            by=(*holds, *([] if fault else ["mounts"]), *self.group.by),
            lacking=(*lacks, *self.group.lacking),
        )
        """How it confines steps."""

    def prepare(self, folder: Path, rules: Rules | None, *, seconds: float) -> str:
        """Have it do what it does before its first step, in a folder; it says why there can be no step, or nothing.

        Raises
        ------
        TimeoutError
            Where it does not say so in time.
        ConnectionError
            Where it ends.
        """
        own = (
            None
            if rules is None
            else replace(rules, own=((str(folder), CHANGE),), writable=(str(folder),), sealed=(), empty=())
        )
        self._control.settimeout(seconds)
        try:
            return str(self._ask({"directory": os.fsencode(folder), **self._confining(own)}))
        finally:
            self._control.settimeout(None)

    def start(self, launch: Launch, rules: Rules | None, *, seconds: float | None = None) -> int:
        """Start a step and return its number.

        Parameters
        ----------
        rules
            What it may reach; None for whatever its user can.
        seconds
            How long to wait for it.

        Raises
        ------
        NotConfined
            Where it cannot be confined.
        OSError, ValueError
            Where the program cannot be executed.
        TimeoutError
            Where it does not begin in time.
        ConnectionError
            Where the process has ended.
        """
        argv, environment = [os.fsencode(each) for each in launch.argv], _encoded(launch)
        if any(b"\0" in each for each in (*argv, *environment, *environment.values())):
            raise ValueError("embedded null byte")
        request = {
            "argv": argv,
            "directory": os.fsencode(launch.directory),
            "environment": environment,
            **self._confining(rules),
        }
        try:
            self.group.begin(None if rules is None else rules.memory_bytes)
        except OSError as error:
            raise NotConfined(error.errno, error.strerror) from error
        self._control.settimeout(seconds)
        answer = self._ask(request, launch.output)
        self._control.settimeout(None)
        if isinstance(answer, int):
            return answer
        stage, number = answer
        if stage == "confine":
            raise NotConfined(number, os.strerror(number))
        raise OSError(number, os.strerror(number), launch.argv[0])

    def _confining(self, rules: Rules | None) -> dict[str, Any]:
        """Return the part of a request that confines; software is said where it is other than before."""
        if rules is None:
            return {
                "paths": None,
                "software": (),
                "writable": [],
                "sealed": [],
                "empty": [],
                "ports": None,
                "filter": b"",
                "closes": False,
            }
        software = None if rules.software == self._software else _bytes(rules.software)
        self._software = rules.software
        return {
            "software": software,
            "paths": _bytes(rules.own),
            "writable": [os.fsencode(each) for each in rules.writable],
            "sealed": [os.fsencode(each) for each in rules.sealed],
            "empty": [os.fsencode(each) for each in rules.empty],
            "ports": rules.ports,
            "filter": rules.filter,
            "closes": rules.closes,
        }

    @property
    def is_dead(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def end(self, spared: int = 0) -> Outcome:
        """End all that is left of its step, but for what traces it, and return how the step itself ended.

        Raises
        ------
        ConnectionError
            Where the process has ended.
        """
        status, user, system, max_rss_bytes = self._ask(spared)
        return Outcome(os.waitstatus_to_exitcode(status), user, system, max_rss_bytes)

    def close(self) -> None:
        """End it, and whatever it started."""
        self._control.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.group.remove()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.close()

    def _ask(self, value: Any, *descriptors: int) -> Any:
        body = marshal.dumps(value)
        socket.send_fds(self._control, [len(body).to_bytes(spawner_process.LENGTH, "little")], descriptors)
        self._control.sendall(body)
        length = self._control.recv(spawner_process.LENGTH, socket.MSG_WAITALL)
        size = int.from_bytes(length, "little")
        answer = self._control.recv(size, socket.MSG_WAITALL)
        if not size or len(answer) < size:
            raise ConnectionResetError("it ended")
        return marshal.loads(answer)  # noqa: S302 - of a process of our own


def _encoded(launch: Launch) -> dict[bytes, bytes]:
    if any("=" in name for name in launch.environment):
        raise ValueError("illegal environment variable name")
    return {os.fsencode(name): os.fsencode(value) for name, value in launch.environment.items()}


def _bytes(places: tuple[Place, ...]) -> list[tuple[bytes, int]]:
    return [(os.fsencode(path), access) for path, access in places]


@dataclass
class Spawned(Process):
    """A step that a process of its own started, which waits for it."""

    spawner: Spawner
    give_back: Callable[[Spawner], None]
    output: int
    pid: int
    confined: Confined
    returncode: int | None = None
    _outcome: Outcome | None = None

    def looked_at(self) -> None:
        """End the step where the process that waits for it was killed."""
        if self.spawner.is_dead:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def end_rest(self, scratch: Path, among: Callable[[], Iterable[int]]) -> None:
        """End what the step left running, wherever it is."""
        group = self.spawner.group
        try:
            self._outcome = self.spawner.end(self.spared)
        except ConnectionError:  # then its group knows what the step left, else nobody does, but by its scratch
            if not group.end():
                super().end_rest(scratch, all_processes)
            os.write(self.output, KILLED)
            self.lack = group.lack()
            self.spawner.close()
            self._outcome = Outcome(-signal.SIGKILL, 0.0, 0.0)
        else:
            self.lack = group.lack()
            self.give_back(self.spawner)

    def reap(self) -> Outcome:
        """Return how the step ended."""
        assert self._outcome is not None
        self.returncode = self._outcome.code
        return self._outcome


class Spawners:
    """Those of a worker, as many as it has steps at a time; safe for use by several threads.

    Parameters
    ----------
    limits
        Of each step: resources of :func:`resource.setrlimit`, with the most that it may have.
    grouped
        Makes a control group for each.
    """

    def __init__(self, limits: Limits, grouped: Callable[[], Group] = Group) -> None:
        self._limits = limits
        self._grouped = grouped
        self._lock = Lock()
        self._idle: list[Spawner] = []

    def start(self, launch: Launch, rules: Rules) -> Process:
        """Start a step.

        Raises
        ------
        NotConfined
            Where it cannot be confined.
        OSError, ValueError
            Where the program cannot be executed.
        """
        spawner = self._take()
        try:
            pid = spawner.start(launch, rules)
        except ConnectionError:  # it was killed while it had nothing to do
            spawner.close()
            return self.start(launch, rules)
        except (OSError, ValueError):
            self._give_back(spawner)
            raise
        return Spawned(spawner, self._give_back, launch.output, pid, spawner.confined)

    def confined(self) -> Confined:
        """Return how steps are confined on this host."""
        try:
            spawner = self._take()
        except OSError as error:
            return Confined(lacking=(f"the process that starts steps cannot be begun: {error}",))
        self._give_back(spawner)
        return spawner.confined

    def close(self) -> None:
        """End them."""
        with self._lock:
            idle, self._idle = self._idle, []
        for spawner in idle:
            spawner.close()

    def _take(self) -> Spawner:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Spawner(self._limits, group=self._grouped())

    def _give_back(self, spawner: Spawner) -> None:
        with self._lock:
            self._idle.append(spawner)
