"""The inputs of a stage, chosen for unit after unit, for some of them otherwise than for the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from graphlib import TopologicalSorter

from nightmill.errors import RequestRefused
from nightmill.model.found_file import FoundFile
from nightmill.model.pipeline import Input, Stage
from nightmill.model.unit import Unit
from nightmill.planning.inputs import Chooser, Rules
from nightmill.planning.lookups.way import Way
from nightmill.planning.memberships import Memberships
from nightmill.planning.problems import Problems
from nightmill.planning.reliance import Reliance
from nightmill.planning.sealed import Choice
from nightmill.planning.shipping import Shipments
from nightmill.planning.variants import NONE, Variants


def choosing_order(stage: Stage) -> list[str]:
    """Return the inputs of a stage so that each comes after those by whose files it is matched."""
    before = {role: declared.references for role, declared in stage.inputs.items()}
    return list(TopologicalSorter(before).static_order())


class Choosers:
    """Chooses the files of all inputs of a stage for unit after unit.

    Parameters
    ----------
    stage
        Which.
    ways
        By role, in the order in which inputs are chosen: how each is filled.
    rows
        What the stage's tables say.
    rules
        Where the words of the choices are kept.
    problems
        Where what is wrong is told.
    missing
        Gives where it is told that an input lacks files.
    variants
        What is otherwise for some units.
    way
        Makes one way in which an input of such units is filled; raises RequestRefused where it cannot be.
    fit
        Of the inputs of a stage as it is for such units, those that can be filled; tells why not.
    stored
        Whether files must have a copy.
    reliance
        Is told what serves the units; None where nobody asks.
    shipments
        Is told which files only other sites have, and says which of them can come from there.
    """

    def __init__(
        self,
        stage: Stage,
        ways: Mapping[str, Sequence[Way]],
        rows: Memberships,
        rules: Rules,
        problems: Problems,
        missing: Callable[[str, Input], Problems],
        variants: Variants,
        way: Callable[[Stage, str, Input], Way],
        fit: Callable[[Stage], Collection[str]],
        *,
        stored: bool = True,
        reliance: Reliance | None = None,
        shipments: Shipments,
    ) -> None:
        self.stage = stage
        self.variants = variants
        self._way = way
        self._fit = fit
        self._problems = problems
        self._rows = rows
        self._rules = rules
        self._missing = missing
        self._stored = stored
        self._reliance = reliance
        self._shipments = shipments
        self._of = {NONE: {role: self._chooser(stage, role, found) for role, found in ways.items()}}

    def choose(self, unit: Unit, variant: int) -> dict[str, Choice]:
        """Choose for a unit, input after input; return what could be filled, by role.

        Parameters
        ----------
        variant
            The place of what is otherwise for the unit.
        """
        chosen: dict[str, Choice] = {}
        files: dict[str, tuple[FoundFile, ...]] = {}
        for chooser in self._choosers(variant).values():
            if not files.keys() >= chooser.references:
                continue  # what it is matched by is a problem, which is told
            choice = chooser.choose(unit, files)
            if self._reliance is not None:
                self._reliance.note(self.stage, chooser, unit, files, choice)
            if choice is not None:
                chosen[chooser.role] = choice
                files[chooser.role] = choice.files
        return chosen

    def _chooser(self, stage: Stage, role: str, ways: Sequence[Way]) -> Chooser:
        missing = self._missing(role, stage.inputs[role])
        ships = self._shipments.take if self._stored else lambda _file: True
        return Chooser(stage, role, ways, self._rows, self._rules, self._problems, missing, ships=ships)

    def _choosers(self, variant: int) -> Mapping[str, Chooser]:
        if (known := self._of.get(variant)) is not None:
            return known
        stage, usual = self.variants.stage_of(variant), self._of[NONE]
        fit = self._fit(stage)
        theirs = {}
        for role in choosing_order(stage):
            declared = stage.inputs[role]
            if role in usual and declared == self.stage.inputs[role]:
                theirs[role] = usual[role]
            elif role in fit:
                try:
                    theirs[role] = self._chooser(stage, role, [self._way(stage, role, way) for way in declared.ways])
                except RequestRefused as error:
                    units = self.variants.all[variant - 1].units
                    self._problems.add(f"stage {stage.name!r}, input {role!r} of units {units}", str(error))
        self._of[variant] = theirs
        return theirs
