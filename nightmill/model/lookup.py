"""What a lookup sees and what it answers: files that may be chosen for a unit, and those that were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from nightmill.model.found_file import FoundFile
from nightmill.model.unit import middle


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
    """What a lookup found for a unit: the files and why these, or no file and what was near."""

    files: tuple[FoundFile, ...]
    rule: str
    near: str = ""


class Shelf:
    """The candidates that agree with a unit on all dimensions that must match."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.candidates = sorted(candidates, key=lambda candidate: candidate.file.name)

    @cached_property
    def files(self) -> tuple[FoundFile, ...]:
        """Their files, by name."""
        return tuple(candidate.file for candidate in self.candidates)

    @cached_property
    def timed(self) -> tuple[list[float], list[Candidate]]:
        """Those of them that have a time, by time and name, beside their times."""
        timed = [(time, each.file.name, each) for each in self.candidates if (time := each.middle) is not None]
        timed.sort(key=lambda item: item[:2])
        return [time for time, _, _ in timed], [candidate for _, _, candidate in timed]

    @cached_property
    def latest_first(self) -> list[Candidate]:
        """The latest added one first."""
        return sorted(self.candidates, key=lambda candidate: -candidate.rank)
