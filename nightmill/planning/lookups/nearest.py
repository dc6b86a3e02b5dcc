"""Files by their distance from the unit in time: the nearest, the last before, the first after, or one on each side."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from nightmill.model.lookup import Found, Lookup, Need, Shelf
from nightmill.model.unit import Unit
from nightmill.planning.lookups.options import NoFiles

DAY_SECONDS: Final = 86_400.0


class _ByTime(Lookup[NoFiles]):
    """Chooses by bisection of the middles of files; of two at the same time the first by name."""

    options = NoFiles
    needs = frozenset({Need.TIME})

    def within(self, options: NoFiles) -> str:
        """Return how many days away it may lie."""
        return f"within {options.max_days:g} d" if options.max_days is not None else ""

    def choose(self, options: NoFiles, shelf: Shelf, unit: Unit) -> Found:
        """Choose those that :meth:`places` says, where each lies near enough."""
        times, candidates = shelf.timed
        if not times:
            count = len(shelf.candidates)
            return Found(near=f"none of {count} has a time" if count else "")
        when = unit.time
        sides = self.places(times, when)
        for side, place in sides.items():
            if place is None:
                first, last = (_days((times[end] - when) / DAY_SECONDS) for end in (0, -1))
                return Found(near=f"none is {side}: the first is {first}, the last {last}")
        chosen = [place for place in sides.values() if place is not None]
        told = []
        for place in chosen:
            days = (times[place] - when) / DAY_SECONDS
            if options.max_days is not None and abs(days) > options.max_days:
                return Found(near=f"the nearest, {candidates[place].file.name}, is {_days(days)}")
            told.append(_days(days))
        files = tuple([candidates[place].file for place in dict.fromkeys(chosen)])
        return Found(files, f"{' and '.join(told)}{_of(len(times))}")

    @abstractmethod
    def places(self, times: Sequence[float], when: float) -> dict[str, int | None]:
        """Return the places of the files to take, by the side on which they lie; None where there is none."""


class Nearest(_ByTime):
    """Takes the nearest to the middle of the unit; of two at the same distance the earlier, then the first by name."""

    name = "nearest"

    def places(self, times: Sequence[float], when: float) -> dict[str, int | None]:
        """Return the nearest."""
        choices = [place for place in (_before(times, when), _after(times, when)) if place is not None]
        return {"near": min(choices, key=lambda place: (abs(times[place] - when), times[place]))}


class Before(_ByTime):
    """Takes the last that is not after the middle of the unit."""

    name = "before"
    word = "last before"

    def places(self, times: Sequence[float], when: float) -> dict[str, int | None]:
        """Return the last before."""
        return {"before": _before(times, when)}


class After(_ByTime):
    """Takes the first that is not before the middle of the unit."""

    name = "after"
    word = "first after"

    def places(self, times: Sequence[float], when: float) -> dict[str, int | None]:
        """Return the first after."""
        return {"after": _after(times, when)}


class Bracket(_ByTime):
    """Takes the last before and the first after: both, or none; a file at the very time of the unit is both."""

    name = "bracket"
    word = "before and after"

    def places(self, times: Sequence[float], when: float) -> dict[str, int | None]:
        """Return one on each side."""
        return {"before": _before(times, when), "after": _after(times, when)}


def _before(times: Sequence[float], when: float) -> int | None:
    """Return the first of those that lie last at a time or before it."""
    place = bisect_right(times, when)
    return bisect_left(times, times[place - 1]) if place else None


def _after(times: Sequence[float], when: float) -> int | None:
    place = bisect_left(times, when)
    return place if place < len(times) else None


def _days(days: float) -> str:
    if abs(days) < 0.05:
        return "at the same time" if days == 0 else f"{abs(days) * 24:.1f} h {'before' if days < 0 else 'after'}"
    return f"{abs(days):.1f} d {'before' if days < 0 else 'after'}"


def _of(count: int) -> str:
    return f", of {count} candidates" if count > 1 else ", the only candidate"
