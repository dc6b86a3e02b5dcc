"""Candidates by what they are of.

They are indexed once by the keys on which they must agree with a unit, and by time; a unit costs a dictionary look-up
and a bisection, never a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Final

from nightmill.model.dimensions import KeyValue, written
from nightmill.model.found_file import FoundFile
from nightmill.model.lookup import Candidate, Shelf
from nightmill.model.unit import Unit

SHOWN: Final = 3
"""How many values a message shows."""

Chosen = Mapping[str, Sequence[FoundFile]]
"""What fills other roles for the same unit."""
_NONE: Final[Chosen] = {}
_Values = tuple[KeyValue, ...]


class Differing(Exception):
    """A unit's files differ in a key by which something is to be chosen for it."""


@dataclass(frozen=True)
class Agreement:
    """The keys on which file and unit must agree.

    Parameters
    ----------
    asked
        Keys that the file must have, with those of the unit of which one must have the same value: its own, or as
        ``ROLE.KEY`` those of the files that fill another role.
    default
        Keys that must agree where both have a value.
    """

    asked: Mapping[str, Sequence[str]] = field(default_factory=dict)
    default: Sequence[str] = ()

    def values(self, unit: Unit, key: str, chosen: Chosen = _NONE) -> _Values:
        """Return the values of a key of a file that agree with a unit; none where it has no value.

        Raises
        ------
        Differing
            Where the unit's files differ in what is asked of them, so that nothing can be chosen by it.
        """
        asked = self.asked.get(key)
        if asked is None and (own := unit.data_id.get(key)) is not None:
            return (own,)
        found: dict[KeyValue, None] = {}
        for wanted in asked or (key,):
            role, dot, name = wanted.partition(".")
            if dot:
                found |= dict.fromkeys(value for file in chosen[role] if (value := file.get(name)) is not None)
                continue
            values = unit.values(wanted)
            if len(values) > 1:
                raise Differing(
                    f"the files of a unit differ in {wanted}, by which this input is chosen; add {wanted} to 'per', or"
                    " say in 'match' on what they must agree"
                )
            found |= dict.fromkeys(values)
        return tuple(found)

    def agreeing(self, files: Iterable[FoundFile], unit: Unit, chosen: Chosen = _NONE) -> list[FoundFile]:
        """Return those of some files that agree with a unit.

        Raises
        ------
        Differing
            As :meth:`values`.
        """
        found = [file for file in files if all([file.get(key) is not None for key in self.asked])]
        for key in (*self.asked, *self.default):
            if not found:
                break  # a unit whose files differ is asked for a value only where something is chosen by it
            values = self.values(unit, key, chosen)
            if key in self.asked:
                found = [file for file in found if file.get(key) in values]
            elif values:
                found = [file for file in found if (value := file.get(key)) is None or value in values]
        return found


class Index:
    """Candidates by the keys on which they must agree with a unit."""

    def __init__(self, candidates: Iterable[Candidate], agreement: Agreement) -> None:
        self._agreement = agreement
        self._patterns: dict[tuple[str, ...], list[Candidate]] = {}
        self._shelves: dict[tuple[str, ...], dict[tuple[str, ...], Mapping[_Values, Shelf]]] = {}
        self._lacking = 0
        """How many candidates have no value of a key that is asked."""
        asked = list(agreement.asked)
        wanted = [*asked, *(key for key in agreement.default if key not in agreement.asked)]
        for candidate in candidates:
            file = candidate.file
            pattern = tuple([key for key in wanted if file.get(key) is not None])
            if list(pattern[: len(asked)]) == asked:
                self._patterns.setdefault(pattern, []).append(candidate)
            else:
                self._lacking += 1

    def matching(self, unit: Unit, chosen: Chosen = _NONE) -> Shelf:
        """Return the candidates that agree with a unit.

        Raises
        ------
        Differing
            As :meth:`Agreement.values`.
        """
        found = []
        for pattern, candidates in self._patterns.items():
            options = {key: values for key in pattern if (values := self._agreement.values(unit, key, chosen))}
            if any(key not in options for key in self._agreement.asked):
                continue
            keys = tuple(options)
            of_pattern = self._shelves.setdefault(pattern, {})
            if (shelves := of_pattern.get(keys)) is None:
                shelves = of_pattern[keys] = _shelve(candidates, keys)
            found += [shelf for values in product(*options.values()) if (shelf := shelves.get(values)) is not None]
        if len(found) == 1:
            return found[0]
        return Shelf(candidate for shelf in found for candidate in shelf.candidates)

    def keys(self, unit: Unit, chosen: Chosen = _NONE) -> dict[str, _Values]:
        """Return the keys on which files were asked to agree with a unit, and its values, for messages."""
        wanted = dict.fromkeys([*self._agreement.default, *self._agreement.asked])
        there = {key for pattern in self._patterns for key in pattern}
        values = {key: self._agreement.values(unit, key, chosen) for key in wanted if key in there}
        return {key: each for key, each in values.items() if each or key in self._agreement.asked}

    def near(self, unit: Unit, chosen: Chosen = _NONE) -> str:
        """Say on which key nothing agrees with a unit; empty where each key has some that do, or nothing is there."""
        for key in (*self._agreement.asked, *self._agreement.default):
            there = self._there.get(key)
            values = self._agreement.values(unit, key, chosen) if there else ()
            if there and key in self._agreement.asked and not values:
                return f"the unit has no {' or '.join(self._agreement.asked[key])}"
            if there and values and there.isdisjoint(values):
                own = " or ".join(map(written, values))
                return f"{key} is {own}, and there is {_shown(there, values[0])}"
        if self._lacking and not self._patterns:
            return f"none of {self._lacking} has {' and '.join(self._agreement.asked)}"
        return ""

    @cached_property
    def _there(self) -> Mapping[str, set[KeyValue]]:
        """The values of each key that some candidate has; of one that others of them lack, nothing."""
        found: dict[str, set[KeyValue]] = {}
        for key in set.intersection(*map(set, self._patterns)) if self._patterns else ():
            files = [candidate.file for candidates in self._patterns.values() for candidate in candidates]
            found[key] = {value for file in files if (value := file.get(key)) is not None}
        return found


def _shelve(candidates: Iterable[Candidate], keys: Sequence[str]) -> dict[_Values, Shelf]:
    groups: dict[_Values, list[Candidate]] = {}
    for candidate in candidates:
        values = tuple([value for key in keys if (value := candidate.file.get(key)) is not None])
        groups.setdefault(values, []).append(candidate)
    return {values: Shelf(group) for values, group in groups.items()}


def _shown(values: Iterable[KeyValue], wanted: KeyValue) -> str:
    """Write the values that are nearest to a wanted one, of several."""
    ordered = sorted(values, key=lambda value: _distance(value, wanted))
    more = ", ..." if len(ordered) > SHOWN else ""
    return ", ".join(map(written, ordered[:SHOWN])) + more


def _distance(value: KeyValue, wanted: KeyValue) -> tuple[float, str]:
    if isinstance(value, str) or isinstance(wanted, str):
        return 0.0, str(value)
    return abs(value - wanted), str(value)
