"""Units are made: the files of a stage grouped by the dimensions of its ``per``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nightmill.model.dimensions import DIMENSIONS, unit_name
from nightmill.model.found_file import FoundFile
from nightmill.model.unit import Unit
from nightmill.planning.problems import Problems


def make_units(per: Sequence[str], files: Iterable[FoundFile], problems: Problems, *, topic: str) -> list[Unit]:
    """Group files into units, one for each distinct set of values of ``per``.

    Returns
    -------
    list of Unit
        In the order of the values of ``per``.
    """
    groups: dict[tuple[str | int, ...], list[FoundFile]] = {}
    for file in files:
        try:
            key = tuple([file.data_id[dimension] for dimension in per])
        except KeyError as error:
            reason = f"a file has no {error.args[0]}, so that no unit can be made of it"
            problems.add(topic, reason, file.name, noun="file")
            continue
        groups.setdefault(key, []).append(file)
    units = [_unit(per, groups[key]) for key in sorted(groups)]
    _refuse_equal_names(units, problems, topic)
    return units


def _unit(per: Sequence[str], files: list[FoundFile]) -> Unit:
    files.sort(key=lambda file: file.name)
    data_id = files[0].data_id if len(files) == 1 else agreed(files)
    begins = [time for file in files if (time := file.begins_at or file.ends_at) is not None]
    ends = [time for file in files if (time := file.ends_at or file.begins_at) is not None]
    name = unit_name({dimension: data_id[dimension] for dimension in per}, per)
    return Unit(name, data_id, min(begins, default=None), max(ends, default=None), tuple(files))


def agreed(files: Sequence[FoundFile]) -> Mapping[str, str | int]:
    """Return the dimensions that all files have, with the same value in each."""
    first = files[0].data_id
    return {
        dimension: first[dimension]
        for dimension in DIMENSIONS
        if dimension in first and all(file.data_id.get(dimension) == first[dimension] for file in files[1:])
    }


def _refuse_equal_names(units: Iterable[Unit], problems: Problems, topic: str) -> None:
    seen: set[str] = set()
    for unit in units:
        if unit.name in seen:
            problems.add(topic, "different units would have the same name", unit.name)
        seen.add(unit.name)
