"""A small model of what a plan is: it looks at every file and every row for every unit.

It knows nothing of indexes, blocks or plans, and shares no code with what it is compared with but the name of a unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nightmill.model.dimensions import KeyType, unit_name

COLUMNS: Final[Mapping[str, KeyType]] = {"pair": "int", "night": "int", "plus": "str", "minus": "str"}
"""Of the rows of tables."""


@dataclass(frozen=True)
class File:
    """A file as the model knows it."""

    name: str
    type: str
    keys: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Job:
    """A job as the model wants it."""

    inputs: Mapping[str, frozenset[str]]
    product: str


class Wrong(Exception):
    """The plan of a stage ought to be refused."""


def expected(
    stage: Mapping[str, Any], there: Iterable[File], campaign: int, incomplete: set[str]
) -> tuple[dict[str, Job], dict[str, str]]:
    """Work out the jobs of a stage, and the units that are left out, by name; note whether it leaves some out."""
    per, inputs = stage["per"], stage["inputs"]
    by_type: dict[str, list[File]] = {}
    for file in there:
        by_type.setdefault(file.type, []).append(file)
    main = by_type.get(inputs["main"]["type"], [])
    if incomplete & {each.get("source", {}).get("stage") for each in inputs.values()}:
        incomplete.add(stage["name"])
    tables = by_type.get("table", [])
    jobs, left_out = {}, {}
    pairs = paired(inputs["main"], main, tables, per)
    if not pairs and inputs["main"].get("source", {}).get("stage") in incomplete:
        return {}, {}
    for values, own in units_of(pairs, per).items():
        unit = dict(zip(per, values, strict=True))
        name = unit_name(unit, per)
        found = {"main": frozenset(file.name for file in own)}
        if "other" in inputs:
            other = inputs["other"]
            fitting = fitting_files(other, by_type.get(other["type"], []), tables, unit, own, per)
            if not is_enough(other, len(fitting)):
                if other["missing"] != "refuse":
                    left_out[name] = other["missing"]
                    incomplete.add(stage["name"])
                continue
            if fitting:
                found["other"] = frozenset(file.name for file in fitting)
        if "table" in stage["steps"][0]["inputs"]:
            found["table"] = frozenset(table.name for table in tables)
        product = "_".join([stage["name"], *(str(unit[key]) for key in per)])
        jobs[name] = Job(found, f"{product}_c{campaign:04d}a01")
    return jobs, left_out


def paired(
    declared: Mapping[str, Any], main: Sequence[File], tables: Sequence[File], per: Sequence[str]
) -> list[tuple[File, Mapping[str, Any]]]:
    """Return the files that make units, each with what a row that names it says of the unit."""
    if not declared.get("through"):
        return [(file, {}) for file in main]
    naming = naming_columns(declared, main, per)
    return [(file, row) for table in tables for row in table.rows for file in main if names(row, file, naming)]


def units_of(pairs: Sequence[tuple[File, Mapping[str, Any]]], per: Sequence[str]) -> dict[tuple[Any, ...], list[File]]:
    """Group files by the values of keys, which a row that names the file or the file itself must have."""
    units: dict[tuple[Any, ...], list[File]] = {}
    for file, row in pairs:
        values = tuple(row[key] if key in row else file.keys.get(key) for key in per)
        if None in values:
            raise Wrong
        units.setdefault(values, []).append(file)
    if not units:
        raise Wrong
    return units


def naming_columns(declared: Mapping[str, Any], candidates: Sequence[File], per: Sequence[str]) -> dict[str, list[str]]:
    """Return the keys by which rows name the files of an input, each with the columns that have its value."""
    asked, adds = asked_of(declared["match"])
    naming = {key: columns for key, columns in asked.items() if set(columns) <= set(COLUMNS)}
    if adds:
        known = {key for file in candidates for key in file.keys}
        naming |= {key: [key] for key in COLUMNS if key in known and key not in per and key not in naming}
    return naming


def names(row: Mapping[str, Any], file: File, naming: Mapping[str, Sequence[str]]) -> bool:
    """Say whether a row names a file."""
    own = {**file.keys, "name": file.name}
    return all(
        own.get(key) is not None and own[key] in [row[column] for column in columns] for key, columns in naming.items()
    )


def fitting_files(
    declared: Mapping[str, Any],
    candidates: Sequence[File],
    tables: Sequence[File],
    unit: Mapping[str, Any],
    own: Sequence[File],
    per: Sequence[str],
) -> list[File]:
    """Return the files of an input that fit a unit: as rows about the unit name them, where it comes through some."""
    if not declared.get("through"):
        asked, adds = asked_of(declared["match"])
        return [file for file in candidates if fits(file, unit, own, asked, per if adds else ())]
    naming = naming_columns(declared, candidates, per)
    about = [row for table in tables for row in table.rows if all(row[key] == unit[key] for key in per if key in row)]
    asked, adds = asked_of(declared["match"])
    rest = {key: each for key, each in asked.items() if key not in naming}
    default = [key for key in per if key not in COLUMNS] if adds else []
    named_files = [file for file in candidates if any(names(row, file, naming) for row in about)]
    return [file for file in named_files if fits(file, unit, own, rest, default)]


def asked_of(match: Any) -> tuple[dict[str, list[str]], bool]:
    """Return the keys that a match names, each with those it is compared with, and whether it adds to the default."""
    adds = match is None or (isinstance(match, dict) and "also" in match)
    asked: Any = match["also"] if isinstance(match, dict) and "also" in match else match or []
    if not isinstance(asked, dict):
        asked = {key: [key] for key in asked}
    return {key: [each] if isinstance(each, str) else list(each) for key, each in asked.items()}, adds


def is_enough(declared: Mapping[str, Any], found: int) -> bool:
    """Say whether an input is filled by so many files; a unit that it is not filled for waits, or is left out."""
    if declared["max"] is not None and found > declared["max"]:
        raise Wrong
    if found < declared["min"] and declared["missing"] == "refuse" and "source" not in declared:
        raise Wrong
    return found >= int(declared["min"])


def fits(
    file: File,
    unit: Mapping[str, Any],
    own: Sequence[File],
    asked: Mapping[str, Sequence[str]],
    default: Sequence[str],
) -> bool:
    """Say whether a file agrees with a unit on all that is asked, and on what it has of the default."""
    if not file.keys.keys() >= set(asked):
        return False
    for key, of_unit in asked.items():
        values = [value for each in of_unit for value in known(each, unit, own)]
        if file.keys[key] not in values:
            return False
    return all(file.keys[key] == unit[key] for key in default if key in file.keys and key not in asked)


def known(key: str, unit: Mapping[str, Any], own: Sequence[File]) -> list[Any]:
    """Return the unit's value of a key, if it has one."""
    if key in unit:
        return [unit[key]]
    values = {file.keys.get(key) for file in own}
    if len(values) > 1:
        raise Wrong
    return [value for value in values if value is not None]
