"""The job scratch: an empty folder of one attempt, laid out as :mod:`nightmill.model.layout` says.

A step may put links, pipes or other folders in place of anything here. So once one has run, nothing is looked up by its
path, but from open folders and without following links.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.errors import JobFailed, RequestRefused
from nightmill.execution.abandoned import OWNER, abandoned, claim_folder
from nightmill.execution.descriptors import Place, names_in, open_up, opened_file, opened_folder, path_of, place_of
from nightmill.execution.faults import HANDS_OFF
from nightmill.execution.logs.attempt import AttemptLog
from nightmill.execution.removal import discard, empty, remove_open
from nightmill.execution.sealed import SealedFolder, SealedTree
from nightmill.model.attachment import JUNK
from nightmill.model.dimensions import DataId
from nightmill.model.fate import Fate
from nightmill.model.index import StepIndex
from nightmill.model.journal import MadeFile
from nightmill.model.layout import (
    BUNDLE,
    FILES,
    FOLDERS,
    INDEX,
    INPUTS,
    LEFT,
    LOG,
    MADE,
    ORDER,
    OUTPUTS,
    SIDECAR,
    TMP,
    WORK,
    seen,
)
from nightmill.model.order import AttemptKey, JobOrder, OrderText

if TYPE_CHECKING:
    from nightmill.execution.room import Promise

_MODE: Final = 0o755
"""Others may look into a scratch as far as its site lets them; none may put anything there."""
_CALLED: Final = {"": "its scratch", WORK: "its working folder"}


def token(attempt: AttemptKey, writer: str = "") -> str:
    """Return a short name of an attempt, fit for file names and its own with near certainty.

    Parameters
    ----------
    writer
        Who writes it, where the name is to be that writer's own: the name of its journal.
    """
    readable = re.sub(r"[^A-Za-z0-9=]+", "-", f"{attempt.stage}-{attempt.unit}")[:60]
    of_attempt = f"{readable}-a{attempt.number:02d}-{sha256(str(attempt).encode()).hexdigest()[:10]}"
    return f"{of_attempt}-{sha256(writer.encode()).hexdigest()[:10]}" if writer else of_attempt


class Scratch:
    """The scratch folder of one attempt, open until it is ended.

    Parameters
    ----------
    root
        Folder for the scratches of a site, on a local disk.
    order
        Whose scratch it is.
    spool
        Where its log is shown to who asks for it; by default nowhere.
    claimed
        Whether it says whose it is, so that a later worker of the host can remove it where this process dies.

    Raises
    ------
    RequestRefused
        Where the attempt has a scratch already: it runs, or ran and was kept.
    OSError
        Where it cannot be made.
    """

    def __init__(self, root: Path, order: JobOrder, *, spool: Path | None = None, claimed: bool = False) -> None:
        self.path = root / token(order.attempt)
        self.inputs = self.path / INPUTS
        self.outputs = self.path / OUTPUTS
        self.work = self.path / WORK
        self.tmp = self.path / TMP
        self._sealed = {INPUTS: SealedFolder(), OUTPUTS: SealedFolder()}
        self._places: dict[str, Place] = {}
        self.printed = AttemptLog(self.path, spool)
        self._own: int | None = None
        self._adopted = ""
        self.done: list[str] = []
        """The steps whose outputs passed the gate."""
        self.kept: dict[str, list[str]] = {}
        """What was made so far, by the roles of outputs: the names in its folder of outputs."""
        self.told: dict[str, DataId] = {}
        """What was found out of these, by name."""
        self._bundle: SealedTree | None = None
        self.promise: Promise | None = None
        """What it was promised of the room there."""
        try:
            self.path.mkdir(mode=_MODE, parents=True)
        except FileExistsError:
            raise RequestRefused(
                f"the scratch {self.path} exists: attempt {order.attempt} runs there, or its scratch was kept",
                remedy="remove the folder, or give another scratch",
            ) from None
        self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self._places[""] = place_of(os.fstat(self._folder))
        try:
            if claimed:
                claim_folder(self.path)
            for name in FOLDERS:
                self._make(name)
        except OSError:
            self.end()
            raise

    def _make(self, name: str) -> None:
        os.mkdir(name, _MODE, dir_fd=self._folder)
        self._places[name] = place_of(os.stat(name, dir_fd=self._folder, follow_symlinks=False))

    def write_order(self, order: JobOrder) -> None:
        """Put the order there, for whoever looks into the scratch."""
        with (self.path / ORDER).open("x") as file:
            file.write(order.model_dump_json())

    def write_files(self, files: Sequence[OrderText]) -> None:
        """Put there what is written for a step, sealed, and nothing of what was written for the step before."""
        if FILES in self._places:
            with self.opened(FILES) as folder:
                empty(folder)
        elif files:
            self._make(FILES)
        else:
            return
        sealed = self._sealed[FILES] = SealedFolder()
        with self.opened(FILES) as folder:
            for file in files:
                sealed.write(file.name, f"file {file.name}", file.text.encode(), folder)

    def write_index(self, index: StepIndex) -> None:
        """Put there what is told to a step, sealed, in the place of what was told to the step before."""
        with suppress(FileNotFoundError):
            os.unlink(INDEX, dir_fd=self._folder)
        sealed = self._sealed["."] = SealedFolder()
        facts = sealed.write(INDEX, seen(INDEX), index.model_dump_json().encode(), self._folder)
        self._places[INDEX] = place_of(facts)

    def open_log(self) -> int:
        """Return the descriptor of the log, always the same: it stays the log whatever becomes of the name."""
        if self.printed.descriptor is None:
            self._places[LOG] = place_of(os.fstat(self.printed.begin(self._folder)))
        assert self.printed.descriptor is not None
        return self.printed.descriptor

    def show_log(self, *, last: bool = False) -> None:
        """Show the log to who asks for it, as :meth:`nightmill.execution.logs.attempt.AttemptLog.show` does."""
        self.printed.show(last=last)

    @property
    def log(self) -> str | None:
        """Where the log can be read as long as the scratch is open, or None where no step began."""
        return self.printed.path

    def adopt(self, descriptor: int) -> str:
        """Take an open file of nightmill's own, the tar of junk, and return a path that leads to it until the end."""
        self._adopted, self._own = path_of(descriptor), descriptor
        return self._adopted

    def opened(self, folder: str) -> AbstractContextManager[int]:
        """Open one of its folders; a link in its place is an OSError."""
        return opened_folder(folder, self._folder)

    @contextmanager
    def source(self, file: MadeFile) -> Iterator[Path]:
        """Open an output that was kept, or the log, and give a path that leads to its bytes, for other processes too.

        Raises
        ------
        BadFile
            Where the output is not a regular file any more.
        """
        if not file.step:
            yield Path(self._adopted if file.type == JUNK else path_of(self.open_log()))
            return
        with self.opened(OUTPUTS) as outputs, opened_file(file.name, outputs) as descriptor:
            yield Path(path_of(descriptor))

    @contextmanager
    def showing(self, bundle: SealedTree, *, keep: bool = False) -> Iterator[None]:
        """Let steps see a bundle.

        Parameters
        ----------
        keep
            Whether a copy is to take its place in the end, for somebody to look into.
        """
        os.symlink(bundle.path, BUNDLE, dir_fd=self._folder)
        self._places[BUNDLE] = place_of(os.stat(BUNDLE, dir_fd=self._folder, follow_symlinks=False))
        self._bundle = bundle
        try:
            yield
        finally:
            self._bundle = None
            if keep:
                with suppress(OSError):
                    os.unlink(BUNDLE, dir_fd=self._folder)
                    bundle.copy_to(self.path / BUNDLE)

    @property
    def bundle(self) -> Path | None:
        """Where the host keeps the bundle that steps see."""
        return None if self._bundle is None else self._bundle.path

    def seal_input(self, name: str, what: str, digest: str) -> None:
        """Note that an input is as it is to stay, and by what name a message calls it."""
        facts = os.stat(f"{INPUTS}/{name}", dir_fd=self._folder, follow_symlinks=False)
        self._sealed[INPUTS].seal(name, what, digest, facts)

    @property
    def sidecar(self) -> Path:
        """Where a step may tell what it made."""
        return self.path / SIDECAR

    def make_sidecar(self) -> None:
        """Put an empty one there, for a step that can write to it and to nothing beside it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        os.close(os.open(SIDECAR, flags, 0o644, dir_fd=self._folder))

    @contextmanager
    def opened_sidecar(self) -> Iterator[int | None]:
        """Open what a step told; None where it told nothing.

        Raises
        ------
        BadFile
            Where it is not a regular file under one name, or cannot be opened.
        """
        if SIDECAR not in names_in(self._folder):
            yield None
            return
        with opened_file(SIDECAR, self._folder, alone=True) as descriptor:
            yield descriptor

    def keep(self, made: str, work: int, name: str, role: str, what: str, digest: str) -> None:
        """Move a checked output out of the open working folder, under its full name, and seal it."""
        with self.opened(OUTPUTS) as outputs:
            os.rename(made, name, src_dir_fd=work, dst_dir_fd=outputs)
            facts = os.stat(name, dir_fd=outputs, follow_symlinks=False)
        self._sealed[OUTPUTS].seal(name, what, digest, facts)
        self.kept.setdefault(role, []).append(name)

    def take(self, name: str, role: str, what: str, digest: str) -> None:
        """Seal a file that was put among the outputs before any step ran, as one that a step before had made."""
        facts = os.stat(f"{OUTPUTS}/{name}", dir_fd=self._folder, follow_symlinks=False)
        self._sealed[OUTPUTS].seal(name, what, digest, facts)
        self.kept.setdefault(role, []).append(name)

    def has_kept(self, name: str) -> bool:
        """Say whether an output of this name was made by a step before."""
        return name in self._sealed[OUTPUTS]

    def must_be_whole(self, step: str) -> None:
        """See that the scratch is as it was before a step, but for what steps may change; closed folders are opened.

        Raises
        ------
        JobFailed
            Where the step removed or replaced a part of it, or changed a file that is sealed.
        """
        for name, place in self._places.items():
            if (mode := self._mode_at(name, place)) is None:
                raise _meddled(step, f"removed or replaced {_CALLED.get(name, seen(name))}")
            if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
                if name:
                    open_up(name, self._folder)
                else:
                    os.fchmod(self._folder, 0o700)
        for folder, sealed in self._sealed.items():
            with self.opened(folder) as descriptor:
                if changed := sealed.broken(descriptor):
                    raise _meddled(step, f"changed {changed}")
        if self._bundle is not None:
            if os.readlink(BUNDLE, dir_fd=self._folder) != str(self._bundle.path):
                raise _meddled(step, f"removed or replaced {seen(BUNDLE)}")
            if changed := self._bundle.broken():
                raise _meddled(step, f"changed {changed}")

    def _mode_at(self, name: str, place: Place) -> int | None:
        """Return the mode of a part of the scratch, or None where another stands in its place, or none."""
        try:
            facts = os.stat(name or self.path, dir_fd=self._folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return facts.st_mode if place_of(facts) == place else None

    def set_aside(self, step: str) -> list[str]:
        """Move what a step left, wherever in the scratch, to where no later step looks; return its names."""
        with self.opened(WORK) as work:
            names = names_in(work)
        if names:
            with self.opened(LEFT) as left:
                os.rename(WORK, step, src_dir_fd=self._folder, dst_dir_fd=left)
            self._make(WORK)
        with self.opened(TMP) as tmp:
            if names_in(tmp):
                empty(tmp)
        with suppress(FileNotFoundError):
            facts = os.stat(SIDECAR, dir_fd=self._folder, follow_symlinks=False)
            if stat.S_ISREG(facts.st_mode) and not facts.st_size:
                os.unlink(SIDECAR, dir_fd=self._folder)
        self.done.append(step)
        own: dict[str, Container[object]] = {**self._sealed, ".": {*self._places, ORDER, OWNER}, LEFT: self.done}
        for folder, known in own.items():
            with self.opened(folder) as source:
                for name in names_in(source):
                    if name not in known:
                        with self._left(step) as target:
                            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
                        names.append(name)
        return sorted(names)

    @contextmanager
    def _left(self, step: str) -> Iterator[int]:
        with self.opened(LEFT) as left:
            with suppress(FileExistsError):
                os.mkdir(step, dir_fd=left)
            with opened_folder(step, left) as descriptor:
                yield descriptor

    def end(self, *, keep: bool = False) -> None:
        """Close the scratch, and unless it is kept remove it with all that is in it, as far as that can be done."""
        if keep:
            self._tell_kept()
        else:
            remove_open(self.path, self._folder)
        os.close(self._folder)
        if self.promise is not None:
            self.promise.end()
        self.printed.end()
        if self._own is not None:
            os.close(self._own)

    def _tell_kept(self) -> None:
        """Say in a kept scratch of which role each output is, and that it is nobody's now.

        Nothing that a step put there in its place is used.
        """
        with suppress(OSError):
            os.unlink(OWNER, dir_fd=self._folder)
        with suppress(OSError):
            with suppress(FileNotFoundError):
                os.unlink(MADE, dir_fd=self._folder)
            told = os.open(MADE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=self._folder)
            with open(told, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                json.dump({"steps": self.done, "made": self.kept}, file)

    @staticmethod
    def discard(root: Path, order: JobOrder) -> None:
        """Remove what a dead process left of an attempt, if anything: steps that still run, and its scratch."""
        discard(root / token(order.attempt))

    @staticmethod
    def discard_abandoned(root: Path) -> None:
        """Do so for each scratch of a dead process of this host."""
        for path in abandoned(root):
            discard(path)


def _meddled(step: str, how: str) -> JobFailed:
    return JobFailed(f"step {step!r} {how}", fate=Fate.BAD_OUTPUT, step=step, remedy=HANDS_OFF)
