"""The file that is best in a key of its metadata."""

from __future__ import annotations

from typing import Literal

from nightmill.model.base import Frozen
from nightmill.model.dimensions import KeyValue
from nightmill.model.lookup import Candidate, Found, Lookup, Shelf
from nightmill.model.unit import Unit
from nightmill.planning.lookups.nearest import _of


class BestOptions(Frozen):
    """What is best."""

    by: str
    """A key of the files with numbers, as ``seeing``."""
    prefer: Literal["least", "greatest"] = "least"
    """Which of its values is best."""


class Best(Lookup[BestOptions]):
    """Takes the file with the least (or greatest) value of a key; of several the first by name."""

    name = "best"
    options = BestOptions

    def choose(self, options: BestOptions, shelf: Shelf, _unit: Unit) -> Found:
        """Choose the best of those that have a number there."""
        valued = [(value, each) for each in shelf.candidates if (value := _number(each, options.by)) is not None]
        if not valued:
            count = len(shelf.candidates)
            return Found(near=f"none of {count} has a number in {options.by}" if count else "")
        best = min(value for value, _ in valued) if options.prefer == "least" else max(value for value, _ in valued)
        chosen = next(each for value, each in valued if value == best)
        return Found((chosen.file,), f"{options.by} {best:g}, the {options.prefer}{_of(len(valued))}")


def _number(candidate: Candidate, key: str) -> float | None:
    value: KeyValue | None = candidate.file.get(key)
    return None if value is None or isinstance(value, str | bool) else float(value)
