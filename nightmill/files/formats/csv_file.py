"""Tables of text: CSV, and ECSV, which says in front of it what its columns are."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from nightmill.files.formats.compressed import Unpacked, remedy_for, unpacked
from nightmill.files.formats.tables import column_names, no_rows, not_plain
from nightmill.files.formats.text_tables import (
    MAX_LINE_BYTES,
    guessed,
    not_a_table,
    refuse_table,
    texts_of,
    value_of,
)
from nightmill.files.formats.tree import KEYWORD, MAX_TREE_BYTES, Tree
from nightmill.files.formats.yaml_file import yaml_tree
from nightmill.files.reading import StrPath
from nightmill.model.attachment import RowValue
from nightmill.model.content import Content, Digest

_ECSV: Final = re.compile(rb"# %ECSV [0-9.]+\s*")
_KINDS: Final[Mapping[str, Callable[[str], RowValue]]] = {
    "bool": lambda text: {"True": True, "False": False}[text],
    "string": str,
    **dict.fromkeys(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"], int),
    **dict.fromkeys(["float16", "float32", "float64", "float128"], float),
}


class Csv:
    """The format ``csv``: a line with the names of columns, and a line a row, with commas between values."""

    keyword: Final = None

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read the names of the columns, as :class:`nightmill.model.ports.Format` says.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format``, ``over_limit``,
            ``truncated`` or ``bad_compression`` inside of gzip or bzip2.
        """
        with unpacked(path, descriptor, digest) as file:
            _names(path, texts_of(path, file.lines(MAX_LINE_BYTES)), ",")
        return Content((), file.size_bytes, file.compression)

    def rows(
        self, name: StrPath, path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows, as :meth:`nightmill.model.ports.TableFormat.rows` says; what looks like a number is one."""
        refuse_table(name, table)
        with unpacked(path, None, None) as file:
            texts = texts_of(name, file.lines(MAX_LINE_BYTES))
            there = _names(name, texts, ",")
            wanted = column_names(name, "the table", there, columns)
            yield from _rows(name, texts, ",", there, [(each, guessed) for each in wanted])


class Ecsv:
    """The format ``ecsv``: keywords are dotted paths into its ``meta``."""

    keyword: Final = KEYWORD

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
            head.names()
        return Content((Tree(head.data.get("meta")),), file.size_bytes, file.compression)

    def rows(
        self, name: StrPath, path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows, as :meth:`nightmill.model.ports.TableFormat.rows` says; what is empty is nothing."""
        refuse_table(name, table)
        with unpacked(path, None, None) as file:
            head = _Head(name, file)
            there = head.names()
            wanted = column_names(name, "the table", there, columns)
            kinds = [(each, head.kind(each)) for each in wanted]
            yield from _rows(name, head.texts, head.delimiter, there, kinds)


class _Head:
    """What an ECSV file says of its table, and the lines of that."""

    def __init__(self, path: StrPath, file: Unpacked) -> None:
        self.path = path
        self.lines = file.lines(MAX_LINE_BYTES)
        first = next(self.lines, b"")
        if not _ECSV.fullmatch(first):
            raise not_a_table(path, "ECSV", f"it begins with {first[:20]!r}", remedy_for(first))
        head, size = [b""], 0  # the first line keeps its number
        for line in self.lines:
            if not line.startswith(b"#"):
                self.texts = texts_of(path, self._from(line))
                break
            head.append(line[1:].removeprefix(b" "))
            size += len(line)
            if size > MAX_TREE_BYTES:
                raise file.over(f"more than {MAX_TREE_BYTES:,} bytes stand above the table, the most that are read")
        else:
            raise not_a_table(path, "ECSV", "it ends before its table")
        self.data = yaml_tree(path, b"\n".join([each.rstrip() for each in head]), "ECSV").data
        columns = self.data.get("datatype") if isinstance(self.data, dict) else None
        if not isinstance(columns, list) or not all(isinstance(each, dict) for each in columns):
            raise not_a_table(path, "ECSV", "its 'datatype' is not a list of columns")
        self.columns: dict[str, dict[str, object]] = {str(each.get("name")): each for each in columns}
        self.delimiter = str(self.data.get("delimiter", " "))
        if self.delimiter not in (" ", ","):
            raise not_a_table(path, "ECSV", f"its delimiter is {self.delimiter!r}, and may be a blank or a comma")

    def _from(self, line: bytes) -> Iterator[bytes]:
        yield line
        yield from self.lines

    def names(self) -> list[str]:
        """Return the names of the columns, which stand twice."""
        names = _names(self.path, self.texts, self.delimiter)
        if names != list(self.columns):
            told = ", ".join(self.columns)
            raise not_a_table(self.path, "ECSV", f"its 'datatype' has the columns {told}, its table {', '.join(names)}")
        return names

    def kind(self, column: str) -> Callable[[str], RowValue]:
        """Return what makes the values of a column."""
        told = self.columns[column]
        kind = _KINDS.get(str(told.get("datatype")))
        if kind is None or "subtype" in told:
            raise not_plain(self.path, column, f", of type {told.get('subtype', told.get('datatype'))},")
        return kind


def _split(path: StrPath, texts: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    try:
        yield from (values for values in csv.reader(texts, delimiter=delimiter, strict=True) if values)
    except csv.Error as error:
        raise not_a_table(path, "a table of text", str(error)) from error


def _names(path: StrPath, texts: Iterator[str], delimiter: str) -> list[str]:
    names = next(_split(path, texts, delimiter), [])
    if not all(names) or len(set(names)) < len(names) or not names:
        raise not_a_table(
            path, "a table of text", f"its first line does not name the columns: {', '.join(names)[:60]!r}"
        )
    return names


def _rows(
    path: StrPath,
    texts: Iterator[str],
    delimiter: str,
    there: Sequence[str],
    columns: Sequence[tuple[str, Callable[[str], RowValue]]],
) -> Iterator[tuple[RowValue, ...]]:
    wanted = [(there.index(column), column, kind) for column, kind in columns]
    for row, values in enumerate(_split(path, texts, delimiter), start=1):
        if len(values) != len(there):
            raise no_rows(path, f"row {row:,} has {len(values)} values, and there are {len(there)} columns")
        yield tuple([value_of(path, column, kind, row, values[place]) for place, column, kind in wanted])
