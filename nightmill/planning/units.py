"""What one job works on: the files of a stage grouped by the dimensions of its ``per``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nightmill.backbone.catalogue.files import FoundFile
from nightmill.model.dimensions import DIMENSIONS, DataId, unit_name
from nightmill.planning.problems import Problems


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit and the files that make it.

    Parameters
    ----------
    name
        The canonical string of its ``per`` dimensions.
    data_id
        The ``per`` dimensions, and beside them every dimension on which all its files agree: what inputs are chosen by.
    begins_at, ends_at
        The span of its files, UTC; None where none of them tells.
    files
        By name.
    """

    name: str
    data_id: DataId
    begins_at: datetime | None
    ends_at: datetime | None
    files: tuple[FoundFile, ...]

    def fixed(self, per: Sequence[str], *, takes_one: bool) -> DataId:
        """Return the dimensions that the declaration of its stage fixes: those of its products.

        They are the same for all units of the stage, whatever files each happens to have.
        """
        return self.data_id if takes_one else {dimension: self.data_id[dimension] for dimension in per}

    @property
    def middle(self) -> float | None:
        """The middle of its span, in seconds since the epoch."""
        return middle(self.begins_at, self.ends_at)


def middle(begins_at: datetime | None, ends_at: datetime | None) -> float | None:
    """Return the middle of a span in seconds since the epoch; of a span with one end, that end."""
    ends = [time.timestamp() for time in (begins_at, ends_at) if time is not None]
    return sum(ends) / len(ends) if ends else None


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
