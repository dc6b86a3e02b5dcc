"""The planned jobs of a stage: as many as there are, of which a bounded part is held in memory."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from tempfile import TemporaryFile
from typing import Any, Final, TypeVar, overload
from weakref import finalize

from nightmill.errors import RequestRefused
from nightmill.model.found_file import FoundFile
from nightmill.planning.sealed import Choice, PlannedJob

BLOCK: Final = 5_000
"""So many jobs are looked up and written at a time."""
HELD: Final = 10
"""So many blocks are held in memory; those that come after them are written to a file."""

Item = TypeVar("Item")


def blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in lists of :data:`BLOCK`, the last one shorter."""
    rest = iter(items)
    while block := list(islice(rest, BLOCK)):
        yield block


class Jobs(Sequence[PlannedJob]):
    """Planned jobs in their order, to be read as often as wanted, by any thread.

    What does not fit into memory is written to a file without a name, which ends with this object.

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
        self._held: list[list[PlannedJob]] = []
        """The first full blocks."""
        self._places: list[tuple[int, int]] = []
        """Where each further full block begins in the file, and its size in bytes."""
        self._rest: list[PlannedJob] = []
        self._read: tuple[int, list[PlannedJob]] = (-1, [])
        """The block that was read last."""
        self._file = -1
        for block in blocks(jobs):
            if len(block) < BLOCK:
                self._rest = block
            elif len(self._held) < HELD:
                self._held.append(block)
            else:
                self._write(block)

    def __len__(self) -> int:
        return self._full * BLOCK + len(self._rest)

    def __iter__(self) -> Iterator[PlannedJob]:
        for number in range(self._full):
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
        return self._rest[place] if number == self._full else self._block(number)[place]

    @property
    def _full(self) -> int:
        """How many full blocks there are."""
        return len(self._held) + len(self._places)

    def _write(self, block: list[PlannedJob]) -> None:
        data = pickle.dumps([_plain(job) for job in block], pickle.HIGHEST_PROTOCOL)
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
        if number < len(self._held):
            return self._held[number]
        at, block = self._read
        if at != number:
            offset, size = self._places[number - len(self._held)]
            data = os.pread(self._file, size, offset)
            block = [_job(each) for each in pickle.loads(data)]  # noqa: S301 - written by this very process, seen by no other
            self._read = (number, block)
        return block


def _plain(job: PlannedJob) -> tuple[Any, ...]:
    """Take the names from the fields of a job: what has some is written and read at a tenth of the speed."""
    return (*job[:4], [(role, rule, [*map(tuple, files)]) for role, rule, files in job.choices], *job[5:])


def _job(plain: tuple[Any, ...]) -> PlannedJob:
    unit, data_id, begins_at, ends_at, choices, *rest = plain
    own = tuple([Choice(role, rule, tuple(map(FoundFile._make, files))) for role, rule, files in choices])
    return PlannedJob(unit, data_id, begins_at, ends_at, own, *rest)
