"""What is excluded from the inputs of a campaign: the rules that hold, and what each of them leaves out.

A rule is asked before anything is chosen: by the database of files that are in the catalogue, in memory of files that
are yet to be made. Where an expression is unknown for a file, the file stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Integer, and_, case, literal_column, null, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.exclusions import Exclusion
from nightmill.backbone.schema import FileRow
from nightmill.backbone.sql import to_sql
from nightmill.errors import ExpressionError, UnknownName
from nightmill.expressions import Expression, evaluate, parse
from nightmill.model.campaign import Campaign
from nightmill.model.dimensions import unit_name
from nightmill.model.found_file import FoundFile
from nightmill.model.origin import Origin
from nightmill.planning.problems import EXAMPLES, Problems, counted


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Something that excludes files, or a part of each, from inputs of a campaign.

    Parameters
    ----------
    place
        Where it stands, in words: ``exclusion 3``.
    number
        Of an exclusion in the catalogue; 0 for what the campaign itself excludes.
    written
        What was typed for it.
    after
        The position of the stage after which it holds; -1 for every stage.
    """

    place: str
    number: int
    expression: Expression
    written: str
    types: tuple[str, ...]
    part: str
    up_to: str
    after: int
    who: str
    why: str

    def concerns(self, type_: str, position: int) -> bool:
        """Say whether it is about inputs of a type, of the stage at a position."""
        return position > self.after and (not self.types or type_ in self.types)

    def condition(self) -> ColumnElement[bool]:
        """Write as a condition on rows of files that it is about one."""
        is_of = to_sql(self.expression)
        return and_(is_of, FileRow.type.in_(self.types)) if self.types else is_of


class Excluded(NamedTuple):
    """What one rule leaves out of one input of a stage.

    Parameters
    ----------
    role
        The input.
    place, number, rule, part, up_to, who, why
        As :class:`Rule` has them.
    files
        How many files it leaves out or, where it is about a part, how many lack that part.
    names
        The first of them.
    units
        How many units there would be, were these files not left out; where the input makes the units.
    unit_names
        The first of them.
    """

    role: str
    place: str
    number: int
    rule: str
    part: str
    up_to: str
    who: str
    why: str
    files: int
    names: tuple[str, ...]
    units: int = 0
    unit_names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say so in one line."""
        files = counted(self.files, "file")
        what = f"part {self.part} of {files}" if self.part else files
        listed = ", ".join(self.names) + (", ..." if self.files > len(self.names) else "")
        by = f"{self.place}{f' by {self.who}' if self.who else ''}"
        up_to = f", which ends with stage {self.up_to}" if self.up_to else ""
        told = f"input {self.role!r}: {what} excluded ({by}: {_line(self.rule)}{up_to}; {_line(self.why)}): {listed}"
        if self.units:
            units = ", ".join(self.unit_names) + (", ..." if self.units > len(self.unit_names) else "")
            told += f"; {'a unit is' if self.units == 1 else f'{self.units:,} units are'} not there for it: {units}"
        return told


_ORIGIN_OF_MADE: Final = Origin.BATCH.value


def _line(text: str) -> str:
    """Write what a person typed as a part of a line."""
    return " ".join(text.split())


def record_of(file: FoundFile) -> dict[str, object]:
    """Give what an expression may ask of a file that is not asked of the database."""
    return {
        **file.data_id,
        "begins_at": file.begins_at,
        "ends_at": file.ends_at,
        "name": file.name,
        "type": file.type,
        "size_bytes": file.size_bytes,
        "metadata": file.metadata,
    }


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of which each is about the inputs in question; the first that a file fulfils leaves it out."""

    rules: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def columns(self) -> list[ColumnElement[Any]]:
        """Write as columns of a query over files which rule is about each: of whole files, then of each part."""
        about: dict[str, list[tuple[ColumnElement[bool], ColumnElement[int]]]] = {"": []}
        for place, rule in enumerate(self.rules):
            about.setdefault(rule.part, []).append((rule.condition(), literal_column(str(place), Integer)))
        return [case(*each) if each else null() for each in about.values()]

    def asked_of(self, file: FoundFile) -> list[int | None]:
        """Give the values of :meth:`columns` for a file that is yet to be made."""
        record = {**record_of(file), "origin": _ORIGIN_OF_MADE}
        found: dict[str, int | None] = dict.fromkeys(["", *(rule.part for rule in self.rules)])
        for place, rule in enumerate(self.rules):
            is_of = found[rule.part] is None and (not rule.types or file.type in rule.types)
            if is_of and evaluate(rule.expression, record):
                found[rule.part] = place
        return list(found.values())

    def matches(self, session: Session, ids: Collection[int]) -> dict[int, list[int | None]]:
        """Return the values of :meth:`columns` by the IDs of files, where some rule is about one: one query."""
        if not self.rules or not ids:
            return {}
        query = select(FileRow.id, *self.columns()).where(among(FileRow.id, ids))
        return {id_: found for id_, *found in session.execute(query) if any(each is not None for each in found)}


@dataclass
class Tally:
    """Judges the files of one input by its rules, and keeps what each of these leaves out.

    Parameters
    ----------
    role
        The input.
    position
        Of its stage in the pipeline.
    rules
        Those of the campaign.
    per
        The keys that make the units of the stage, where the input does.
    """

    role: str
    position: int
    rules: Sequence[Rule] = ()
    per: Sequence[str] = ()
    _files: dict[Rule, dict[str, None]] = field(default_factory=dict)
    """The names of the files that each of them is about."""
    _units: dict[str, Rule] = field(default_factory=dict)

    def of_type(self, type_: str) -> Rules:
        """Return the rules that are about its files of a type."""
        if not self.rules:
            return Rules()
        return Rules(tuple([rule for rule in self.rules if rule.concerns(type_, self.position)]))

    def judge(self, rules: Rules, file: FoundFile, found: Sequence[int | None]) -> FoundFile | None:
        """Return a file that may be an input, with the parts that are excluded; None for one that may not.

        Parameters
        ----------
        found
            The values of :meth:`Rules.columns` for it.
        """
        whole, *parts = found
        if whole is not None:
            rule = rules.rules[whole]
            self._files.setdefault(rule, {})[file.name] = None
            values = {key: file.get(key) for key in self.per}
            if self.per and None not in values.values():
                self._units[unit_name({key: each for key, each in values.items() if each is not None}, self.per)] = rule
            return None
        about = [rules.rules[each] for each in parts if each is not None]
        for rule in about:
            self._files.setdefault(rule, {})[file.name] = None
        return file._replace(excluded=tuple([rule.part for rule in about])) if about else file

    def sees(self, unit: str) -> None:
        """Note that a unit is there all the same."""
        self._units.pop(unit, None)

    @property
    def ends(self) -> bool:
        """Whether files are left out since their units are processed up to an earlier stage alone."""
        return any(rule.up_to for rule in self._files if not rule.part)

    def told(self) -> Iterator[Excluded]:
        """Yield what each rule leaves out, in the order of the rules."""
        for rule, names in ((rule, self._files[rule]) for rule in self.rules if rule in self._files):
            units = [unit for unit, by in self._units.items() if by is rule]
            yield Excluded(
                self.role, rule.place, rule.number, rule.written, rule.part, rule.up_to, rule.who, rule.why,
                len(names), tuple(islice(names, EXAMPLES)), len(units), tuple(units[:EXAMPLES]),
            )  # fmt: skip


def rules_of(
    campaign: Campaign,
    found: Iterable[Exclusion],
    *,
    keys: Mapping[str, Any],
    types: Collection[str],
    problems: Problems,
) -> tuple[Rule, ...]:
    """Return the rules of a campaign: those of the catalogue, then its own.

    A key that the site does not know is an error in what the campaign excludes. In the catalogue, which sites share
    and which lasts, it is one that no file has.

    Parameters
    ----------
    found
        The exclusions of the catalogue that are in force.
    keys
        Every key of the site.
    types
        Every file type of the site.
    problems
        Where a wrong rule is told.
    """
    stages = [stage.name for stage in campaign.pipeline.stages]
    rules = list(catalogued(found, stages, problems))
    for number, each in enumerate(campaign.exclude):
        layer = campaign.origins.get(f"exclude.{number}")
        place = f"exclude of the {layer}" if layer is not None else f"exclude, rule {number + 1}"
        try:
            expression = parse(each.where, metadata_keys=keys)
            for type_ in each.types:
                if type_ not in types:
                    raise UnknownName("file type", type_, sorted(types))
            if each.up_to and each.up_to not in stages:
                raise UnknownName("stage of the pipeline", each.up_to, stages)
        except (ExpressionError, UnknownName) as error:
            problems.add(place, str(error))
            continue
        after = stages.index(each.up_to) if each.up_to else -1
        rules.append(Rule(place, 0, expression, each.where, each.types, each.part, each.up_to, after, "", each.why))
    return tuple(rules)


def catalogued(found: Iterable[Exclusion], stages: Sequence[str], problems: Problems) -> Iterator[Rule]:
    """Yield the rules of exclusions in the catalogue, for a campaign with these stages."""
    for each in found:
        place = f"exclusion {each.number}"
        if each.up_to and each.up_to not in stages:
            if each.campaign:
                known = ", ".join(stages)
                problems.add(place, f"it ends with stage {each.up_to!r}, which the pipeline has not (it has {known})")
            continue
        after = stages.index(each.up_to) if each.up_to else -1
        expression = parse(each.expression)
        yield Rule(
            place, each.number, expression, each.written, each.types, each.part, each.up_to, after, each.who, each.why
        )


def anywhere(each: Exclusion) -> Rule:
    """Return the rule of an exclusion, for a look at all files that it is about."""
    [rule] = catalogued([replace(each, up_to="")], (), Problems())
    return rule
