"""Files that arrive: each is opened where it was found, and read once for what it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from nightmill.errors import BadFile, BadMetadata, FileRefused
from nightmill.execution.attachments import attach_rows
from nightmill.files.inspection import Inspection
from nightmill.files.reading import StrPath, held
from nightmill.files.recognition import Sorting
from nightmill.files.rows import rows_of
from nightmill.model.attachment import Attachment
from nightmill.model.file_type import FileType

LARGE_BYTES: Final = 1 << 20
"""From here on, a file gains more from a second thread than the thread costs."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lying:
    """A file that was found in a store which is not a folder."""

    store: str
    path: str
    """In the store."""
    size_bytes: int

    @property
    def shown(self) -> Path:
        """What it is called in messages, and on record: ``STORE:PATH``."""
        return Path(f"{self.store}:{self.path}")


@dataclass(frozen=True, slots=True)
class Offered:
    """A file that was found.

    Parameters
    ----------
    path
        Absolute, as whoever offers it writes it.
    real
        The same without any link; empty where links are followed.
    lies
        Where it lies in truth, where the path is that of a copy for the time being.
    """

    path: Path
    real: str
    lies: Lying | None = None

    @property
    def shown(self) -> Path:
        """What it is called in messages, and on record."""
        return self.lies.shown if self.lies is not None else self.path

    def refusal(self, error: FileRefused, type_: str = "") -> Refused:
        """Make the refusal of the file, by the name that it was offered under."""
        return Refused(self.shown, error.reason, str(error).replace(str(self.path), str(self.shown)), type=type_)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that passed its inspection.

    Parameters
    ----------
    stamp
        What changes when its content does: device, inode, size, time of the last write, and of the last change, which
        nobody can put back.
    """

    offered: Offered
    stamp: Stamp
    file_type: FileType
    inspection: Inspection
    attachments: tuple[Attachment, ...] = ()
    """What it holds row by row, in the spool."""

    @property
    def path(self) -> Path:
        """Where it lies, absolute."""
        return self.offered.path

    @property
    def shown(self) -> Path:
        """What it is called in messages, and on record."""
        return self.offered.shown

    @property
    def device(self) -> int:
        """The number of its file system."""
        return self.stamp[0]

    @contextmanager
    def reopened(self) -> Iterator[int]:
        """Open the file again, and give its descriptor.

        Raises
        ------
        BadFile
            Where another file, or a link, lies there now, or it cannot be read.
        """
        with held(self.path, self.offered.real) as descriptor:
            if _stamp(os.fstat(descriptor))[:2] != self.stamp[:2]:
                raise self.changed()
            yield descriptor

    def refuse_change(self) -> None:
        """Make sure that the file is still the one that was read, by all that its file system says of it.

        Raises
        ------
        BadFile
            Where it is not.
        """
        with self.reopened() as descriptor:
            if _stamp(os.fstat(descriptor)) != self.stamp:
                raise self.changed()

    def changed(self) -> BadFile:
        """Make the refusal of a file that is not any more what it was."""
        return _changed(self.shown)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that was not taken in, and why.

    Parameters
    ----------
    reason
        A stable code, for queries.
    """

    path: Path
    reason: str
    message: str
    size_bytes: int | None = None
    sha256: str | None = None
    type: str = ""
    """The file type that it is of, where it was sorted before it was refused."""


def inspect_all(
    offered: Sequence[Offered], sorting: Sorting, spool: Path | None, pool: Executor
) -> Iterator[Arrival | Refused]:
    """Read files for what they are; yield what each is, in their order.

    Parameters
    ----------
    spool
        Where goes what their type wants on record row by row; None where that is read, and kept nowhere.
    """

    def inspect(file: Offered) -> Arrival | Refused:
        sorted_in = ""
        try:
            with held(file.path, file.real) as descriptor:
                stamp = _stamp(os.fstat(descriptor))
                file_type, opened = sorting.open(file.path, descriptor, file.path.name)
                sorted_in = file_type.name
                inspection = opened.inspect(file_type)
                require_time(file.path, file_type, inspection)
                rows = _rows(file.path, file_type, descriptor, spool)
                if _stamp(os.fstat(descriptor))[:4] != stamp[:4]:
                    raise _changed(file.path)
            return Arrival(file, stamp, file_type, inspection, rows)
        except FileRefused as error:
            return file.refusal(error, sorted_in)

    def is_large(file: Offered) -> bool:
        try:
            return file.path.stat().st_size >= LARGE_BYTES
        except OSError:
            return False

    return side_by_side(inspect, offered, pool, where=is_large)


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], pool: Executor, *, where: Callable[[Item], bool]
) -> Iterator[Result]:
    """Yield what is made of each item, in their order; those that gain from it are worked on in a pool meanwhile."""
    running = {number: pool.submit(work, item) for number, item in enumerate(items) if where(item)}
    for number, item in enumerate(items):
        yield running[number].result() if number in running else work(item)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _rows(path: Path, file_type: FileType, descriptor: int, spool: Path | None) -> tuple[Attachment, ...]:
    if file_type.membership is None:
        return ()
    if spool is not None:
        return (attach_rows(path, file_type, descriptor, spool),)
    for _ in rows_of(path, file_type, f"/proc/{os.getpid()}/fd/{descriptor}"):
        pass  # refused where it cannot be read
    return ()


def require_time(path: StrPath, file_type: FileType, found: Inspection) -> None:
    """Refuse a file that its type makes a calibration, and that has no time.

    Raises
    ------
    BadMetadata
        Where it is one (``no_time``).
    """
    if file_type.calibration is not None and found.metadata.begins_at is None:
        raise BadMetadata(
            f"{path} has no begins_at, and file type {file_type.name!r} makes it a calibration, which is valid for a"
            " range of time",
            reason="no_time",
            remedy="let begins_at read another keyword, or leave 'calibration' out of the type",
        )


def _changed(path: Path) -> BadFile:
    return BadFile(f"{path} changed while it was taken in", reason="changed", remedy="let it be written first")
