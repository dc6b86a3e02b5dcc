"""The files that are listed by name."""

from __future__ import annotations

from nightmill.model.lookup import Found, Shelf
from nightmill.model.pipeline import Lookup
from nightmill.model.unit import Unit


def listed(_lookup: Lookup, shelf: Shelf, _unit: Unit) -> Found:
    """Choose what is listed: for this strategy the candidates are the listed files alone."""
    return Found(shelf.files, "by name")
