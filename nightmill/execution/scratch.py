"""The job scratch: an empty folder of one attempt, and what may lie where in it.

inputs/    the pre-flight list, read-only
work/      where a step runs; empty when it begins
outputs/   what passed the gate, read-only; inputs of later steps
left/STEP/ what a step made and did not declare: no later step finds it
tmp/       TMPDIR and HOME of the steps
log        stdout and stderr of all steps
order.json the order
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from nightmill.errors import RequestRefused
from nightmill.execution.proc import end_all_in
from nightmill.model.order import AttemptKey, JobOrder


def token(attempt: AttemptKey) -> str:
    """Return a short name of an attempt, fit for file names and its own with near certainty."""
    readable = re.sub(r"[^A-Za-z0-9=]+", "-", f"{attempt.stage}-{attempt.unit}")[:60]
    return f"{readable}-a{attempt.number:02d}-{sha256(str(attempt).encode()).hexdigest()[:10]}"


class Scratch:
    """The scratch folder of one attempt.

    Parameters
    ----------
    root
        Folder for the scratches of a site, on a local disk.
    order
        Whose scratch it is.

    Raises
    ------
    RequestRefused
        Where the attempt has a scratch already: it runs, or ran and was kept.
    OSError
        Where it cannot be made.
    """

    def __init__(self, root: Path, order: JobOrder) -> None:
        self.path = root / token(order.attempt)
        self.inputs = self.path / "inputs"
        self.work = self.path / "work"
        self.outputs = self.path / "outputs"
        self.tmp = self.path / "tmp"
        self.log = self.path / "log"
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            raise RequestRefused(
                f"the scratch {self.path} exists: attempt {order.attempt} runs there, or its scratch was kept",
                remedy="remove the folder, or give another scratch",
            ) from None
        try:
            for folder in (self.inputs, self.work, self.outputs, self.tmp):
                folder.mkdir()
        except OSError:
            self.remove()
            raise

    def keep(self, made: Path, name: str) -> Path:
        """Move a checked output out of the working folder, under its full name, read-only."""
        target = self.outputs / name
        made.rename(target)
        target.chmod(0o444)
        return target

    def set_aside(self, step: str) -> list[str]:
        """Move what is left in the working folder to where no later step looks, and return its names."""
        names = sorted(path.name for path in self.work.iterdir())
        if names:
            self.work.rename(self._left(step))
            self.work.mkdir()
        return names

    def _left(self, step: str) -> Path:
        left = self.path / "left"
        left.mkdir(exist_ok=True)
        return left / step

    def remove(self) -> None:
        """Remove the scratch with all that is in it, as far as that can be done."""
        _remove(self.path)

    @staticmethod
    def discard(root: Path, order: JobOrder) -> None:
        """Remove what a dead process left of an attempt: steps that still run, and its scratch; none is no error."""
        path = root / token(order.attempt)
        if path.exists():
            end_all_in(path)
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a folder with all that is in it, as far as that can be done: what stays is no failure of the attempt."""
    with suppress(OSError, RecursionError):  # folders in folders, a thousand deep, stay too
        try:
            shutil.rmtree(path)
        except PermissionError:
            _open_up(path)
            shutil.rmtree(path)


def _open_up(path: Path) -> None:
    """Open every folder that a step left closed to its owner."""
    path.chmod(0o700)
    for folder, names, _files in os.walk(path):
        for name in names:
            if not (inside := Path(folder, name)).is_symlink():
                inside.chmod(0o700)
