"""The software that a step runs with."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from tempfile import TemporaryDirectory

from nightmill import __version__
from nightmill.execution.evidence import readable


def stack_of(
    argv: tuple[str, ...], programs: Mapping[str, tuple[str, ...]], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return package or program to version, for a step.

    A step that is run by this Python has this Python's packages; any step has the programs that it declares, asked for
    their version once a process and environment.

    Parameters
    ----------
    environment
        That of the step, without its places: the programs that it finds are asked, and know no more than it does.
    """
    stack = {"nightmill": __version__, "kernel": platform.release()}
    if argv[0] == sys.executable:
        stack |= _packages()
    return stack | {name: _version(command, tuple(environment.items())) for name, command in programs.items()}


@cache
def _packages() -> dict[str, str]:
    found = {str(item.metadata["Name"]).lower(): item.version for item in distributions()}
    return {"python": platform.python_version()} | dict(sorted(found.items()))


@cache
def _version(command: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> str:
    try:
        with TemporaryDirectory(prefix="nightmill-") as folder:
            answer = subprocess.run(
                command,
                cwd=folder,
                env={"HOME": folder, "TMPDIR": folder, **dict(environment)},
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
