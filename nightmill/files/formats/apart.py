"""Work on a file in a process of its own: what a damaged file does to a library ends that process, and no other.

A library of another language may crash on bytes that somebody spoiled, or never come to an end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final

from nightmill.errors import BadFile
from nightmill.files.reading import StrPath

MAX_CPU_SECONDS: Final = 120
MAX_MEMORY_BYTES: Final = 8 << 30
"""Of addresses, of which a library of numbers takes many without using them."""

_START: Final = "from nightmill.files.formats.apart import serve; serve()"


def apart(name: StrPath, work: Callable[..., Iterator[Any]], descriptor: int, *arguments: object) -> Iterator[Any]:
    """Yield what a function of a module yields about an open file, as JSON has it.

    Parameters
    ----------
    name
        What messages call the file.
    work
        Takes the name, a path that leads to the bytes, and the arguments, which JSON must hold.
    descriptor
        Of the file.

    Raises
    ------
    BadFile
        As the function does, or where the process ended otherwise (``not_of_format``), or took too long or too much
        memory (``over_limit``).
    RuntimeError
        Where the function raises something else.
    """
    told = json.dumps([MAX_CPU_SECONDS, work.__module__, work.__qualname__, os.fspath(name), descriptor, arguments])
    command = [sys.executable, "-P", "-c", _START, told]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, pass_fds=[descriptor]
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not line.endswith(b"\n"):
                    break  # it died over it
                kind, *rest = json.loads(line)
                if kind == "end":
                    return
                if kind == "refused":
                    message, reason, remedy = rest
                    raise BadFile(message, reason=reason, remedy=remedy)
                if kind == "failed":
                    raise RuntimeError(*rest)
                yield from rest
        except GeneratorExit:
            process.kill()
            raise
    if process.returncode == -signal.SIGXCPU:
        most = f"{MAX_CPU_SECONDS} s of computing to read, the most that are given"
        raise BadFile(f"{name} takes more than {most}", reason="over_limit")
    how = f"was ended by signal {-process.returncode}" if process.returncode < 0 else "ended too early"
    raise BadFile(f"{name} is damaged: the process that read it {how}", reason="not_of_format")


def serve() -> None:
    """Carry out what :func:`apart` asks for, in the process that it starts."""
    import resource

    most_seconds, module, function, name, descriptor, arguments = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (most_seconds, most_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    write = sys.stdout.write
    try:
        for each in getattr(import_module(module), function)(name, f"/proc/self/fd/{descriptor}", *arguments):
            write(json.dumps(["item", each]) + "\n")
    except BadFile as error:
        write(json.dumps(["refused", error.message, error.reason, error.remedy]) + "\n")
    except MemoryError:
        most = f"{MAX_MEMORY_BYTES:,} bytes of memory to read, the most that are given"
        write(json.dumps(["refused", f"{name} takes more than {most}", "over_limit", ""]) + "\n")
    except Exception as error:  # noqa: BLE001 - raised again by the other process
        write(json.dumps(["failed", f"{type(error).__name__}: {error}"]) + "\n")
    else:
        write('["end"]\n')
    sys.stdout.flush()
