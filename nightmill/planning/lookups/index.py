"""Candidates by what they are of.

They are indexed once by the dimensions on which they must agree with a unit, and by time; a unit costs a dictionary
look-up and a bisection, never a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nightmill.model.dimensions import DIMENSIONS
from nightmill.model.lookup import Candidate, Shelf
from nightmill.model.unit import Unit


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
