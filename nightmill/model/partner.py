"""Sites that share a catalogue and let each other read their stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from nightmill.model.base import Frozen
from nightmill.model.store import Store

Types = Literal["all"] | tuple[str, ...]
"""File types by their names, or all of them."""


def among_types(type_: str, types: Types) -> bool:
    """Say whether a file type is among some."""
    return types == "all" or type_ in types


class Partner(Frozen):
    """Another site of the catalogue, as a site sees it: it reads there, and never writes."""

    name: str
    """That of the site in the catalogue."""
    stores: Mapping[str, Store]
    """How its stores are read from here, by their names there."""
    ship: Types = ()
    """Types of files that are shipped from it where a campaign of this site needs them; by default none."""
    into: str = "backbone"
    """The store of this site that what comes from it is put into."""

    def ships(self, type_: str) -> bool:
        """Say whether files of a type may be shipped from it."""
        return among_types(type_, self.ship)


def far_store(site: str, store: str) -> str:
    """Return how a store of another site is spoken of: as SITE:STORE."""
    return f"{site}:{store}"
