"""How the files of an input are chosen for a unit: by what they are of, then by a named strategy.

Files are indexed once by the dimensions on which they must agree with a unit, and by time; a unit costs a dictionary
look-up and a bisection, never a query.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

from nightmill.backbone.catalogue.files import FoundFile
from nightmill.model.dimensions import DIMENSIONS
from nightmill.model.pipeline import Lookup
from nightmill.planning.units import Unit, middle

DAY_SECONDS: Final = 86_400.0
EPOCHS: Final = frozenset({"night", "exposure", "run"})
"""Dimensions that say when: a lookup of a calibration decides about time itself, so they do not match by default."""


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


class Index:
    """Candidates by the dimensions on which they must agree with a unit.

    Parameters
    ----------
    candidates
        The files to choose from.
    match
        Dimensions that file and unit must both have, with the same value.
    default
        Where ``match`` is None: dimensions that must agree where both have a value.
    """

    def __init__(self, candidates: Iterable[Candidate], match: Sequence[str] | None, default: Sequence[str]) -> None:
        self.match = tuple(match) if match is not None else None
        self._patterns: dict[tuple[str, ...], list[Candidate]] = {}
        self._shelves: dict[tuple[tuple[str, ...], tuple[str, ...]], Mapping[tuple[str | int, ...], Shelf]] = {}
        wanted = tuple(default) if self.match is None else self.match
        for candidate in candidates:
            data_id = candidate.file.data_id
            pattern = tuple([dimension for dimension in wanted if dimension in data_id])
            if self.match is None or pattern == self.match:
                self._patterns.setdefault(pattern, []).append(candidate)

    def matching(self, unit: Unit) -> Shelf:
        """Return the candidates that agree with a unit."""
        found = []
        for pattern, candidates in self._patterns.items():
            dimensions = tuple([dimension for dimension in pattern if dimension in unit.data_id])
            if self.match is not None and dimensions != self.match:
                continue
            shelves = self._shelves.get((pattern, dimensions))
            if shelves is None:
                shelves = self._shelves[pattern, dimensions] = _shelve(candidates, dimensions)
            shelf = shelves.get(tuple([unit.data_id[dimension] for dimension in dimensions]))
            if shelf is not None:
                found.append(shelf)
        if len(found) == 1:
            return found[0]
        return Shelf(candidate for shelf in found for candidate in shelf.candidates)

    def dimensions(self, unit: Unit) -> tuple[str, ...]:
        """Return the dimensions on which files were asked to agree with a unit, for messages."""
        if self.match is not None:
            return self.match
        asked = {dimension for pattern in self._patterns for dimension in pattern}
        return tuple(dimension for dimension in DIMENSIONS if dimension in asked and dimension in unit.data_id)


def _shelve(candidates: Iterable[Candidate], dimensions: Sequence[str]) -> dict[tuple[str | int, ...], Shelf]:
    groups: dict[tuple[str | int, ...], list[Candidate]] = {}
    for candidate in candidates:
        key = tuple([candidate.file.data_id[dimension] for dimension in dimensions])
        groups.setdefault(key, []).append(candidate)
    return {key: Shelf(group) for key, group in groups.items()}


def look_up(lookup: Lookup, shelf: Shelf, unit: Unit) -> Found:
    """Choose by the lookup's strategy among the candidates that match a unit.

    The choice is the same for the same candidates, whatever their order.
    """
    return STRATEGIES[lookup.strategy](lookup, shelf, unit)


def _nearest(lookup: Lookup, shelf: Shelf, unit: Unit) -> Found:
    when = unit.middle
    times, candidates = shelf.timed
    if when is None:
        return Found((), "nearest", near="the unit's files have no time")
    if not times:
        return Found((), "nearest")
    after = bisect_left(times, when)
    choices = [after] if after < len(times) else []
    if after > 0:
        choices.append(bisect_left(times, times[after - 1]))
    best = min(choices, key=lambda number: (abs(times[number] - when), times[number]))
    days = (times[best] - when) / DAY_SECONDS
    file = candidates[best].file
    if lookup.max_days is not None and abs(days) > lookup.max_days:
        return Found((), "nearest", near=f"the nearest, {file.name}, is {_days(days)}")
    return Found((file,), f"{_days(days)}{_of(len(times))}")


def _days(days: float) -> str:
    if abs(days) < 0.05:
        return "at the same time" if days == 0 else f"{abs(days) * 24:.1f} h {'before' if days < 0 else 'after'}"
    return f"{abs(days):.1f} d {'before' if days < 0 else 'after'}"


def _of(count: int) -> str:
    return f", of {count} candidates" if count > 1 else ", the only candidate"


def _valid(_lookup: Lookup, shelf: Shelf, unit: Unit) -> Found:
    when = unit.middle
    if when is None:
        return Found((), "valid", near="the unit's files have no time")
    time = datetime.fromtimestamp(when, UTC)
    for candidate in shelf.latest_first:
        if candidate.valid_from is None or candidate.valid_until is None:
            continue
        if candidate.valid_from <= time <= candidate.valid_until:
            span = f"{candidate.valid_from:%Y-%m-%d} to {candidate.valid_until:%Y-%m-%d}"
            return Found((candidate.file,), f"{span}, the latest added")
    near = f"none of {len(shelf.candidates)} is valid at {time:%Y-%m-%dT%H:%M:%S}" if shelf.candidates else ""
    return Found((), "valid", near=near)


def _listed(_lookup: Lookup, shelf: Shelf, _unit: Unit) -> Found:
    return Found(shelf.files, "by name")


STRATEGIES: Final[Mapping[str, Callable[[Lookup, Shelf, Unit], Found]]] = {
    "nearest": _nearest,
    "valid": _valid,
    "list": _listed,
}
"""The strategies by their names; for ``list`` the candidates are the listed files alone."""
