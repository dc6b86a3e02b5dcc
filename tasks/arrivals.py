"""Files that arrive: found below the paths that were given, and read once for what they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from nightmill.errors import BadFile, FileRefused
from nightmill.files.gate import Inspection, inspect_file
from nightmill.model.file_type import FileType

LARGE_BYTES: Final = 1 << 20
"""From here on, a file gains more from a second thread than the thread costs."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that passed the gate.

    Parameters
    ----------
    path
        Where it lies, absolute.
    stamp
        What changes when its content does, as it was before it was read.
    """

    path: Path
    stamp: tuple[int, int, int]
    device: int
    inspection: Inspection

    def refuse_change(self) -> None:
        """Make sure that the file is still the one that was read.

        Raises
        ------
        BadFile
            Where it is not.
        """
        if _stamp(_status(self.path)) != self.stamp:
            raise BadFile(
                f"{self.path} changed while it was taken in", reason="changed", remedy="let it be written first"
            )


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


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List files: those given, and all below the folders given, sorted in each; each file once.

    Hidden files and folders are passed over, and folders that are symbolic links are not entered.
    """
    return list(dict.fromkeys(file for path in paths for file in _below(path.absolute())))


def _below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def inspect_all(paths: Sequence[Path], file_type: FileType, pool: Executor) -> Iterator[Arrival | Refused]:
    """Read files for what they are; yield what each is, in their order."""

    def inspect(path: Path) -> Arrival | Refused:
        try:
            status = _status(path)
            return Arrival(path, _stamp(status), status.st_dev, inspect_file(path, file_type))
        except FileRefused as error:
            return Refused(path, error.reason, str(error))

    def is_large(path: Path) -> bool:
        try:
            return path.stat().st_size >= LARGE_BYTES
        except OSError:
            return False

    return side_by_side(inspect, paths, pool, where=is_large)


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], pool: Executor, *, where: Callable[[Item], bool]
) -> Iterator[Result]:
    """Yield what is made of each item, in their order; those that gain from it are worked on in a pool meanwhile."""
    running = {number: pool.submit(work, item) for number, item in enumerate(items) if where(item)}
    for number, item in enumerate(items):
        yield running[number].result() if number in running else work(item)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise BadFile(f"{path} is not there", reason="missing") from error
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", reason="unreadable") from error


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
