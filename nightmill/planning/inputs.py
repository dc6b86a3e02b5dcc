"""Which files fill a role for each unit, why these, and what is wrong where none or too many do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nightmill.errors import BadPlugin, guess
from nightmill.model.dimensions import KeyValue, written
from nightmill.model.file_type import FileType
from nightmill.model.found_file import FoundFile
from nightmill.model.lookup import Found
from nightmill.model.pipeline import Input, Stage
from nightmill.model.unit import Unit
from nightmill.planning.lookups.index import Chosen, Differing, by_role, values_of
from nightmill.planning.lookups.way import Way
from nightmill.planning.memberships import Members, Memberships, makes_units
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import Choice


class Rules:
    """The rules of a stage's choices, each text once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self.levels: dict[int, int] = {}
        """Places of rules to the levels of the lookups that chose by them, where these have one."""

    def place(self, text: str, level: int | None = None) -> int:
        """Return the place of a rule's text, a new one where it is new."""
        place = self._places.setdefault(text, len(self._places))
        if level is not None:
            self.levels[place] = level
        return place

    def texts(self) -> tuple[str, ...]:
        """Return every rule in the order of the places."""
        return tuple(self._places)


def takes_one(stage: Stage, file_types: Mapping[str, FileType]) -> bool:
    """Say whether a unit of a stage is one file by the stage's declaration, so that what the file is of, it is of."""
    making = stage.making
    return stage.inputs[making].max == 1 and not makes_units(stage, making, file_types)


class Chooser:
    """Chooses the files of one input for unit after unit.

    Parameters
    ----------
    stage, role
        Which input.
    ways
        In which it is filled, in their order; of where the files come from that make the units, the place alone.
    rows
        What the stage's tables say.
    rules
        Where the words of its choices are kept.
    problems
        Where a role that cannot be filled is told.
    missing
        Where it is told that too few files fill it; the same, unless these may still come.
    ships
        Says of a file that no store of this site has whether it can be had all the same.
    """

    def __init__(
        self,
        stage: Stage,
        role: str,
        ways: Sequence[Way],
        rows: Memberships,
        rules: Rules,
        problems: Problems,
        missing: Problems,
        *,
        ships: Callable[[FoundFile], bool],
    ) -> None:
        self.role = role
        self.declared: Input = stage.inputs[role]
        self.references = frozenset(self.declared.references)
        """The inputs that are chosen before it, by whose files it is matched."""
        self.makes_units = role == stage.making
        self.topic = f"stage {stage.name!r}, input {role!r}"
        self.ways = ways
        self.places = " or ".join(dict.fromkeys(place for way in ways for place in way.places))
        self.kind = " or ".join(dict.fromkeys(way.declared.type for way in ways))
        self.rules = rules
        self.problems = problems
        self.missing = missing
        self.ships = ships
        self.members = rows.of.get(role)
        self.by_rows = rows.by_rows
        self.through = rows.word(role)
        few = self.declared.lookup is not None or self.declared.min == 0
        self._partners = {} if few else by_role(self.declared.asked)
        """The other inputs each of whose files must have one of its own, with the keys in which these agree."""
        self.why = f"; {self.declared.why}" if self.declared.why else ""
        self.empty = not self.makes_units and all(way.empty for way in ways)
        for way in ways:
            self._refuse_unknown(way)

    def choose(self, unit: Unit, chosen: Chosen) -> Choice | None:
        """Return what fills the role for a unit; None where that was a problem.

        Parameters
        ----------
        chosen
            What fills the roles that come before it in :func:`choosing_order`.
        """
        try:
            if self.makes_units:
                return self._fit(unit, unit.files, self.rules.place(self._made() + self.why))
            found = []
            for way in self.ways:
                found.append(
                    way.find(unit, chosen) if self.members is None else self._through(self.members, unit, chosen)
                )
                if len(found[-1].files) >= self.declared.min:
                    if not self._has_partners(unit, found[-1].files, chosen):
                        return None
                    return self._fit(unit, found[-1].files, self.rules.place(found[-1].rule + self.why, way.level))
            self._refuse_few(unit, found, chosen)
        except (BadPlugin, Differing) as error:
            self.problems.add(self.topic, str(error), unit.name)
        return None

    def _made(self) -> str:
        """Return the rule of what makes the units."""
        place = self.ways[0].places[0]
        if self.by_rows and self.declared.through:
            return f"{place}, {self.through}; these make the units"
        return f"{place}; {'rows of its files' if self.by_rows else 'its files'} make the units"

    def _through(self, members: Members, unit: Unit, chosen: Chosen) -> Found:
        tables = [file.id for file in chosen[self.declared.table]] if self.declared.table else [0]
        files, lacking = members.of(unit, tables, chosen)
        rule = f"{self.ways[0].places[0]}, {self.through}"
        if files and lacking:
            rule += ", whose rows name files that are not there as well"
        return Found(tuple(files), rule, lacking[0] if lacking else "")

    def _fit(self, unit: Unit, files: Sequence[FoundFile], rule: int) -> Choice | None:
        """Return files as the choice, where they are not too many and each can be read."""
        count, most = len(files), self.declared.max
        if count < self.declared.min:
            self._refuse_few(unit, [Found(tuple(files))], {})
            return None
        if most is not None and count > most:
            names = ", ".join(file.name for file in files[:3]) + (", ..." if count > 3 else "")
            reason = (
                f"{count} files of type {self.kind} fit where at most {most} may be; choose by 'match',"
                " 'where' (as \"origin == 'raw'\") or 'lookup', or raise 'max'"
            )
            self.problems.add(self.topic, reason, unit.name, detail=names)
            return None
        lost = [file for file in files if not file.store and not self.ships(file)]
        for file in lost:
            where = "in no store"
            if file.elsewhere:
                may = f"'partners' of nightmill.yaml may let {file.type} be shipped from there"
                where = f"in no store of this site, but in {file.elsewhere} ({may})"
            reason = f"a {self.kind} is chosen that is known and {where}"
            self.problems.add(self.topic, reason, file.name, noun="file")
        return None if lost else Choice(self.role, rule, tuple(files))

    def _has_partners(self, unit: Unit, files: Sequence[FoundFile], chosen: Chosen) -> bool:
        """Say whether each file that it is matched by has one of its own; report the first that has none."""
        for role, keys in self._partners.items():
            there = {values_of(file, keys) for file in files}
            alone = [file for file in chosen[role] if values_of(file, keys.values()) not in there]
            if alone:
                name, values = alone[0].name, zip(keys.values(), values_of(alone[0], keys.values()), strict=True)
                told = [name, *(f"{key}={written(value)}" for key, value in values if value is not None)]
                reason = f"each file of {role!r} needs a {self.kind} of the same {' and '.join(keys)} ({self.places})"
                self.missing.add(self.topic, reason, unit.name, detail=f"none for {', '.join(told)}")
                return False
        return True

    def _refuse_few(self, unit: Unit, found: Sequence[Found], chosen: Chosen) -> None:
        kind = self.kind
        near = self._near(found)
        if self.empty:
            self.missing.add(self.topic, f"no {kind} at all ({self.places})", unit.name)
        elif self.ways[0].lookup is None:
            count = len(found[0].files)
            told = f"{count} found" if count else "none found"
            reason = f"at least {self.declared.min} {kind} needed, {told} ({self.places})"
            self.missing.add(self.topic, reason, unit.name, detail=near)
        else:
            self.missing.add(self.topic, self._no_calibration(unit, chosen), unit.name, detail=near)

    def _near(self, found: Sequence[Found]) -> str:
        """Say what each way found instead; with its level, where there are several."""
        told = [(way, each.near) for way, each in zip(self.ways, found, strict=False) if each.near]
        if len(self.ways) == 1:
            return told[0][1] if told else ""
        return "; ".join([f"level {way.level}: {near}" for way, near in told])

    def _no_calibration(self, unit: Unit, chosen: Chosen) -> str:
        keys: dict[str, tuple[KeyValue, ...]] = {}
        for way in self.ways:
            keys |= way.keys(unit, chosen)
        of = ",".join([f"{key}={'|'.join(map(written, values)) or 'none'}" for key, values in keys.items()])
        within = [way.lookup.within for way in self.ways if way.lookup is not None and way.lookup.within]
        certified = "certified " if self.declared.ways[0].source.calibrations else ""
        far = f" {within[-1]}" if within else ""
        return f"no {certified}{self.kind} {self.places}{f' for {of}' if of else ''}{far}"

    def _refuse_unknown(self, way: Way) -> None:
        listed = way.lookup.names if way.lookup is not None and way.lookup.names is not None else ()
        for name in sorted(set(listed) - way.known):
            reason = f"a listed file is not a {way.declared.type} {' or '.join(way.places)}"
            self.problems.add(self.topic, reason, f"{name}{guess(name, sorted(way.known))}", noun="file")
