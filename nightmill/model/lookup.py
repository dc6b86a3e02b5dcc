"""The port of lookups: what one sees, which are files that may be chosen for a unit, and what it answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

from nightmill.model.base import Frozen
from nightmill.model.dimensions import EPOCHS
from nightmill.model.found_file import FoundFile
from nightmill.model.unit import Unit, middle

Options = TypeVar("Options", bound=Frozen)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be chosen, with what a lookup asks of it.

    Parameters
    ----------
    valid_from, valid_until
        The validity range of a calibration; None for other files.
    rank
        Of two that fit as well, the one with the higher rank was added later.
    """

    file: FoundFile
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    rank: int = 0

    @property
    def middle(self) -> float | None:
        """The middle of the file's own span, or of its validity range, in seconds since the epoch."""
        own = middle(self.file.begins_at, self.file.ends_at)
        return own if own is not None else middle(self.valid_from, self.valid_until)


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup found for a unit.

    Parameters
    ----------
    files
        Those that fill the role; none where nothing fits.
    rule
        Why these, in words that follow the place they come from: ``0.4 d before, of 3 candidates``.
    near
        Where nothing fits: what would nearly have, and what it lacks.
    """

    files: tuple[FoundFile, ...] = ()
    rule: str = ""
    near: str = ""


class Shelf:
    """The candidates that agree with a unit on all dimensions that must match; units that want the same share one."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.candidates = tuple(sorted(candidates, key=lambda candidate: candidate.file.name))
        """By name, whatever order they came in."""

    @cached_property
    def files(self) -> tuple[FoundFile, ...]:
        """Their files, by name."""
        return tuple(candidate.file for candidate in self.candidates)

    @cached_property
    def timed(self) -> tuple[tuple[float, ...], tuple[Candidate, ...]]:
        """Those of them that have a time, by time and name, beside their times in seconds since the epoch."""
        timed = [(time, each.file.name, each) for each in self.candidates if (time := each.middle) is not None]
        timed.sort(key=lambda item: item[:2])
        return tuple([time for time, _, _ in timed]), tuple([candidate for _, _, candidate in timed])

    @cached_property
    def latest_first(self) -> tuple[Candidate, ...]:
        """The latest added one first."""
        return tuple(sorted(self.candidates, key=lambda candidate: -candidate.rank))

    def holds(self, file: object) -> bool:
        """Say whether this very object is a file of one of them."""
        return id(file) in self._held

    @cached_property
    def _held(self) -> frozenset[int]:
        return frozenset(id(candidate.file) for candidate in self.candidates)


class Need(StrEnum):
    """What a lookup cannot do without; where it is not there, the pipeline or the plan says so."""

    TIME = "time"
    """The time of the unit: :attr:`~nightmill.model.unit.Unit.time` has it. A unit without one finds nothing."""
    CALIBRATIONS = "calibrations"
    """A source of calibration sets, whose files have validity ranges."""
    FILES = "files"
    """Names of files: candidates are those that :meth:`Lookup.names` returns, of a calibration set or of any place."""


@runtime_checkable
class Lookup(Protocol[Options]):
    """A strategy that chooses, among files that may be, those that fill an input for a unit.

    A plug-in is a class that is made without arguments, under its name as an entry point of the group
    ``nightmill.lookups``. Derive it from this class to have its defaults. It answers the same for the same candidates
    and the same unit, whatever it was asked before; it returns files of its candidates alone, and changes nothing that
    it is given. :class:`nightmill.testing.lookups.LookupConformance` has a test for each of these promises.
    """

    name: str
    """What stands in a pipeline as ``strategy``: that of its entry point."""
    options: type[Options]
    """What may stand beside it in the pipeline; a key that it does not have is refused there."""
    needs: frozenset[Need] = frozenset()
    over_time: frozenset[str] = EPOCHS
    """Dimensions that candidates need not share with the unit, unless ``match`` names them."""
    word: str = ""
    """How a rule calls what was chosen: ``nearest`` in set ccd; by default the name."""

    def names(self, options: Options) -> Collection[str]:
        """Return the names of the only files that may be candidates; asked where :attr:`Need.FILES` is declared."""
        return ()

    def within(self, options: Options) -> str:
        """Return how far it looks, in words for where nothing was found: ``within 30 d``."""
        return ""

    def choose(self, options: Options, shelf: Shelf, unit: Unit) -> Found:
        """Choose for a unit among the candidates that are limited already by source, exclusions, dimensions and time.

        Called once a unit and place: what can be worked out once a shelf stands on the shelf.
        """
        ...
