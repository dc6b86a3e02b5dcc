"""The plain way to start a step: a process of this host, with what its order says and nothing around it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


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


class Process(Protocol):
    """A child of this process that leads a session and a process group of its own, and that nobody has waited for."""

    pid: int
    returncode: int | None


def start(launch: Launch) -> Process:
    """Start a process that leads a session and a process group of its own.

    Raises
    ------
    OSError, ValueError
        Where the program cannot be executed.
    """
    return subprocess.Popen(
        launch.argv,
        cwd=launch.directory,
        env=launch.environment,
        stdin=subprocess.DEVNULL,
        stdout=launch.output,
        stderr=launch.output,
        start_new_session=True,
    )
