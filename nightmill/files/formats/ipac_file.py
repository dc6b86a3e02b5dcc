"""IPAC tables, as Montage and IRSA write them: the places of the bars in their head say where each column stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Final

from nightmill.errors import BadFile
from nightmill.files.formats.compressed import Unpacked, remedy_for, unpacked
from nightmill.files.formats.tables import column_names, no_rows
from nightmill.files.formats.text_tables import (
    MAX_LINE_BYTES,
    guessed,
    not_a_table,
    refuse_table,
    texts_of,
    value_of,
)
from nightmill.files.formats.tree import MAX_TREE_BYTES
from nightmill.files.reading import StrPath
from nightmill.model.attachment import RowValue
from nightmill.model.content import Content, Digest, SectionValue

MAX_HEAD_LINES: Final = 4
"""Names, types, units and what stands for no value."""
NULL: Final = "null"
"""What stands for no value where the head does not say it, but in texts."""

_NAME: Final = r"[^\s=\\|\x00-\x1f\x7f]+"
_LINE: Final = re.compile(rf"\\({_NAME})\s*=\s*(.*)")
_KINDS: Final[Mapping[str, Callable[[str], RowValue]]] = {
    **dict.fromkeys(["int", "long"], int),
    **dict.fromkeys(["double", "float", "real"], float),
    **dict.fromkeys(["char", "date"], str),
}


class Ipac:
    """The format ``ipac``: keywords are those of the lines that begin with a backslash, above the table."""

    keyword: Final = re.compile(_NAME)

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read what stands above the table, as :class:`nightmill.model.ports.Format` says.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format``, ``over_limit``,
            ``truncated`` or ``bad_compression`` inside of gzip or bzip2.
        """
        with unpacked(path, descriptor, digest) as file:
            head = _Head(path, file)
        return Content((Keywords(head.keywords),), file.size_bytes, file.compression)

    def rows(
        self, name: StrPath, path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows, as :meth:`nightmill.model.ports.TableFormat.rows` says; what is empty or null is nothing."""
        refuse_table(name, table)
        with unpacked(path, None, None) as file:
            head = _Head(name, file)
            wanted = [head.column(each) for each in column_names(name, "the table", head.names, columns)]
            for row, line in enumerate(filter(str.strip, head.below), start=1):
                head.refuse_shifted(line, row)
                yield tuple([value(line, row) for value in wanted])


class Keywords:
    """The one section of an IPAC table."""

    number: Final = 0
    name: Final = ""

    def __init__(self, values: Mapping[str, SectionValue]) -> None:
        self.values = values

    def get(self, keyword: str) -> SectionValue | None:
        """Return the value of a keyword, written exactly so."""
        return self.values.get(keyword)

    def items(self) -> Iterator[tuple[str, SectionValue]]:
        """Yield every keyword with its value."""
        return iter(self.values.items())


class _Head:
    """What stands above the rows of a table, and the lines below."""

    def __init__(self, path: StrPath, file: Unpacked) -> None:
        self.path = path
        self.keywords: dict[str, SectionValue] = {}
        self.below: Iterator[str] = iter(())
        self.lines: list[str] = []
        texts, size = texts_of(path, file.lines(MAX_LINE_BYTES)), 0
        for text in texts:
            line = text.rstrip()
            if line.startswith("\\") and not self.lines:
                self._take(line)
            elif line.startswith("|") and len(self.lines) < MAX_HEAD_LINES:
                self.lines.append(line)
            elif self.lines:
                self.below = chain([text], texts)
                break
            else:
                raise self._refused(f"it begins with {line[:20]!r}", remedy_for(text.encode()))
            size += len(text)
            if size > MAX_TREE_BYTES:
                raise file.over(f"more than {MAX_TREE_BYTES:,} bytes stand above the table, the most that are read")
        if not self.lines:
            raise self._refused("it ends before its table")
        self.bars = _bars(self.lines[0])
        if not all(line.endswith("|") and _bars(line) == self.bars for line in self.lines):
            raise self._refused("the bars of its head do not stand below each other")
        self.names = [self.lines[0][cell].strip() for cell in self._cells()]
        if not self.names or not all(self.names) or len(set(self.names)) < len(self.names):
            raise self._refused(f"its head does not name the columns: {', '.join(self.names)[:60]!r}")

    def _take(self, line: str) -> None:
        """Keep a keyword, the first of its name; any other line that begins so is a comment."""
        if found := _LINE.fullmatch(line):
            value = found[2]
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            kept = value[1:-1] if quoted else guessed(value)
            self.keywords.setdefault(found[1], "" if kept is None else kept)

    def _cells(self) -> list[slice]:
        return [slice(bar + 1, after) for bar, after in pairwise(self.bars)]

    def column(self, name: str) -> Callable[[str, int], RowValue]:
        """Return what makes the value of a column of a line and the number of its row."""
        place = self.names.index(name)
        cell = self._cells()[place]
        kind_name, null = (self._told(line, cell) for line in (1, 3))
        kind = next((_KINDS[each] for each in _KINDS if kind_name and each.startswith(kind_name)), None)
        if kind is None and kind_name:
            raise no_rows(self.path, f"column {name!r} is of type {kind_name!r}, and may be of {', '.join(_KINDS)}")
        nulls = {null} if kind is str else {null, NULL}

        def value(line: str, row: int) -> RowValue:
            text = line[cell].strip()
            return None if text in nulls else value_of(self.path, name, kind or guessed, row, text)

        return value

    def _told(self, number: int, cell: slice) -> str:
        return self.lines[number][cell].strip() if number < len(self.lines) else ""

    def refuse_shifted(self, line: str, row: int) -> None:
        """Raise for a row of which it is not known what stands in which column."""
        text = line.rstrip()
        if not (text.isascii() and text.isprintable()):
            why = "characters that are not of ASCII, or tabs: where its columns begin is not known"
        elif text[self.bars[-1] :] or any(text[bar : bar + 1].strip() for bar in self.bars):
            why = "a value below a bar of the head, where no column stands"
        else:
            return
        raise no_rows(self.path, f"row {row:,} has {why}")

    def _refused(self, why: str, remedy: str = "") -> BadFile:
        return not_a_table(self.path, "an IPAC table", why, remedy)


def _bars(line: str) -> list[int]:
    return [place for place, each in enumerate(line) if each == "|"]
