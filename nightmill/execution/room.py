"""Room in the scratch folder of a host: an attempt is promised what it is still to write, and others wait for theirs.

A promise is a file beside the scratches that is locked for as long as its attempt has a scratch. The kernel unlocks
those of a process that ends, in whatever way, and the next that looks removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nightmill.errors import JobFailed
from nightmill.execution.context import JobContext
from nightmill.execution.scratch import Scratch
from nightmill.model.fate import Fate
from nightmill.model.order import JobOrder

PREFIX: Final = ".promised."
"""How names of promises begin, in the folder of the scratches."""
PLENTY: Final = 1000
"""Who needs less than so small a part of what is free is promised nothing: so many at a time have room all the same."""
LOOK_SECONDS: Final = 0.2
"""How often one that waits looks again."""


def wait_for_room(order: JobOrder, scratch: Scratch, context: JobContext) -> None:
    """Wait until the scratch has room for what a job is known to bring there, and have it promised until it ends.

    That is what its stage asks for, or else its inputs; those that lie on the file system of the scratch may take none.
    It is waited for as long as others, which were promised room, are to give it back.

    Raises
    ------
    JobFailed
        Where there is too little, and nobody has any to give back; or where everything is to end first.
    OSError
        Where the scratch cannot be used.
    """
    inputs = _inputs_bytes(order, scratch.path)
    asked = order.resources.scratch_bytes or 0
    wanted, told, short = max(inputs, asked), False, ""
    while wanted:
        if told and context.stopping:
            why = f"the job waited for room, as {short}, and was not begun: {context.stopping}"
            raise JobFailed(why, fate=Fate.CANCELLED)
        with _alone(scratch.path.parent) as folder:
            others = _promised(folder)  # asked first: who gives its room back meanwhile counts as one that is to
            free, promised = shutil.disk_usage(folder).free, sum(others)
            if wanted * PLENTY <= free - promised:
                return
            if wanted <= free - promised:
                scratch.promise = Promise(folder / f"{PREFIX}{scratch.path.name}", wanted, after=max(0, asked - inputs))
                return
        short = f"the scratch {folder} has {free} bytes free"
        if not others:
            raise _too_little(short, inputs, asked)
        if not told:
            line = f"== waiting for {wanted} bytes: {short}, {promised} promised to {len(others)} others\n"
            os.write(scratch.open_log(), line.encode())
            scratch.show_log()
            told = True
        time.sleep(LOOK_SECONDS)


class Promise:
    """Room that an attempt was promised; the folder of the scratches is locked by whoever makes one.

    Parameters
    ----------
    after
        How much of it is not written yet once the inputs are staged.
    """

    def __init__(self, path: Path, size_bytes: int, *, after: int) -> None:
        self._path = path
        self._after = after
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_SH)
        self._write(size_bytes)

    def staged(self) -> None:
        """Hear that the inputs are staged: what they take is not free any more."""
        self._write(self._after)

    def end(self) -> None:
        """Give back what is left of it."""
        with suppress(OSError):
            self._path.unlink()
        os.close(self._file)

    def _write(self, size_bytes: int) -> None:
        os.pwrite(self._file, f"{size_bytes:020d}".encode(), 0)


def _inputs_bytes(order: JobOrder, scratch: Path) -> int:
    device = scratch.stat().st_dev
    elsewhere: dict[str, bool] = {}

    def takes_room(store: str) -> bool:
        if store not in elsewhere:
            folder = order.stores[store].folder if store in order.stores else None
            try:
                elsewhere[store] = folder is None or folder.stat().st_dev != device
            except OSError:  # the transfer tells of it
                elsewhere[store] = False
        return elsewhere[store]

    inputs = {file.name: file for file in order.inputs}.values()
    staged = [(file.store, file.size_bytes) for file in inputs]
    staged += [(file.store, file.size_bytes) for file in order.taken]
    return sum(size for store, size in staged if takes_room(store))


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """Keep others from promising room there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)


def _promised(folder: Path) -> list[int]:
    """Return what each living attempt was promised there and has not written yet; remove the promises of the dead."""
    found = []
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(int(os.read(descriptor, 20) or 0))
            else:
                path.unlink()
            finally:
                os.close(descriptor)
    return found


def _too_little(short: str, inputs: int, asked: int) -> JobFailed:
    if asked >= inputs:
        what, otherwise = f"the job asks for {asked}", "lower scratch_bytes in the stage's resources"
    else:
        what, otherwise = f"the job's inputs have {inputs}", "give the site a larger scratch"
    return JobFailed(f"{short}, and {what}", fate=Fate.NO_SPACE, remedy=f"make room, or {otherwise}, then rerun")
