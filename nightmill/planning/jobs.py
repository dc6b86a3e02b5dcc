"""The planned jobs of a stage: as many as there are, of which a bounded part is held in memory."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from tempfile import TemporaryFile
from typing import Final, TypeVar, overload
from weakref import finalize

from nightmill.errors import RequestRefused
from nightmill.planning.sealed import PlannedJob

BLOCK: Final = 5_000
"""So many jobs are held in memory, looked up and written at a time."""

Item = TypeVar("Item")


def blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in lists of :data:`BLOCK`, the last one shorter."""
    rest = iter(items)
    while block := list(islice(rest, BLOCK)):
        yield block


class Jobs(Sequence[PlannedJob]):
    """Planned jobs in their order, to be read as often as wanted, by any thread.

    What does not fit into one block is written to a file without a name, which ends with this object.

    Parameters
    ----------
    jobs
        All of them; taken one after another.

    Raises
    ------
    RequestRefused
        Where there is no room for them.
    """

    def __init__(self, jobs: Iterable[PlannedJob] = ()) -> None:
        self._places: list[tuple[int, int]] = []
        """Where each full block begins in the file, and its size in bytes."""
        self._rest: list[PlannedJob] = []
        self._read: tuple[int, list[PlannedJob]] = (-1, [])
        """The block that was read last."""
        self._file = -1
        for block in blocks(jobs):
            if len(block) == BLOCK:
                self._write(block)
            else:
                self._rest = block

    def __len__(self) -> int:
        return len(self._places) * BLOCK + len(self._rest)

    def __iter__(self) -> Iterator[PlannedJob]:
        for number in range(len(self._places)):
            yield from self._block(number)
        yield from self._rest

    @overload
    def __getitem__(self, index: int) -> PlannedJob: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PlannedJob, ...]: ...
    def __getitem__(self, index: int | slice) -> PlannedJob | tuple[PlannedJob, ...]:
        if isinstance(index, slice):
            return tuple([self[number] for number in range(*index.indices(len(self)))])
        number, place = divmod(range(len(self))[index], BLOCK)
        return self._rest[place] if number == len(self._places) else self._block(number)[place]

    def _write(self, block: list[PlannedJob]) -> None:
        data = pickle.dumps(block, pickle.HIGHEST_PROTOCOL)
        try:
            if self._file < 0:
                with TemporaryFile(prefix="nightmill-plan-") as opened:
                    self._file = os.dup(opened.fileno())
                finalize(self, os.close, self._file)
            offset = sum(self._places[-1]) if self._places else 0
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], offset + written)
        except OSError as error:
            raise RequestRefused(
                f"the folder for temporary files cannot hold the plan: {error.strerror}",
                remedy="make room there, or name another folder in TMPDIR",
            ) from error
        self._places.append((offset, len(data)))

    def _block(self, number: int) -> list[PlannedJob]:
        at, block = self._read
        if at != number:
            offset, size = self._places[number]
            block = pickle.loads(os.pread(self._file, size, offset))  # noqa: S301 - written by this very process, seen by no other
            self._read = (number, block)
        return block
