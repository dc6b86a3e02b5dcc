"""The check by a program of one's own."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from pydantic import Field, model_validator

from nightmill.errors import BadFile, PluginFault
from nightmill.files.checks.like_input import with_role
from nightmill.files.checksum import sha256_file
from nightmill.model.base import Frozen
from nightmill.model.content import SAID_BYTES, Candidate, ProgramEnd, ProgramRun, Programs, StepInput

LINES: Final = 3
"""So many of the last lines that a program wrote are its message."""
_POLL_SECONDS: Final = 0.2
_PLACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_INPUTS: Final = "inputs."


class Program(Frozen):
    """Options of the check."""

    argv: tuple[str, ...] = Field(min_length=1)
    """The program and its arguments, with ``{file}``, ``{inputs.ROLE}`` (one argument a file), ``{pipeline_dir}`` and
    ``{python}``."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """How long it may take."""
    environment: Mapping[str, str] = Field(default_factory=dict)
    """Its environment, beside PATH, HOME and TMPDIR."""

    @model_validator(mode="after")
    def _knows_its_places(self) -> Self:
        for each in self.argv:
            for place in _places(each):
                if place.startswith(_INPUTS):
                    if each != f"{{{place}}}":
                        raise ValueError(
                            f"one with {{{place}}}, which becomes one argument a file, alone: not {each!r}"
                        )
                elif place not in ("file", "pipeline_dir", "python"):
                    known = "{file}, {inputs.ROLE}, {pipeline_dir} and {python}"
                    raise ValueError(f"one with no other places than {known}, and {{{place}}} is in it")
        return self


class Command:
    """``command``: a program looks at a file, and exits with 0 for one that may pass."""

    Options: Final = Program
    formats: Final = ()
    compares: Final = False

    def __init__(self, options: Program) -> None:
        self.options = options
        places = [place for each in options.argv for place in _places(each)]
        self.is_comparing = any(place.startswith(_INPUTS) or place == "pipeline_dir" for place in places)

    @staticmethod
    def input_roles(options: Program) -> tuple[str, ...]:
        """Return the roles whose files it is given."""
        places = [place for each in options.argv for place in _places(each)]
        return tuple([place.removeprefix(_INPUTS) for place in places if place.startswith(_INPUTS)])

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file for which the program exits with anything but 0 (``command_failed``), or that it changed."""
        before = [_stamp(each.path) for each in inputs]
        programs = file.programs or _HERE
        with TemporaryDirectory(prefix="nightmill-", dir=programs.root) as folder:
            own, work = Path(folder, "file"), Path(folder, "work")
            own.mkdir()
            work.mkdir()
            link, path = own / Path(file.name).name, programs.path_of(file.path)
            link.symlink_to(path)
            argv = [*self._argv(file, str(link), inputs, programs)]
            homes = {"HOME": str(work), "TMPDIR": str(work), "LANG": "C.UTF-8"}
            environment = {"PATH": os.environ.get("PATH", os.defpath), **homes, **self.options.environment}
            code, said = self._run(
                programs, ProgramRun(argv, work, environment, path, self.options.timeout_seconds), file
            )
        if sha256_file(file.path) != file.sha256 or before != [_stamp(each.path) for each in inputs]:
            raise BadFile(
                f"{file.name}, or an input of its step, was changed by the program {argv[0]} that looks at it",
                reason="changed",
                remedy="a check reads what it looks at, and writes into its own folder alone",
            )
        if code:
            how = f"exited with {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
            raise BadFile(
                f"{file.name}: {Path(argv[0]).name} {how} and said {said or 'nothing'}",
                reason="command_failed",
                remedy="look at the file; the last lines of what the program says are its reason",
            )

    def _run(self, programs: Programs, run: ProgramRun, file: Candidate) -> tuple[int, str]:
        """Run a program, and return how it exited and the last lines of what it wrote."""
        program = run.argv[0]
        try:
            ended = programs.run(run)
        except OSError as error:
            raise PluginFault(
                f"the program {program} that is to look at {file.name} cannot be started: {error.strerror or error}",
                remedy="install it where jobs run, or write its whole path",
            ) from error
        if ended.code is None:
            raise PluginFault(
                f"the program {program} that looks at {file.name} had not ended after {run.seconds:g} s",
                remedy="raise timeout_seconds of check 'command' in its type, if the program is well",
            )
        lines = [line.strip() for line in ended.said.decode(errors="replace").splitlines() if line.strip()]
        said = "; ".join(lines[-LINES:])
        return ended.code, "".join([each if each.isprintable() else "\ufffd" for each in said])

    def _argv(self, file: Candidate, link: str, inputs: Sequence[StepInput], programs: Programs) -> Iterator[str]:
        if "pipeline_dir" in {place for each in self.options.argv for place in _places(each)} and not file.pipeline_dir:
            raise PluginFault(
                f"a program of the pipeline is to look at {file.name}, and there is none: no bundle was packed",
                remedy="submit the pipeline with its folder, or name a program that is installed",
            )
        values = {"file": link, "pipeline_dir": file.pipeline_dir, "python": sys.executable}
        for each in self.options.argv:
            place = next(iter(_places(each)), "")
            if place.startswith(_INPUTS):
                given = with_role(file, inputs, place.removeprefix(_INPUTS))
                yield from (programs.path_of(each.path) for each in given)
            else:
                yield _PLACE.sub(lambda found: values[found[1]] if found[1] is not None else found[0][0], each)


def _places(text: str) -> list[str]:
    return [found[1] for found in _PLACE.finditer(text) if found[1] is not None]


class _Here:
    """Runs programs as this process runs, each in a session of its own."""

    root: Final = None

    def path_of(self, path: str) -> str:
        """Return a path as it is."""
        return path

    def run(self, program: ProgramRun) -> ProgramEnd:
        """Run a program, and end it and its process group."""
        process = subprocess.Popen(
            program.argv,
            cwd=program.folder,
            env=program.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        with process.stdout:
            try:
                tail = _tail(process, process.stdout.fileno(), time.monotonic() + program.seconds)
            finally:
                os.killpg(process.pid, signal.SIGKILL)  # it was not waited for yet: the group is its own
                process.wait()
        return ProgramEnd(None, b"") if tail is None else ProgramEnd(process.returncode, tail)


_HERE: Final = _Here()


def _tail(process: subprocess.Popen[bytes], descriptor: int, until: float) -> bytes | None:
    """Return the last bytes that a process writes until it ends, however many they are; None where it does not."""
    tail, open_ = b"", True
    while True:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if open_ and select.select([descriptor], [], [], 0 if ended else _POLL_SECONDS)[0]:
            data = os.read(descriptor, 1 << 16)
            tail, open_ = (tail + data)[-SAID_BYTES:], bool(data)
        elif ended:  # what it left running may hold the pipe open, and is not waited for
            return tail
        elif not open_:
            time.sleep(0.01)
        if time.monotonic() > until:
            return None


def _stamp(path: str) -> tuple[int, ...]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
