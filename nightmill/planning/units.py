"""Units are made: the files of a stage grouped by the keys of its ``per``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Final, TypeVar, cast

from nightmill.expressions import Expression, evaluate
from nightmill.model.attachment import RowValue
from nightmill.model.dimensions import DIMENSIONS, VALUES, DataId, KeyType, KeyValue, split, unit_name
from nightmill.model.found_file import FoundFile
from nightmill.model.unit import Unit
from nightmill.planning.problems import Problems

Item = TypeVar("Item")
_NO_ROW: Final[Mapping[str, RowValue]] = {}


def is_of(value: object, kind: KeyType) -> bool:
    """Say whether a value is of a type."""
    return type(value) in VALUES[kind]


def fulfils(expression: Expression, data_id: DataId) -> bool:
    """Say whether a unit is one that an expression over the keys of units is about."""
    dimensions, metadata = split(data_id)
    return evaluate(expression, {**dimensions, "metadata": metadata})


class Grouping:
    """The keys by which files make units, with the types that these have at a site.

    Parameters
    ----------
    per
        Of the stage.
    types
        Of every key that the site knows.
    """

    def __init__(self, per: Sequence[str], types: Mapping[str, KeyType]) -> None:
        self.per = tuple(per)
        self._types = {place: (key, types.get(key, "str")) for place, key in enumerate(per) if key not in DIMENSIONS}
        """By the places of keys that are not columns, whose values may be of another type than the site has it now."""
        self._all = [(key, types.get(key, "str")) for key in per]

    def of(self, file: FoundFile, row: Mapping[str, RowValue] = _NO_ROW) -> tuple[KeyValue, ...]:
        """Return a file's values of the keys.

        Parameters
        ----------
        row
            Says what the file is of in this unit: where it has a key, it counts.

        Raises
        ------
        ValueError
            Where it has none of one, or one of another type; says which.
        """
        values = tuple([row[key] if key in row else file.get(key) for key in self.per])
        if None in values:
            key = self.per[values.index(None)]
            what = "row" if key in row else "file"
            raise ValueError(f"a {what} has no {key}, so that no unit can be made of it")
        for place, (key, kind) in self._types.items() if not row else enumerate(self._all):
            if not is_of(values[place], kind):
                what = "row" if key in row else "file"
                raise ValueError(
                    f"a {what} has {key} as {type(values[place]).__name__}, and the site's type of it is {kind}"
                )
        return cast("tuple[KeyValue, ...]", values)

    def data_id(self, values: Sequence[KeyValue]) -> dict[str, KeyValue]:
        """Return values of the keys as a data ID has them."""
        data_id = dict(zip(self.per, values, strict=True))
        for key, kind in self._types.values():
            if kind == "float":
                data_id[key] = float(data_id[key])
        return data_id


def make_units(grouping: Grouping, files: Iterable[FoundFile], problems: Problems, *, topic: str) -> Iterator[Unit]:
    """Group files into units, one for each distinct set of values of the keys.

    Parameters
    ----------
    files
        In the order of these values; those that lack one, which is a problem, stand anywhere among them.

    Yields
    ------
    Unit
        In the order of the values of the keys.
    """
    yield from group_units(grouping, _keyed(grouping, files, problems, topic))


def group_units(grouping: Grouping, keyed: Iterable[tuple[tuple[KeyValue, ...], FoundFile]]) -> Iterator[Unit]:
    """Make a unit of each run of files with the same values of the keys."""
    for values, group in groupby(keyed, itemgetter(0)):
        yield _unit(grouping, values, [file for _values, file in group])


def peeked(items: Iterable[Item]) -> tuple[bool, Iterator[Item]]:
    """Say whether there are any items, and return all of them."""
    rest = iter(items)
    first = list(islice(rest, 1))
    return bool(first), chain(first, rest)


def limited(units: Iterable[Unit], most: int, problems: Problems, *, topic: str) -> Iterator[Unit]:
    """Yield units as far as a stage may have them; where there are more, which is a problem, count them."""
    rest = iter(units)
    yield from islice(rest, most)
    if more := sum(1 for _unit in rest):
        problems.add(
            topic, f"{most + more:,} units, and max_units is {most:,}: narrow what makes them by 'where', or raise it"
        )


def _keyed(
    grouping: Grouping, files: Iterable[FoundFile], problems: Problems, topic: str
) -> Iterator[tuple[tuple[KeyValue, ...], FoundFile]]:
    for file in files:
        try:
            yield grouping.of(file), file
        except ValueError as error:
            problems.add(topic, str(error), file.name, noun="file")


def _unit(grouping: Grouping, values: Sequence[KeyValue], files: list[FoundFile]) -> Unit:
    files.sort(key=lambda file: file.name)
    own = grouping.data_id(values)
    begins = [time for file in files if (time := file.begins_at or file.ends_at) is not None]
    ends = [time for file in files if (time := file.ends_at or file.begins_at) is not None]
    name = unit_name(own, grouping.per)
    agrees = files[0].data_id if len(files) == 1 else agreed(files)
    return Unit(name, {**agrees, **own}, min(begins, default=None), max(ends, default=None), tuple(files))


def agreed(files: Sequence[FoundFile]) -> DataId:
    """Return the dimensions that all files have, with the same value in each."""
    first = files[0].data_id
    return {
        dimension: first[dimension]
        for dimension in DIMENSIONS
        if dimension in first and all(file.data_id.get(dimension) == first[dimension] for file in files[1:])
    }
