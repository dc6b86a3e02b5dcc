"""Programs of this host: where they are, their digests, and the versions that they tell."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from nightmill.execution.evidence import readable
from nightmill.execution.launch.containers.opened import Container
from nightmill.execution.launch.plain import Launch

ASK_SECONDS = 30.0
"""How long a program may take to tell its version."""


@dataclass(frozen=True)
class Program:
    """A file of this host, as it was when it was looked at.

    Parameters
    ----------
    path
        Whole.
    identity
        Device, inode, time of change and size: as long as these are the same, its bytes are.
    """

    path: str
    identity: tuple[int, int, int, int]

    @property
    def sha256(self) -> str:
        """The digest of its bytes, worked out once a process."""
        return _digest(self.path, self.identity)


def find(name: str, path: str | None) -> Program | None:
    """Return the program of a name, as a step finds it; None where there is none, or it is part of the bundle.

    Parameters
    ----------
    path
        The ``PATH`` of the step.
    """
    if "/" in name:
        return _seen(name) if name.startswith("/") else None
    for folder in (path or os.defpath).split(os.pathsep):
        if folder.startswith("/") and (found := _seen(f"{folder}/{name}")) is not None:
            return found
    return None


def _seen(path: str) -> Program | None:
    try:
        facts = os.stat(path)  # noqa: PTH116 - a string is all that is kept
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(facts.st_mode):
        return None
    return Program(path, (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size))


@lru_cache(maxsize=4096)
def _digest(path: str, _identity: tuple[int, int, int, int]) -> str:
    try:
        with Path(path).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        return f"unknown: {error.strerror}"


@cache
def told_version(
    command: tuple[str, ...],
    _program: Program | None,
    environment: tuple[tuple[str, str], ...],
    container: Container | None,
) -> str:
    """Return the first line that a program prints when it is asked for its version, or why it is not known.

    It is asked once a process and environment, and again where another program took its place.
    """
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
                timeout=ASK_SECONDS,
                check=False,
            )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"unknown: {error}"
    lines = readable(answer.stdout + answer.stderr).strip().splitlines()
    return lines[0].strip() if lines else f"unknown: no output, exit code {answer.returncode}"
