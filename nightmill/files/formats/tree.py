"""Nested data, as JSON and YAML have it, seen as a section with keywords and as tables with rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, Final

from nightmill.files.formats.tables import column_names, no_rows, plain_value
from nightmill.model.attachment import RowValue
from nightmill.model.content import SectionValue

KEYWORD: Final = re.compile(r"[^.\x00-\x1f\x7f]+(\.[^.\x00-\x1f\x7f]+)*")
"""The names of mappings on the way to a value, and positions in lists from 0, with dots between them."""
MAX_TREE_BYTES: Final = 16 << 20
"""Of a document that is held in memory."""
MAX_LISTED: Final = 100_000
"""Values that a section lists; it gives those after them when it is asked."""
MAX_DEPTH: Final = 50

_NOTHING: Final = object()


class Tree:
    """The one section of a file that holds mappings in mappings.

    Parameters
    ----------
    data
        Mappings with text keys, lists, texts, numbers, truth values, None.
    """

    number: Final = 0
    name: Final = ""

    def __init__(self, data: Any) -> None:
        self.data = data

    def get(self, keyword: str) -> SectionValue | None:
        """Return the value at the end of a dotted path, as ``observation.filters.0.name``.

        A name with dots in it is found as well, after those without.

        Raises
        ------
        ValueError
            Where a mapping or a list stands there.
        """
        found = at_path(self.data, keyword)
        if found is _NOTHING or found is None:
            return None
        if isinstance(found, str | int | float):
            return found
        raise ValueError(f"there stands a {'list' if isinstance(found, list) else 'mapping'}, not a value")

    def items(self) -> Iterator[tuple[str, SectionValue]]:
        """Yield every dotted path that has a value, in order, with that; at most ``MAX_LISTED``."""
        seen: set[str] = set()
        for path, value in _leaves(self.data, ""):
            if len(seen) == MAX_LISTED:
                return
            if path not in seen and KEYWORD.fullmatch(path) and at_path(self.data, path) is value:
                seen.add(path)
                yield path, value

    def rows(
        self, name: str | PathLike[str], table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows of a list of mappings, as :meth:`nightmill.model.ports.TableFormat.rows` says.

        Parameters
        ----------
        table
            The dotted path to the list; 1 for the document itself.
        """
        records = self.data if table == 1 else at_path(self.data, table) if isinstance(table, str) else _NOTHING
        where = "it" if table == 1 else repr(table)
        if records is _NOTHING:
            raise no_rows(name, f"it has not got {table!r}")
        if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
            raise no_rows(name, f"{where} is not a list of mappings, which are the rows of a table")
        there = list(dict.fromkeys(key for each in records for key in each))
        names = column_names(name, "the table", there, columns) if records else []
        for number, each in enumerate(records, start=1):
            yield tuple([plain_value(name, key, number, each.get(key)) for key in names])


def at_path(node: Any, path: str) -> Any:
    """Return what stands at the end of a dotted path, or a mark of its own for nothing."""
    if isinstance(node, list):
        head, _, rest = path.partition(".")
        if not head.isdecimal() or len(head) > 9 or int(head) >= len(node):
            return _NOTHING
        return at_path(node[int(head)], rest) if rest else node[int(head)]
    if not isinstance(node, dict):
        return _NOTHING
    for dot in re.finditer(r"\.", path):
        head, rest = path[: dot.start()], path[dot.end() :]
        if head in node and (found := at_path(node[head], rest)) is not _NOTHING:
            return found
    return node.get(path, _NOTHING)


def _leaves(node: Any, path: str) -> Iterator[tuple[str, SectionValue]]:
    if isinstance(node, str | int | float):
        yield path, node
        return
    if path.count(".") > MAX_DEPTH:
        return
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inside:
        yield from _leaves(value, f"{path}.{key}" if path else str(key))
