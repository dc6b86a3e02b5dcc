"""The files that are listed by name."""

from __future__ import annotations

from collections.abc import Collection

from nightmill.model.lookup import Found, Lookup, Need, Shelf
from nightmill.model.unit import Unit
from nightmill.planning.lookups.options import OwnOptions


class Listed(Lookup[OwnOptions]):
    """Takes every listed file that matches the unit."""

    name = "list"
    options = OwnOptions
    needs = frozenset({Need.FILES})
    word = "listed"

    def names(self, options: OwnOptions) -> Collection[str]:
        """Return the listed names."""
        return options.files

    def within(self, _options: OwnOptions) -> str:
        """Return that it looks at these alone."""
        return "among the listed files"

    def choose(self, _options: OwnOptions, shelf: Shelf, _unit: Unit) -> Found:
        """Choose all: the candidates are the listed files alone."""
        return Found(shelf.files, "by name")
