"""Which files fill a role for each unit, why these, and what is wrong where none or too many do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from graphlib import TopologicalSorter

from nightmill.config.layers import LAYERS
from nightmill.errors import BadPlugin, guess
from nightmill.model.campaign import Campaign
from nightmill.model.dimensions import DIMENSIONS, KeyValue, written
from nightmill.model.lookup import Found
from nightmill.model.pipeline import Input, Source, Stage
from nightmill.model.unit import Unit
from nightmill.planning.lookups.bound import Bound
from nightmill.planning.lookups.index import Agreement, Chosen, Differing, Index
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import Choice
from nightmill.planning.selection import Group


class Rules:
    """The rules of a stage's choices, each text once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Return the place of a rule's text, a new one where it is new."""
        return self._places.setdefault(text, len(self._places))

    def texts(self) -> tuple[str, ...]:
        """Return every rule in the order of the places."""
        return tuple(self._places)


def unit_role(stage: Stage) -> str:
    """Return the input whose files make the units of a stage; empty where none can."""
    return stage.units_from or next((role for role, declared in stage.inputs.items() if declared.lookup is None), "")


def takes_one(stage: Stage) -> bool:
    """Say whether a unit of a stage is one file by the stage's declaration, so that what the file is of, it is of."""
    return stage.inputs[unit_role(stage)].max == 1


def choosing_order(stage: Stage) -> list[str]:
    """Return the inputs of a stage so that each comes after those by whose files it is matched."""
    before = {role: declared.references for role, declared in stage.inputs.items()}
    return list(TopologicalSorter(before).static_order())


def origin_of(campaign: Campaign, stage: str, role: str) -> str:
    """Return the configuration layer that decided last about an input, as ``campaign (night1.yaml:12)``."""
    prefix = f"pipeline.stages.{stage}.inputs.{role}"
    declared = campaign.pipeline.stage(stage).inputs[role]
    of_raw = declared.source == Source() and declared.lookup is None
    deciding = [
        (key, layer)
        for key, layer in campaign.origins.items()
        if key == prefix or key.startswith(f"{prefix}.") or (of_raw and key == "where")
    ]
    deciding.reverse()  # of one layer, what was written last: the lookup comes after the source
    if not deciding:
        return LAYERS[0]
    _key, layer = max(deciding, key=lambda each: (LAYERS.index(each[1].name), each[0] != "where"))
    return str(layer)


class Chooser:
    """Chooses the files of one input for unit after unit.

    Parameters
    ----------
    stage, role
        Which input.
    lookup
        What chooses among its candidates; None where all that match are taken.
    groups
        Its candidates, by the places that are searched in their order; none where its files make the units.
    rules
        Where the words of its choices are kept.
    problems
        Where a role that cannot be filled is told.
    missing
        Where it is told that too few files fill it; the same, unless these may still come.
    """

    def __init__(
        self,
        stage: Stage,
        role: str,
        lookup: Bound | None,
        groups: Sequence[Group],
        rules: Rules,
        problems: Problems,
        missing: Problems,
    ) -> None:
        self.role = role
        self.declared: Input = stage.inputs[role]
        self.makes_units = role == unit_role(stage)
        self.topic = f"stage {stage.name!r}, input {role!r}"
        self.rules = rules
        self.problems = problems
        self.missing = missing
        self.lookup = lookup
        wanted = lookup.names if lookup is not None else None
        agreement = self._agreement(stage)
        self.places = [group.place for group in groups]
        self.searched = [
            Index([each for each in group.candidates if wanted is None or each.file.name in wanted], agreement)
            for group in groups
        ]
        self.drafts = [Index(group.drafts, agreement) for group in groups if group.drafts]
        self.empty = not self.makes_units and not any(group.candidates or group.drafts for group in groups)
        self._refuse_unknown(wanted or set(), groups)

    def _agreement(self, stage: Stage) -> Agreement:
        if not self.declared.adds:
            return Agreement(self.declared.asked)
        if self.lookup is None:
            return Agreement(self.declared.asked, stage.per)
        over_time = self.lookup.lookup.over_time
        return Agreement(self.declared.asked, [each for each in DIMENSIONS if each not in over_time])

    def choose(self, unit: Unit, chosen: Chosen) -> Choice | None:
        """Return what fills the role for a unit; None where that was a problem.

        Parameters
        ----------
        chosen
            What fills the roles that come before it in :func:`choosing_order`.
        """
        try:
            return self._counted(unit, self._found(unit, chosen), chosen)
        except (BadPlugin, Differing) as error:
            self.problems.add(self.topic, str(error), unit.name)
            return None

    def _found(self, unit: Unit, chosen: Chosen) -> Found:
        if self.makes_units:
            return Found(unit.files, f"{self.places[0]}; its files make the units")
        near = ""
        for place, index in zip(self.places, self.searched, strict=True):
            found = self._find(index, unit, place, chosen)
            if found.files:
                return found
            near = near or found.near or index.near(unit, chosen)
        return Found((), "none found", near)

    def _find(self, index: Index, unit: Unit, place: str, chosen: Chosen) -> Found:
        shelf = index.matching(unit, chosen)
        if self.lookup is None:
            keys = index.keys(unit, chosen)
            return Found(shelf.files, f"{place}, same {' and '.join(keys)}" if keys else place)
        found = self.lookup.choose(shelf, unit)
        return Found(found.files, f"{self.lookup.word} {place}: {found.rule}", found.near)

    def _counted(self, unit: Unit, found: Found, chosen: Chosen) -> Choice | None:
        count, least, most = len(found.files), self.declared.min, self.declared.max
        if count < least:
            self._refuse_few(unit, count, found.near, chosen)
            return None
        if most is not None and count > most:
            names = ", ".join(file.name for file in found.files[:3]) + (", ..." if count > 3 else "")
            reason = (
                f"{count} files of type {self.declared.type} fit where at most {most} may be; choose by 'match',"
                " 'where' (as \"origin == 'raw'\") or 'lookup', or raise 'max'"
            )
            self.problems.add(self.topic, reason, unit.name, detail=names)
            return None
        lost = [file for file in found.files if not file.store]
        for file in lost:
            where = f"in no store of this site, but in {file.elsewhere}" if file.elsewhere else "in no store"
            reason = f"a {self.declared.type} is chosen that is known and {where}"
            self.problems.add(self.topic, reason, file.name, noun="file")
        return None if lost else Choice(self.role, self.rules.place(found.rule), found.files)

    def _refuse_few(self, unit: Unit, count: int, near: str, chosen: Chosen) -> None:
        kind, places = self.declared.type, " or ".join(dict.fromkeys(self.places))
        if self.empty:
            self.missing.add(self.topic, f"no {kind} at all ({places})", unit.name)
        elif self.lookup is None:
            found = f"{count} found" if count else "none found"
            reason = f"at least {self.declared.min} {kind} needed, {found} ({places})"
            self.missing.add(self.topic, reason, unit.name, detail=near)
        else:
            detail = self._near(unit, near, chosen)
            self.missing.add(self.topic, self._no_calibration(unit, places, chosen), unit.name, detail=detail)

    def _no_calibration(self, unit: Unit, places: str, chosen: Chosen) -> str:
        keys: dict[str, tuple[KeyValue, ...]] = {}
        for index in (*self.searched, *self.drafts):
            keys |= index.keys(unit, chosen)
        of = ",".join([f"{key}={'|'.join(map(written, values)) or 'none'}" for key, values in keys.items()])
        within = f" {self.lookup.within}" if self.lookup is not None and self.lookup.within else ""
        certified = "certified " if self.declared.source.calibrations else ""
        return f"no {certified}{self.declared.type} {places}{f' for {of}' if of else ''}{within}"

    def _refuse_unknown(self, listed: Collection[str], groups: Sequence[Group]) -> None:
        known = {candidate.file.name for group in groups for candidate in group.candidates}
        for name in sorted(set(listed) - known):
            reason = f"a listed file is not a {self.declared.type} {' or '.join(self.places)}"
            self.problems.add(self.topic, reason, f"{name}{guess(name, sorted(known))}", noun="file")

    def _near(self, unit: Unit, near: str, chosen: Chosen) -> str:
        drafts = [file.name for index in self.drafts for file in index.matching(unit, chosen).files]
        if drafts:
            return f"{drafts[0]} is a draft: 'nightmill calib certify' makes it fit for use"
        return near
