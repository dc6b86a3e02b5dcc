"""How the files of an input are chosen for a unit: by what they are of, then by a named strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from nightmill.model.lookup import Found, Shelf
from nightmill.model.pipeline import Lookup
from nightmill.model.unit import Unit
from nightmill.planning.lookups.listed import listed
from nightmill.planning.lookups.nearest import nearest
from nightmill.planning.lookups.valid import valid

EPOCHS: Final = frozenset({"night", "exposure", "run"})
"""Dimensions that say when: a lookup of a calibration decides about time itself, so they do not match by default."""


def look_up(lookup: Lookup, shelf: Shelf, unit: Unit) -> Found:
    """Choose by the lookup's strategy among the candidates that match a unit.

    The choice is the same for the same candidates, whatever their order.
    """
    return STRATEGIES[lookup.strategy](lookup, shelf, unit)


STRATEGIES: Final[Mapping[str, Callable[[Lookup, Shelf, Unit], Found]]] = {
    "nearest": nearest,
    "valid": valid,
    "list": listed,
}
"""The strategies by their names; for ``list`` the candidates are the listed files alone."""
