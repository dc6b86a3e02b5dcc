"""How two plans differ: units, what these read and make, and the configuration, each with what decided about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from string import Formatter
from typing import Any, Final, NamedTuple

from nightmill.planning.digest import InputLine, JobLine, OutputLine, PlanLines, StageText, job_line

ABSENT: Final = "absent"
"""Who says of a value that there is none."""
FEW: Final = 3
"""Names that a sentence has before the rest is only counted."""
_EMPTY: Final = InputLine("", None, ())


class Change(StrEnum):
    """In what a unit differs."""

    ADDED = "added"
    DROPPED = "dropped"
    INPUT = "input"
    OUTPUT = "output"
    RULE = "rule"
    """The same files, chosen by another rule."""


class ConfigChange(NamedTuple):
    """A value of the configuration that differs; the origins are the layers that say so."""

    key: str
    before: Any
    after: Any
    origin_before: str
    origin_after: str


class UnitChange(NamedTuple):
    """In what one unit differs.

    Parameters
    ----------
    role
        The input or, as ``step.role``, the output; empty where the whole unit was added or dropped.
    before, after
        Names of files, with what must not be used of them, or where they go.
    rule_before, rule_after
        What decided: the rule that chose the files; of a unit that is not there, why.
    origin_before, origin_after
        The layer of the configuration that set the rule.
    level_before, level_after
        Of the lookup that chose the files, where it has one.
    """

    stage: str
    unit: str
    change: Change
    role: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    rule_before: str = ""
    rule_after: str = ""
    origin_before: str = ""
    origin_after: str = ""
    level_before: int | None = None
    level_after: int | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        what = f"{self.change} {self.role}".rstrip()
        files = f": {' -> '.join(self.files)}" if self.role else ""
        return f"stage {self.stage}, unit {self.unit}: {what}{files}{f' ({why})' if (why := self.why) else ''}"

    @property
    def files(self) -> tuple[str, str]:
        """The files before and after, in words: those that are in both are only counted."""
        before, after = frozenset(self.before), frozenset(self.after)
        stay = len(before & after) if before != after else 0
        return _named(self.before, after, stay), _named(self.after, before, stay)

    @property
    def why(self) -> str:
        """What decided, in words."""
        parts = [(self.rule_before, self.rule_after), (self.origin_before, self.origin_after)]
        if self.level_before != self.level_after:
            parts.append((f"level {self.level_before}", f"level {self.level_after}"))
        return "; ".join(" -> ".join(filter(None, dict.fromkeys(both))) for both in parts if any(both))


@dataclass(frozen=True)
class StageDifference:
    """How a stage differs.

    Parameters
    ----------
    before, after
        How many units each plan has of it; None where it has not, or does not know them yet: then units are not
        compared.
    counts
        Units by what changes of them; only what does.
    """

    stage: str
    before: int | None
    after: int | None
    counts: Mapping[Change, int]


@dataclass(frozen=True)
class Comparison:
    """How one plan differs from an earlier one; the units' changes are read when they are asked for."""

    before: PlanLines
    after: PlanLines
    config: tuple[ConfigChange, ...]
    stages: tuple[StageDifference, ...]
    total: int
    """How many changes of units there are."""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.config or self.total)

    def changes(self, stage: str = "") -> Iterator[UnitChange]:
        """Yield what changes of each unit, of all stages or of one."""
        for each in self.stages:
            if not stage or each.stage == stage:
                yield from _changes(self.before, self.after, each.stage)

    def sentences(self, most: int) -> list[str]:
        """Say what differs, a line a change, at most so many of each kind."""
        told = [
            f"{each.key}: {each.before} -> {each.after} ({each.origin_before} -> {each.origin_after})"
            for each in self.config
        ]
        units = [str(each) for each in islice(self.changes(), most)]
        more = [f"{self.total - len(units):,} more"] if self.total > len(units) == most else []
        return [*told[:most], *([f"{len(told) - most:,} more values"] if len(told) > most else []), *units, *more]


def compare(before: PlanLines, after: PlanLines) -> Comparison:
    """Compare two plans. Of names that they make, the numbers of campaign and attempt do not count."""
    names = list(dict.fromkeys([*before.stages, *after.stages]))
    stages, total = [], 0
    for name in names:
        counts: Counter[Change] = Counter()
        seen: tuple[str, set[Change]] = ("", set())
        for each in _changes(before, after, name):
            total += 1
            if seen[0] != each.unit:
                seen = (each.unit, set())
            if each.change not in seen[1]:
                seen[1].add(each.change)
                counts[each.change] += 1
        stages.append(StageDifference(name, _count(before, name), _count(after, name), counts))
    return Comparison(before, after, tuple(_config(before, after, names)), tuple(stages), total)


def _named(names: tuple[str, ...], other: Collection[str], stay: int) -> str:
    """Write the names of a side that the other has not, the first of them; where some stay, count those."""
    own = [name for name in names if not stay or name not in other]
    told = [", ".join(own[:FEW])] if own else []
    told += [f"{len(own) - FEW:,} more"] if len(own) > FEW else []
    return " and ".join([*told, *([f"{stay:,} that stay"] if stay else [])]) or "none"


def _count(text: PlanLines, name: str) -> int | None:
    stage = text.stages.get(name)
    return len(stage.places) if stage is not None and stage.head.known else None


def _config(before: PlanLines, after: PlanLines, stages: list[str]) -> Iterator[ConfigChange]:
    old, new = before.head, after.head
    yield from _values("bundle", {"bundle": old.bundle}, {"bundle": new.bundle})
    if old.campaign == new.campaign:
        yield from _values("number", {"number": old.number}, {"number": new.number})
    for key in dict.fromkeys([*old.config, *new.config]):
        if key not in old.config or key not in new.config or old.config[key] != new.config[key]:
            yield ConfigChange(
                key,
                old.config.get(key),
                new.config.get(key),
                _origin(key, old.config, old.origins),
                _origin(key, new.config, new.origins),
            )
    for name in stages:
        if _count(before, name) is not None and _count(after, name) is not None:
            both = before.stages[name].head.config, after.stages[name].head.config
            for key in dict.fromkeys([*both[0], *both[1]]):
                yield from _values(key, *both)


def _values(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[ConfigChange]:
    if (before := old.get(key)) != (after := new.get(key)):
        said = [ABSENT if key not in values else "site" if "." in key else "" for values in (old, new)]
        yield ConfigChange(key, before, after, *said)


def _origin(key: str, config: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    if key not in config:
        return ABSENT
    if key in origins:
        return origins[key]
    below = [layer for own, layer in origins.items() if own.startswith((f"{key}.", f"{key}["))]
    return below[-1] if below else "default"


def _changes(before: PlanLines, after: PlanLines, name: str) -> Iterator[UnitChange]:
    """Yield what changes of a stage's units; nothing where one of the plans does not know them."""
    old, new = before.stages.get(name), after.stages.get(name)
    if any(stage is not None and not stage.head.known for stage in (old, new)):
        return
    before_names, after_names = _Names(before), _Names(after)
    for unit in old.places if old is not None else ():
        line = before.raw(name, unit)
        if new is None or unit not in new.places:
            yield _whole(name, job_line(line), old, after, Change.DROPPED)
        elif (other := after.raw(name, unit)) != line:
            assert old is not None
            yield from _unit(name, job_line(line), job_line(other), (old, new), (before_names, after_names))
    for unit in new.places if new is not None else ():
        if old is None or unit not in old.places:
            yield _whole(name, job_line(after.raw(name, unit)), new, before, Change.ADDED)


def _whole(name: str, job: JobLine, stage: StageText | None, other: PlanLines, change: Change) -> UnitChange:
    """Return that a unit is in one plan alone: with the rule that makes it there, and why it is not in the other."""
    assert stage is not None
    making = stage.head.making
    rule, origin = job.inputs[making].rule, _layer(stage, job, making)
    absent = other.stages.get(name)
    why = absent.head.absent.get(job.unit, absent.head.absent.get("", "")) if absent is not None else ""
    origin_absent = ""
    if absent is not None and absent.places and not why:
        first = job_line(other.raw(name, next(iter(absent.places))))
        why = first.inputs[making].rule if making in first.inputs else ""
        origin_absent = _layer(absent, first, making)
    if change is Change.DROPPED:
        return UnitChange(name, job.unit, change, "", (), (), rule, why, origin, origin_absent)
    return UnitChange(name, job.unit, change, "", (), (), why, rule, origin_absent, origin)


def _unit(
    name: str, old: JobLine, new: JobLine, stages: tuple[StageText, StageText], names: tuple[_Names, _Names]
) -> Iterator[UnitChange]:
    for role in dict.fromkeys([*old.inputs, *new.inputs]):
        one, two = old.inputs.get(role, _EMPTY), new.inputs.get(role, _EMPTY)
        files = names[0].read(one) != names[1].read(two)
        if files or (one.rule, one.level) != (two.rule, two.level) or (role in old.inputs) != (role in new.inputs):
            yield UnitChange(
                name, old.unit, Change.INPUT if files else Change.RULE, role, _files(one), _files(two), one.rule,
                two.rule, _layer(stages[0], old, role), _layer(stages[1], new, role), one.level, two.level,
            )  # fmt: skip
    for role in dict.fromkeys([*old.outputs, *new.outputs]):
        made, makes = old.outputs.get(role, ()), new.outputs.get(role, ())
        if names[0].made(made) != names[1].made(makes):
            yield UnitChange(name, old.unit, Change.OUTPUT, role, _placed(made), _placed(makes))


def _files(line: InputLine) -> tuple[str, ...]:
    return tuple(
        [f"{file.name} without {', '.join(file.excluded)}" if file.excluded else file.name for file in line.files]
    )


def _placed(outputs: tuple[OutputLine, ...]) -> tuple[str, ...]:
    return tuple([f"{each.name} in {each.to}" for each in outputs])


def _layer(stage: StageText, job: JobLine, role: str) -> str:
    return stage.head.origins.get(job.units, {}).get(role, "")


class _Names:
    """The names that a campaign gives, without its number and those of attempts."""

    def __init__(self, text: PlanLines) -> None:
        self._number = text.head.number
        self._templates = {
            key.removeprefix("file_types.").removesuffix(".template"): value
            for stage in text.stages.values()
            for key, value in stage.head.config.items()
            if key.endswith(".template") and value
        }
        self._patterns: dict[str, tuple[re.Pattern[str], list[int]]] = {}

    def read(self, line: InputLine) -> list[tuple[object, ...]]:
        """Return what tells files of an input apart: of those that the campaign makes, not what is in them."""
        return [
            (bare, "" if bare != file.name or not file.sha256 else file.sha256, file.excluded)
            for file in line.files
            for bare in (self._bare(file.name, file.type),)
        ]

    def made(self, outputs: tuple[OutputLine, ...]) -> list[tuple[str, str, str]]:
        """Return what tells outputs apart."""
        return [(self._bare(each.name, each.type), each.type, each.to) for each in outputs]

    def _bare(self, name: str, type_: str) -> str:
        if type_ not in self._templates:
            return name
        pattern, kept = self._patterns.get(type_) or self._pattern(type_)
        match = pattern.fullmatch(name)
        return "*".join([match[number] for number in kept]) if match else name

    def _pattern(self, type_: str) -> tuple[re.Pattern[str], list[int]]:
        """Make a pattern of a template, and tell which of its groups to keep."""
        pattern, kept, number = "(", [1], 1
        for literal, name, spec, _ in Formatter().parse(self._templates[type_]):
            pattern += re.escape(literal)
            if name in ("campaign", "attempt"):
                pattern += f"){re.escape(format(self._number, spec or '')) if name == 'campaign' else '[0-9]+'}("
                number += 1
                kept.append(number)
            elif name is not None:
                pattern += ".+?"
        self._patterns[type_] = re.compile(f"{pattern})"), kept
        return self._patterns[type_]
