"""The file whose validity range holds the time of the unit."""

from __future__ import annotations

from datetime import UTC, datetime

from nightmill.model.lookup import Found, Lookup, Need, Shelf
from nightmill.model.unit import Unit
from nightmill.planning.lookups.options import NoFiles


class Valid(Lookup[NoFiles]):
    """Takes the latest added of those whose range holds the middle of the unit, its ends included."""

    name = "valid"
    options = NoFiles
    needs = frozenset({Need.TIME, Need.CALIBRATIONS})

    def choose(self, _options: NoFiles, shelf: Shelf, unit: Unit) -> Found:
        """Choose the first that holds the time, the latest added before the others."""
        time = datetime.fromtimestamp(unit.time, UTC)
        for candidate in shelf.latest_first:
            if candidate.valid_from is None or candidate.valid_until is None:
                continue
            if candidate.valid_from <= time <= candidate.valid_until:
                span = f"{candidate.valid_from:%Y-%m-%d} to {candidate.valid_until:%Y-%m-%d}"
                return Found((candidate.file,), f"{span}, the latest added")
        count = len(shelf.candidates)
        return Found(near=f"none of {count} is valid at {time:%Y-%m-%dT%H:%M:%S}" if count else "")
