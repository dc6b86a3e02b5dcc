"""The program that confines itself and becomes a step: the first in a container, where nothing of this Python is.

Landlock holds a process to paths, and whoever it holds cannot mount any more. So a runtime of containers is started
free, and what confines the step comes after it: ``shim.c``, which is made by the C compiler of the host when it is
first needed, and kept.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from nightmill.execution.evidence import on_one_line

SOURCE: Final = Path(__file__).with_name("shim.c")
FLAGS: Final = (
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-tree-loop-distribute-patterns",
    "-O2",
)
"""It uses no library: hosts with a compiler often have none to link with statically."""
_COMPILER: Final = "cc"
_USAGE: Final = 64
"""How it exits that is told nothing."""
_SECONDS: Final = 60.0
_OPTIONAL, _APART = 1, 2
_WORD: Final = 8


@dataclass(frozen=True)
class PathRule:
    """What may be done with all that lies below a path.

    Parameters
    ----------
    path
        As the program sees it that confines itself, absolute or from its working folder.
    rights
        Of Landlock; those that only folders can have are left out where it is a file.
    optional
        Whether it is well where nothing is there.
    apart
        Whether the folder around the working folder is left out, wherever below the path it lies.
    """

    path: str
    rights: int
    optional: bool = False
    apart: bool = False


@dataclass(frozen=True)
class ShimRules:
    """By what a program confines itself.

    Parameters
    ----------
    handled
        What Landlock is to deny unless a rule allows it: rights to files, to ports, and what is held to the program's
        own processes. Nothing of it is used where all are 0.
    ports
        Rights, and the TCP port that they are to.
    limits
        Resources, each with its limit: a lower one stays.
    program
        A filter of system calls, as the kernel takes it.
    """

    handled: tuple[int, int, int] = (0, 0, 0)
    paths: Sequence[PathRule] = ()
    ports: Sequence[tuple[int, int]] = ()
    limits: Sequence[tuple[int, int]] = ()
    program: bytes = b""

    def written(self) -> bytes:
        """Return them as the program reads them: words of the machine, and texts filled up to whole words."""
        known = max((place for place, rights in enumerate(self.handled, start=1) if rights), default=0)
        parts = [_words(*self.handled, known * _WORD, len(self.limits))]
        parts += [_words(*limit) for limit in self.limits]
        parts.append(_words(len(self.ports)))
        parts += [_words(*port) for port in self.ports]
        parts.append(_words(len(self.paths)))
        for rule in self.paths:
            text = os.fsencode(rule.path) + b"\0"
            text += b"\0" * (-len(text) % _WORD)
            parts += [_words(rule.rights, _OPTIONAL * rule.optional | _APART * rule.apart, len(text)), text]
        return b"".join((*parts, _words(len(self.program) // _WORD), self.program))


def _words(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}Q", *numbers)


@dataclass(frozen=True)
class Shim:
    """The program, and the rules of one step.

    Parameters
    ----------
    path
        On the host.
    """

    path: Path
    rules: ShimRules


def made_in(cache: Path) -> tuple[Path | None, str]:
    """Return the program, made where it is not in a cache yet, and why there is none, or an empty string.

    Several processes may ask at once, also of several hosts: it has the name of what it is made of, and appears whole.
    One that does not run is made anew.
    """
    try:
        made_of = sha256(SOURCE.read_bytes() + repr(FLAGS).encode()).hexdigest()
    except OSError as error:
        return None, str(error)
    path = cache / f"shim-{os.uname().machine}-{made_of[:16]}"
    if _works(path):
        return path, ""
    if (compiler := shutil.which(_COMPILER)) is None:
        return None, f"no C compiler ({_COMPILER}) is on the PATH of this host"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix=".shim-") as folder:
            fault = _compiled(compiler, Path(folder) / path.name)
            if not fault:
                _put(Path(folder) / path.name, path)
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    return (None, on_one_line(fault)) if fault else (path, "")


def _compiled(compiler: str, target: Path) -> str:
    """Make the program; say why that failed, or nothing."""
    argv = [compiler, *FLAGS, "-o", str(target), str(SOURCE)]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=False)
    if done.returncode or not target.exists():
        said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["nothing"]
        return f"{compiler} failed with code {done.returncode}: {said[0]}"
    target.chmod(0o755)
    return "" if _works(target) else f"what {compiler} makes does not run here"


def _put(made: Path, path: Path) -> None:
    """Give it its name, where no other process has, or what has it does not run."""
    try:
        os.link(made, path)
    except FileExistsError:
        if not _works(path):
            made.replace(path)


def _works(path: Path) -> bool:
    try:
        return subprocess.run([path], stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False).returncode == _USAGE
    except (OSError, subprocess.TimeoutExpired):
        return False
