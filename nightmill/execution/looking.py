"""Programs that look at what a step made: as little trusted as the step, and run as it is."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Final

from nightmill.errors import BadFile, JobFailed, PluginFault, RequestRefused
from nightmill.execution.confine.confiner import Confiner
from nightmill.execution.launch.watch import run_process
from nightmill.execution.scratch import Scratch
from nightmill.model.content import SAID_BYTES, ProgramEnd, ProgramRun
from nightmill.model.fate import Fate
from nightmill.model.order import JobOrder, OrderStep

_BLOCK_BYTES: Final = 1 << 16
"""No more than a pipe holds."""
_POLL_SECONDS: Final = 0.2


@dataclass
class LookingPrograms:
    """Runs programs that look at the files of a step: confined as it was, but to a folder of their own."""

    order: JobOrder
    step: OrderStep
    scratch: Scratch
    confiner: Confiner
    stopping: Callable[[], str]
    """Says why everything is to end; nothing where that is not so."""
    stopped: str = ""
    """Why one was ended before its time, and none is run any more."""

    @property
    def root(self) -> Path:
        """Where the folders are made that they work in, which end with the attempt."""
        return self.scratch.path

    def path_of(self, path: str) -> str:
        """Return where a program finds what this process has open, which it cannot reach by that.

        Raises
        ------
        BadFile
            Where something else is there by now.
        """
        real = os.path.realpath(path)
        with suppress(FileNotFoundError):
            if Path(real).samefile(path):
                return real
        raise BadFile(f"{Path(real).name} was replaced while it was looked at", reason="changed")

    def run(self, program: ProgramRun) -> ProgramEnd:
        """Run a program, and end it where it takes too long, and all that it started.

        Raises
        ------
        OSError
            Where it cannot be started.
        PluginFault
            Where this host cannot confine it as the site demands.
        """
        if self.stopped:
            return ProgramEnd(None, b"")
        try:
            start = self.confiner.way_to_look(self.order, self.step, self.scratch, program.folder, program.file)
        except RequestRefused as error:
            why = f"the program {program.argv[0]} that looks at {Path(program.file).name} is not run: {error.message}"
            raise PluginFault(why, remedy=error.remedy) from error
        with _tail() as (output, tail):
            ended = run_process(
                program.argv,
                directory=program.folder,
                scratch=self.scratch.path,
                environment=program.environment,
                output=output,
                wall_seconds=program.seconds,
                began=lambda _pid: None,
                stopping=lambda: bool(self.stopping()),
                start=start,
            )
        if ended.stopped:
            self.stopped = self.stopping()
        if ended.timed_out or ended.stopped:
            return ProgramEnd(None, bytes(tail))
        return ProgramEnd(-ended.signal if ended.signal is not None else ended.exit_code, bytes(tail))

    def must_go_on(self) -> None:
        """Say that a program was ended as all is to end: that it did not end well says nothing of a file.

        Raises
        ------
        JobFailed
            Where that is so.
        """
        if self.stopped:
            why = f"what step {self.step.name!r} made was not looked at to the end: {self.stopped}"
            raise JobFailed(why, fate=Fate.CANCELLED, step=self.step.name)


@contextmanager
def _tail() -> Iterator[tuple[int, bytearray]]:
    """Give a descriptor to write to, and the last of what is written to it, once this has ended."""
    tail, is_over = bytearray(), Event()
    reading, writing = os.pipe()
    reader = Thread(target=_keep, args=(reading, tail, is_over), name="said by a check")
    reader.start()
    try:
        yield writing, tail
    finally:
        os.close(writing)
        is_over.set()
        reader.join()
        os.close(reading)


def _keep(reading: int, tail: bytearray, is_over: Event) -> None:
    """Keep the last that a pipe brings until it is over: who lives on may hold the other end open."""
    while True:
        last = is_over.is_set()
        if select.select([reading], [], [], 0 if last else _POLL_SECONDS)[0]:
            data = os.read(reading, _BLOCK_BYTES)
            tail += data
            del tail[:-SAID_BYTES]
            if not data:
                return
        if last:
            return
