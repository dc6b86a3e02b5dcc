"""The plain way to start a step: a process of this host, with what its order says and nothing around it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nightmill.execution.audit.traced import Traced
from nightmill.execution.confine.groups import Group, Lack
from nightmill.execution.proc import end_all_in
from nightmill.model.observed import UNCONFINED, Confined


@dataclass(frozen=True)
class Launch:
    """What a step is started with.

    Parameters
    ----------
    argv
        Program and arguments; no shell sees them.
    directory
        Working folder.
    environment
        The whole environment of the process.
    output
        File descriptor for its stdout and stderr.
    group
        The control group that it has to enter by itself.
    """

    argv: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    output: int
    group: Group = field(default_factory=Group, compare=False)


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Parameters
    ----------
    code
        Its exit code; the number of a signal with a minus before it.
    user_seconds, system_seconds
        What it and the children that it waited for took.
    max_rss_bytes
        The largest of its processes at its peak; 0 where that is not known.
    """

    code: int
    user_seconds: float
    system_seconds: float
    max_rss_bytes: int = 0


class Process:
    """A process that was started for a step: it leads a session and a group, and nobody has waited for it yet.

    Here it is the step; a way to start steps that puts something around them has a class of its own.
    """

    pid: int
    returncode: int | None
    confined: Confined = UNCONFINED
    """How it is confined."""
    spared: int = 0
    """The number of what traces it, which tells the end of all that it started and ends then; 0 where nothing does."""
    traced: Traced | None = None
    """What its trace comes to, once it was reaped; None where it has none."""
    group: Group | None = None
    """The control group that is its own, and is removed with it."""
    lack: Lack | None = None
    """What it lacked of memory, as a control group tells, once it was reaped; None where it has none."""

    @property
    def step(self) -> int:
        """The number of the process whose end is that of the step."""
        return self.pid

    def looked_at(self) -> None:
        """Do what is to be done now and then while the step runs."""

    def ask_to_end(self, seen: Mapping[int, float]) -> None:
        """Send SIGTERM to the processes of the group.

        Parameters
        ----------
        seen
            All processes that were seen, with the times when they started.
        """
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)

    def note_end(self) -> None:
        """Note what can be known of the step as long as nothing is killed and reaped; it has ended."""

    def end_rest(self, scratch: Path, among: Callable[[], Iterable[int]]) -> None:
        """End what the step left running: what has its scratch, or works in it.

        Parameters
        ----------
        among
            Gives the numbers of the processes to look at.
        """
        end_all_in(scratch, among=among)

    def reap(self) -> Outcome:
        """Wait until the process has ended, give its number back, and return how the step ended."""
        _pid, status, usage = os.wait4(self.pid, 0)
        if self.group is not None:
            self.lack = self.group.lack()
            self.group.remove()
        self.returncode = os.waitstatus_to_exitcode(status)
        return self.outcome(self.returncode, usage)

    def outcome(self, code: int, usage: resource.struct_rusage) -> Outcome:
        """Return how the step ended, now that this process was reaped with a code and an usage."""
        return Outcome(code, usage.ru_utime, usage.ru_stime, _largest_bytes(usage))


class Started(Process, subprocess.Popen[bytes]):
    """A process that this one started as a program of its own."""


def _largest_bytes(usage: resource.struct_rusage) -> int:
    """Return the peak of the largest single process, or 0 where the kernel's figure may be this process's own.

    A child begins with the peak of the process that spawned it, so only what lies above that is the child's.
    """
    inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss * 1024 if usage.ru_maxrss > inherited else 0


def start(launch: Launch) -> Process:
    """Start a process that leads a session and a process group of its own.

    Raises
    ------
    OSError, ValueError
        Where the program cannot be executed.
    """
    return Started(
        launch.argv,
        cwd=launch.directory,
        env=launch.environment,
        stdin=subprocess.DEVNULL,
        stdout=launch.output,
        stderr=launch.output,
        start_new_session=True,
    )
