"""A lookup with its options, ready to choose for the units of one stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nightmill.config.lookups import broken, broken_promise, lookup_named, options_of
from nightmill.model.base import Frozen
from nightmill.model.lookup import Found, Lookup, Need, Shelf
from nightmill.model.pipeline import LookupSetting
from nightmill.model.unit import Unit


@dataclass(frozen=True)
class Bound:
    """A lookup that was found and given its options, which is done once a stage.

    Parameters
    ----------
    word
        How a rule calls what it chose.
    names
        The only files that may be its candidates; None for any.
    within
        How far it looks, in words.
    """

    lookup: Lookup[Any]
    options: Frozen
    word: str
    names: frozenset[str] | None
    within: str

    def choose(self, shelf: Shelf, unit: Unit) -> Found:
        """Choose among the candidates that match a unit.

        Raises
        ------
        BadPlugin
            Where the lookup fails, or answers with what is not among its candidates.
        """
        if Need.TIME in self.lookup.needs and unit.middle is None:
            return Found(near="the unit's files have no time")
        try:
            found: object = self.lookup.choose(self.options, shelf, unit)
        except Exception as error:
            raise broken(self.lookup.name, error) from error
        if not isinstance(found, Found):
            raise broken_promise(self.lookup.name, f"answers with a {type(found).__name__} and should with a Found")
        files: object = found.files
        if not isinstance(files, tuple):
            kind = type(files).__name__
            raise broken_promise(self.lookup.name, f"answers with a {kind} and should with a tuple of files")
        for file in files:
            if not shelf.holds(file):
                shown = getattr(file, "name", repr(file))
                raise broken_promise(self.lookup.name, f"answers with {shown}, which is not among its candidates")
        if len(files) > 1 and len({file.id for file in files}) < len(files):
            raise broken_promise(self.lookup.name, "answers with a file twice")
        return found


def bind(setting: LookupSetting) -> Bound:
    """Find a lookup and give it its options.

    Raises
    ------
    UnknownName
        Where no installed package offers it.
    BadPlugin
        Where what the package offers cannot be used.
    ConfigErrors
        Where it does not take the options, as another release of its package may.
    """
    lookup = lookup_named(setting.strategy)
    options = options_of(lookup, setting.options, lambda _key: "", ("lookup",))
    try:
        names = frozenset(lookup.names(options)) if Need.FILES in lookup.needs else None
        within = lookup.within(options)
    except Exception as error:
        raise broken(lookup.name, error) from error
    return Bound(lookup, options, lookup.word or lookup.name, names, within)
