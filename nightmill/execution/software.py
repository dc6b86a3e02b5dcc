"""The software that a step runs with."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory

from nightmill import __version__
from nightmill.execution.evidence import readable
from nightmill.execution.launch.containers.opened import Container
from nightmill.execution.launch.plain import Launch


def stack_of(
    argv: tuple[str, ...],
    programs: Mapping[str, tuple[str, ...]],
    environment: Mapping[str, str],
    container: Container | None = None,
) -> dict[str, str]:
    """Return package or program to version, for a step.

    A step that is run by this Python has this Python's packages; any step has the programs that it declares, asked for
    their version once a process and environment.

    Parameters
    ----------
    environment
        That of the step, without its places: the programs that it finds are asked, and know no more than it does.
    container
        What the step runs in: there the programs are asked.
    """
    stack = {"nightmill": __version__, "kernel": platform.release()}
    if argv[0] == sys.executable:
        stack |= _packages()
    return stack | {
        name: _version(command, tuple(environment.items()), container) for name, command in programs.items()
    }


@cache
def _packages() -> dict[str, str]:
    found = {str(item.metadata["Name"]).lower(): item.version for item in distributions()}
    return {"python": platform.python_version()} | dict(sorted(found.items()))


@cache
def _version(command: tuple[str, ...], environment: tuple[tuple[str, str], ...], container: Container | None) -> str:
    try:
        with TemporaryDirectory(prefix="nightmill-") as folder:
            own = {"HOME": folder, "TMPDIR": folder, **dict(environment)}
            answer = subprocess.run(
                container.asking(Launch(command, Path(folder), own, -1)) if container else command,
                cwd=folder,
                env=own if container is None else None,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=30,
                check=False,
            )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"unknown: {error}"
    lines = readable(answer.stdout + answer.stderr).strip().splitlines()
    return lines[0].strip() if lines else f"unknown: no output, exit code {answer.returncode}"
