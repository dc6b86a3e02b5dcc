"""Pythons of this host, and the packages that steps have which they run."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Final

from nightmill.execution.software.programs import Program, find

ASK_SECONDS: Final = 60.0
"""How long a Python may take to tell what it has."""
_NAME: Final = re.compile(r"(python|pypy)[0-9.]*t?")
_COUNTS: Final = ("PATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD")
"""Variables that may lead a Python to other packages, beside those that begin with ``PYTHON``."""
_SCRIPT: Final = Path(__file__).with_name("ask.py")


@dataclass(frozen=True, eq=False)
class Python:
    """A Python, as it was asked.

    Parameters
    ----------
    program
        Its executable.
    told
        What it says of itself, and its digest.
    distributions
        Its packages with their versions.
    folders
        Where it has packages from, with the times when something was last installed there.
    """

    program: Program
    told: Mapping[str, str]
    distributions: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was installed since."""
        return all(_changed_at(folder) == at for folder, at in self.folders.items())


_asked: Final[dict[object, Python]] = {}
_asking: Final = Lock()


def python_of(program: Program, environment: Mapping[str, str]) -> Python | None:
    """Return the Python that runs a program: itself, or that of its first line; None where it is not run by one.

    It is asked what it has in the environment of a step, once a process, and again where something was installed.
    """
    path = environment.get("PATH")
    name = _interpreter(program)
    python = program if name == program.path else find(name, path) if name else None
    if python is None:
        return None
    own = tuple([(key, value) for key, value in environment.items() if key in _COUNTS or key.startswith("PYTHON")])
    found = _asked.get((python, own))
    if found is None or not found.is_fresh:
        with _asking:
            found = _asked.get((python, own))
            if found is None or not found.is_fresh:
                found = _asked[python, own] = _ask(python, dict(own))
    return found


@lru_cache(maxsize=1024)
def _interpreter(program: Program) -> str:
    """Return the path or name of the Python that runs a program; empty where none does."""
    if _NAME.fullmatch(program.path.rpartition("/")[2]):
        return program.path
    try:
        with Path(program.path).open("rb") as file:
            line = file.read(256)
    except OSError:
        return ""
    if not line.startswith(b"#!"):
        return ""
    words = os.fsdecode(line[2:].partition(b"\n")[0]).split()
    if words and words[0].rpartition("/")[2] == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0] if words and _NAME.fullmatch(words[0].rpartition("/")[2]) else ""


def _ask(python: Program, environment: Mapping[str, str]) -> Python:
    known = {"path": python.path, "sha256": python.sha256}
    try:
        with TemporaryDirectory(prefix="nightmill-") as folder:
            answer = subprocess.run(
                [python.path, "-c", _SCRIPT.read_text(encoding="utf-8")],
                cwd=folder,
                env={"HOME": folder, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1", **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ASK_SECONDS,
                check=True,
            )
        told = json.loads(answer.stdout)
        own = {str(name): str(value) for name, value in told["interpreter"].items()}
        distributions = {str(name): str(value) for name, value in sorted(told["distributions"].items())}
        folders = {str(each): _changed_at(str(each)) for each in told["folders"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, subprocess.SubprocessError) as error:
        return Python(python, {**known, "distributions": f"unknown: {type(error).__name__}"})
    return Python(python, {**known, **own}, distributions, folders)


def _changed_at(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - asked before each step
    except OSError:
        return 0
