"""The file whose validity range holds the time of the unit."""

from __future__ import annotations

from datetime import UTC, datetime

from nightmill.model.lookup import Found, Shelf
from nightmill.model.pipeline import Lookup
from nightmill.model.unit import Unit


def valid(_lookup: Lookup, shelf: Shelf, unit: Unit) -> Found:
    """Choose the latest added of those whose range holds the middle of the unit."""
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
