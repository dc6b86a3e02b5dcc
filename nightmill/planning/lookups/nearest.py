"""The file that is nearest to the unit in time."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from nightmill.model.lookup import Found, Lookup, Need, Shelf
from nightmill.model.unit import Unit
from nightmill.planning.lookups.options import NoFiles

DAY_SECONDS: Final = 86_400.0


class Nearest(Lookup[NoFiles]):
    """Takes the nearest to the middle of the unit; of two at the same distance the earlier, then the first by name."""

    name = "nearest"
    options = NoFiles
    needs = frozenset({Need.TIME, Need.CALIBRATIONS})

    def within(self, options: NoFiles) -> str:
        """Return how many days away it may lie."""
        return f"within {options.max_days:g} d" if options.max_days is not None else ""

    def choose(self, options: NoFiles, shelf: Shelf, unit: Unit) -> Found:
        """Choose by bisection."""
        when = unit.time
        times, candidates = shelf.timed
        if not times:
            count = len(shelf.candidates)
            return Found(near=f"none of {count} has a time" if count else "")
        after = bisect_left(times, when)
        choices = [after] if after < len(times) else []
        if after > 0:
            choices.append(bisect_left(times, times[after - 1]))
        best = min(choices, key=lambda number: (abs(times[number] - when), times[number]))
        days = (times[best] - when) / DAY_SECONDS
        file = candidates[best].file
        if options.max_days is not None and abs(days) > options.max_days:
            return Found(near=f"the nearest, {file.name}, is {_days(days)}")
        return Found((file,), f"{_days(days)}{_of(len(times))}")


def _days(days: float) -> str:
    if abs(days) < 0.05:
        return "at the same time" if days == 0 else f"{abs(days) * 24:.1f} h {'before' if days < 0 else 'after'}"
    return f"{abs(days):.1f} d {'before' if days < 0 else 'after'}"


def _of(count: int) -> str:
    return f", of {count} candidates" if count > 1 else ", the only candidate"
