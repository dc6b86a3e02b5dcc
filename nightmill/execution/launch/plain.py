"""The plain way to start a step: a process of this host, with what its order says and nothing around it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
    """

    argv: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    output: int


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Parameters
    ----------
    code
        Its exit code; the number of a signal with a minus before it.
    user_seconds, system_seconds
        What it and the children that it waited for took.
    """

    code: int
    user_seconds: float
    system_seconds: float


class Process:
    """A process that was started for a step: a child of this one that leads a session and a group, not yet waited for.

    Here it is the step; a way to start steps that puts something around them has a class of its own.
    """

    pid: int
    returncode: int | None
    confined: Confined = UNCONFINED
    """How it is confined."""

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

    def outcome(self, code: int, usage: resource.struct_rusage) -> Outcome:
        """Return how the step ended, now that this process was reaped with a code and an usage."""
        return Outcome(code, usage.ru_utime, usage.ru_stime)


class Started(Process, subprocess.Popen[bytes]):
    """A process that this one started as a program of its own."""


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
