"""Units are made: the files of a stage grouped by the dimensions of its ``per``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from nightmill.model.dimensions import DIMENSIONS, unit_name
from nightmill.model.found_file import FoundFile
from nightmill.model.unit import Unit
from nightmill.planning.problems import Problems


def make_units(per: Sequence[str], files: Iterable[FoundFile], problems: Problems, *, topic: str) -> Iterator[Unit]:
    """Group files into units, one for each distinct set of values of ``per``.

    Parameters
    ----------
    files
        In the order of these values; those that lack one, which is a problem, stand anywhere among them.

    Yields
    ------
    Unit
        In the order of the values of ``per``.
    """
    for _key, group in groupby(_keyed(per, files, problems, topic), itemgetter(0)):
        yield _unit(per, [file for _key, file in group])


def _keyed(
    per: Sequence[str], files: Iterable[FoundFile], problems: Problems, topic: str
) -> Iterator[tuple[tuple[str | int, ...], FoundFile]]:
    for file in files:
        try:
            yield tuple([file.data_id[dimension] for dimension in per]), file
        except KeyError as error:
            reason = f"a file has no {error.args[0]}, so that no unit can be made of it"
            problems.add(topic, reason, file.name, noun="file")


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
