"""Memberships: rows that say which files belong to which units, read once a stage and joined with its files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.attachments import membership_rows
from nightmill.model.attachment import RowValue
from nightmill.model.dimensions import NAME, KeyType, KeyValue, written
from nightmill.model.file_type import FileType
from nightmill.model.footprint import Tiling
from nightmill.model.found_file import FoundFile
from nightmill.model.pipeline import Input, Stage
from nightmill.model.unit import Unit
from nightmill.planning.lookups.index import Agreement, Chosen
from nightmill.planning.problems import Problems
from nightmill.planning.selection import Group
from nightmill.planning.tilings import TILE, tile_rows, words
from nightmill.planning.units import Grouping, is_of

WANTED: Final = 3
"""How many files that are not there are kept of a unit, to be told."""

Row = Mapping[str, RowValue]
_Belongs = tuple[RowValue, ...]
"""The table that a row stands in, by its ID, and the row's values of the keys of ``per`` that it has."""


def columns_of(file_type: FileType | None) -> tuple[str, ...]:
    """Return the columns of the rows that files of a type have; none where they have no rows."""
    return file_type.membership.names if file_type is not None and file_type.membership is not None else ()


def makes_units(stage: Stage, role: str, file_types: Mapping[str, FileType]) -> bool:
    """Say whether rows make the units of a stage: those that the files of a role come through, or their own."""
    declared = stage.inputs[role]
    return bool(declared.through) or not set(columns_of(file_types.get(declared.type))).isdisjoint(stage.per)


def tables(stage: Stage, making: str, file_types: Mapping[str, FileType]) -> frozenset[str]:
    """Return the inputs of a stage whose rows its plan reads.

    Parameters
    ----------
    making
        The input that makes the units.
    """
    through = {declared.table for declared in stage.inputs.values() if declared.table}
    own = makes_units(stage, making, file_types) and not stage.inputs[making].through
    return frozenset(through | {making}) if own else frozenset(through)


def known_after(
    stage: Stage, making: str, file_types: Mapping[str, FileType], projected: Collection[str], later: Collection[str]
) -> str:
    """Return the stage that is yet to make what tells the units of another; empty where they can be told.

    Parameters
    ----------
    making
        The input that makes the units.
    projected
        Stages that have not run.
    later
        Those of them whose own units are not known.
    """
    rows = tables(stage, making, file_types)
    sources = {role: declared.source.own_stage for role, declared in stage.inputs.items()}
    rows |= {role for role, declared in stage.inputs.items() if declared.tiling}  # what is not made covers nothing yet
    needed = [each for role, each in sources.items() if each in later or (each in projected and role in rows)]
    return needed[0] if needed else ""


class Members:
    """The files of one input by what the rows that they come through say of units.

    Parameters
    ----------
    stage
        Of the input.
    declared
        The input.
    columns
        Of the rows.
    files
        Its candidates.
    keys
        Every key that the site knows, with its type.
    """

    def __init__(
        self,
        stage: Stage,
        declared: Input,
        columns: Sequence[str],
        files: Iterable[FoundFile],
        keys: Mapping[str, KeyType],
    ) -> None:
        files = list(files)
        of_row = {key: wanted for key, wanted in declared.asked.items() if set(wanted) <= set(columns)}
        if declared.tiling is not None:
            of_row = {NAME: (NAME,)}
        elif declared.adds:
            naming = (each for each in columns if each not in stage.per and each in keys and each not in of_row)
            of_row |= {each: (each,) for each in naming if any(file.get(each) is not None for file in files)}
        self.columns = tuple(columns)
        self.named_by = of_row
        """The keys of a file that a row names it by, each with the columns of which one has its value."""
        rest = {key: wanted for key, wanted in declared.asked.items() if key not in of_row}
        default = [key for key in stage.per if key not in columns] if declared.adds else []
        self.agreement = Agreement(rest, default)
        """On what file and unit must agree beside what the rows say."""
        self.there = bool(files)
        self.nothing = "no row is about" if declared.tiling is None else "no footprint touches the tile of"
        """What is said of a unit to which nothing belongs, before its name."""
        self._per = [key for key in stage.per if key in columns]
        self.kinds = {key: keys.get(key, "str") for key in of_row}
        """Their types."""
        self._files: dict[tuple[RowValue, ...], list[FoundFile]] = {}
        for file in files:
            self._files.setdefault(tuple([file.get(key) for key in of_row]), []).append(file)
        self._members: dict[_Belongs, list[FoundFile]] = {}
        self._lacking: dict[_Belongs, list[str]] = {}

    def add(self, table: int, row: Row) -> Iterator[tuple[str, str]]:
        """Take in a row of a table, by its ID; yield keys that it has as another type than files, and as which."""
        belongs: _Belongs = (table, *[row[key] for key in self._per])
        options = []
        for key, columns in self.named_by.items():
            values = [value for column in columns if (value := row[column]) is not None]
            for value in values:
                if not is_of(value, self.kinds[key]):
                    yield key, type(value).__name__
            options.append(values)
        for wanted in product(*options):
            if files := self._files.get(wanted):
                self._members.setdefault(belongs, []).extend(files)
            else:
                self._lack(belongs, wanted)

    def take(self, file: FoundFile, tile: str) -> None:
        """Take in that a file belongs to a tile of a tiling, which has no table."""
        self._members.setdefault((0, tile), []).append(file)

    def of(self, unit: Unit, tables: Iterable[int], chosen: Chosen) -> tuple[list[FoundFile], list[str]]:
        """Return the files that belong to a unit by the rows of some tables, by name, and what is named and not there.

        It raises what :meth:`nightmill.planning.lookups.index.Agreement.values` raises.

        Parameters
        ----------
        tables
            Their IDs.
        """
        own = tuple([unit.data_id[key] for key in self._per])
        found: dict[int, FoundFile] = {}
        lacking: list[str] = []
        rows = False
        places: list[_Belongs] = [(table, *own) for table in tables]
        for belongs in places:
            found |= {file.id: file for file in self._members.get(belongs, ())}
            lacking += self._lacking.get(belongs, ())
            rows = rows or belongs in self._members or belongs in self._lacking
        about = ",".join([f"{key}={written(unit.data_id[key])}" for key in self._per])
        near = [f"{about or 'a row'} wants {each}" for each in lacking] if rows else [f"{self.nothing} {unit.name}"]
        files = sorted(found.values(), key=lambda file: file.name)
        return self.agreement.agreeing(files, unit, chosen), near if lacking or not rows else []

    def pairs(self) -> Iterator[tuple[FoundFile, Row]]:
        """Yield every file with what a row says of the unit that it belongs to."""
        for (_table, *values), files in self._members.items():
            row = dict(zip(self._per, values, strict=True))
            for file in files:
                yield file, row

    def _lack(self, belongs: _Belongs, values: Sequence[RowValue]) -> None:
        lacking = self._lacking.setdefault(belongs, [])
        if len(lacking) < WANTED:
            wanted = zip(self.named_by, values, strict=True)
            lacking.append(",".join([f"{key}={written(value)}" for key, value in wanted if value is not None]))


class Memberships:
    """What the rows of a stage's tables say: each is read once, for all inputs that come through it.

    Parameters
    ----------
    stage
        Whose inputs.
    making
        The input that makes the units.
    groups
        The candidates of each input.
    file_types
        Of the site, by name.
    keys
        Every key that the site knows, with its type.
    tilings
        Of the site, by name.
    """

    def __init__(
        self,
        stage: Stage,
        making: str,
        groups: Mapping[str, Sequence[Group]],
        file_types: Mapping[str, FileType],
        keys: Mapping[str, KeyType],
        tilings: Mapping[str, Tiling],
    ) -> None:
        self.stage = stage
        self.making = making
        self.by_rows = makes_units(stage, making, file_types)
        """Whether rows make the units."""
        self._types = file_types
        self._tables = tables(stage, making, file_types) & groups.keys()
        wanted = {role for role, declared in stage.inputs.items() if declared.through} | self._tables
        files = {
            role: [each.file for group in found for each in group.candidates]
            for role, found in groups.items()
            if role in wanted
        }
        self._files = files
        self.of: dict[str, Members] = {
            role: Members(stage, declared, columns_of(file_types.get(through.type)), files[role], keys)
            for role, declared in stage.inputs.items()
            if role in files and (through := stage.inputs.get(declared.table)) is not None
        }
        """By input, the files of those that come through rows or a tiling."""
        self._tilings = {
            role: tiling for role, each in stage.inputs.items() if role in files and (tiling := each.tiling)
        }
        for role in self._tilings:
            self.of[role] = Members(stage, stage.inputs[role], (TILE, NAME), files[role], keys)
        self._site_tilings = tilings
        self._units: dict[tuple[RowValue, ...], dict[int, FoundFile]] = {}
        """The files whose own rows make units, by what these say."""
        self._own = [key for key in stage.per if key in columns_of(file_types.get(stage.inputs[making].type))]

    def read(self, session: Session, problems: Problems) -> None:
        """Read the rows, and work out those of tilings; report what cannot name a file."""
        for role, wanted in self._tilings.items():
            topic, tiling = f"stage {self.stage.name!r}, input {role!r}", self._site_tilings[wanted.tiling]
            for tile, file in tile_rows(session, tiling, wanted, self._files[role], topic, problems):
                self.of[role].take(file, tile)
        for role in sorted(self._tables):
            members = {name: each for name, each in self.of.items() if self.stage.inputs[name].table == role}
            for name, each in members.items():
                if each.there and not each.named_by:
                    reason = (
                        f"the rows of {role!r} have {', '.join(each.columns)}, by none of which its files are named;"
                        f" say in 'match' which column names them, as {{name: {each.columns[-1]}}}"
                    )
                    problems.add(f"stage {self.stage.name!r}, input {name!r}", reason)
            useful = [each for each in members.values() if each.named_by]
            self._read_table(session, role, useful, problems)

    def _read_table(self, session: Session, role: str, members: Sequence[Members], problems: Problems) -> None:
        topic = f"stage {self.stage.name!r}, input {role!r}"
        makes_units = role == self.making and self.by_rows and not self.stage.inputs[role].through
        by_id = {file.id: file for file in self._files[role]}
        last, fit = 0, False
        for file_id, row in membership_rows(session, by_id):
            if file_id != last:
                last, fit = file_id, self._has_columns(role, row, by_id[file_id], topic, problems)
            if not fit:
                continue
            if makes_units:
                self._units.setdefault(tuple([row[key] for key in self._own]), {})[file_id] = by_id[file_id]
            for each in members:
                for key, kind in each.add(file_id, row):
                    reason = f"a row has {key} as {kind}, and the site's type of it is {each.kinds[key]}"
                    problems.add(topic, reason, by_id[file_id].name, noun="file")

    def word(self, role: str) -> str:
        """Return what an input comes through, as a rule says it."""
        declared = self.stage.inputs[role]
        if declared.tiling is None:
            return f"through {declared.table}"
        tiling = self._site_tilings.get(declared.tiling.tiling)
        return f"through {words(declared.tiling, tiling)}" if tiling is not None else ""

    def _has_columns(self, role: str, row: Row, file: FoundFile, topic: str, problems: Problems) -> bool:
        """Say whether the rows of a file have the columns that its type has now; report one whose rows have not."""
        lacking = [each for each in columns_of(self._types.get(self.stage.inputs[role].type)) if each not in row]
        if lacking:
            reason = f"rows have not got {' and '.join(lacking)}, which their file type has now: take the file in again"
            problems.add(topic, reason, file.name, noun="file")
        return not lacking

    def keyed(
        self, grouping: Grouping, problems: Problems, topic: str
    ) -> Iterator[tuple[tuple[KeyValue, ...], FoundFile]]:
        """Yield the files of every unit with its values of the keys, in their order."""
        through = self.of.get(self.making)
        found: dict[tuple[KeyValue, ...], dict[int, FoundFile]] = {}
        for file, row in self._pairs() if through is None else through.pairs():
            try:
                found.setdefault(grouping.of(file, row), {})[file.id] = file
            except ValueError as error:
                problems.add(topic, str(error), file.name, noun="file")
        for values in sorted(found):
            for file in found[values].values():
                yield values, file

    def _pairs(self) -> Iterator[tuple[FoundFile, Row]]:
        """Yield every file whose own rows make units, with what these say."""
        for values, files in self._units.items():
            row = dict(zip(self._own, values, strict=True))
            for file in files.values():
                yield file, row
