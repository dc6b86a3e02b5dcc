"""One way in which an input is filled: a lookup, or none, with its candidates."""

from __future__ import annotations

from collections.abc import Sequence

from nightmill.model.dimensions import DIMENSIONS, KeyValue
from nightmill.model.lookup import Found
from nightmill.model.pipeline import Input, LookupSetting, Stage
from nightmill.model.unit import Unit
from nightmill.planning.lookups.bound import Bound
from nightmill.planning.lookups.index import Agreement, Chosen, Index
from nightmill.planning.selection import Group


class Way:
    """Finds the files of an input for unit after unit.

    Parameters
    ----------
    stage, declared
        The input, with one lookup at most.
    lookup
        That lookup; None where all files that match are taken.
    groups
        The candidates, by the places that are searched in their order.
    searched
        Whether it finds files by what they are of; not where rows, or the units themselves, tell its files.
    """

    def __init__(
        self, stage: Stage, declared: Input, lookup: Bound | None, groups: Sequence[Group], *, searched: bool = True
    ) -> None:
        self.declared = declared
        self.groups = groups
        self.lookup = lookup
        self.level = declared.lookup.level if isinstance(declared.lookup, LookupSetting) else None
        self.places = [group.place for group in groups]
        self.known = {candidate.file.name for group in groups for candidate in group.candidates}
        """Names of its candidates."""
        wanted = lookup.names if lookup is not None else None
        agreement = self._agreement(stage)
        self._searched = [
            Index([each for each in group.candidates if wanted is None or each.file.name in wanted], agreement)
            for group in (groups if searched else ())
        ]
        self._drafts = [Index(group.drafts, agreement) for group in groups if group.drafts]
        self.empty = not any(group.candidates or group.drafts for group in groups)
        """Whether it has no candidates for any unit."""

    def _agreement(self, stage: Stage) -> Agreement:
        if not self.declared.adds:
            return Agreement(self.declared.asked)
        if self.lookup is None:
            return Agreement(self.declared.asked, stage.per)
        over_time = self.lookup.lookup.over_time
        return Agreement(self.declared.asked, [each for each in DIMENSIONS if each not in over_time])

    def find(self, unit: Unit, chosen: Chosen) -> Found:
        """Return the files that it finds for a unit; where there are none, what is nearest to fitting.

        It raises what :meth:`Bound.choose` and :meth:`Index.matching` raise.
        """
        near = ""
        for place, index in zip(self.places, self._searched, strict=True):
            found = self._find(index, unit, place, chosen)
            if found.files:
                return found
            near = near or found.near or index.near(unit, chosen)
        return Found((), "none found", self._draft(unit, chosen) or near)

    def _find(self, index: Index, unit: Unit, place: str, chosen: Chosen) -> Found:
        shelf = index.matching(unit, chosen)
        if self.lookup is None:
            keys = index.keys(unit, chosen)
            return Found(shelf.files, f"{place}, same {' and '.join(keys)}" if keys else place)
        found = self.lookup.choose(shelf, unit)
        level = f" (level {self.level})" if self.level is not None else ""
        return Found(found.files, f"{self.lookup.word} {place}: {found.rule}{level}", found.near)

    def keys(self, unit: Unit, chosen: Chosen) -> dict[str, tuple[KeyValue, ...]]:
        """Return the keys on which files were asked to agree with a unit, and its values, for messages."""
        keys: dict[str, tuple[KeyValue, ...]] = {}
        for index in (*self._searched, *self._drafts):
            keys |= index.keys(unit, chosen)
        return keys

    def _draft(self, unit: Unit, chosen: Chosen) -> str:
        if self.lookup is None:
            return ""
        drafts = [file.name for index in self._drafts for file in index.matching(unit, chosen).files]
        return f"{drafts[0]} is a draft: 'nightmill calib certify' makes it fit for use" if drafts else ""
