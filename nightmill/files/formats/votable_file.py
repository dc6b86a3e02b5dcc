"""VOTables: parameters and infos as keywords of sections, one of the document and one a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import repeat
from math import prod
from typing import Any, Final
from xml.parsers import expat

from nightmill.errors import BadFile
from nightmill.files.formats.compressed import Unpacked, remedy_for, unpacked
from nightmill.files.formats.tables import array_rows, column_names, no_rows
from nightmill.files.reading import StrPath
from nightmill.model.attachment import RowValue
from nightmill.model.content import Content, Digest, SectionValue

MAX_VALUES: Final = 100_000
"""Parameters, infos and tables of a document."""
MAX_TABLES_BYTES: Final = 256 << 20
"""Of a document whose rows are read: it is held in memory."""
MAX_CELLS: Final = 200_000_000
"""Values of a table whose rows are read."""

_WHOLE: Final = frozenset({"unsignedByte", "short", "int", "long"})
_TRUTH: Final = {"T": True, "TRUE": True, "1": True, "F": False, "FALSE": False, "0": False}


class Votable:
    """The format ``votable``: keywords are the names of PARAM and INFO, those of a table as ``hdu`` its number."""

    keyword: Final = re.compile(r"[^\x00-\x1f\x7f]+")

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read a document to its end, as :class:`nightmill.model.ports.Format` says.

        The first section has what stands outside of tables. The others are its tables, in their order.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format``, ``bad_header`` (more
            rows than there can be), ``over_limit``, ``truncated`` or ``bad_compression`` inside of gzip or bzip2.
        """
        with unpacked(path, descriptor, digest) as file:
            scan = _scanned(path, file)
        return Content(tuple(scan.sections), file.size_bytes, file.compression)

    def rows(
        self, name: StrPath, path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows, as :meth:`nightmill.model.ports.TableFormat.rows` says; tables are counted from 1."""
        with unpacked(path, None, None) as file:
            data = file.whole(MAX_TABLES_BYTES, "a VOTable with its rows")
        number = _place(name, _scanned(name, BytesIO(data)), table)
        from astropy.io import votable  # a second, for who has such files alone

        try:
            found = votable.parse(BytesIO(data), verify="ignore")
            read = list(found.iter_tables())[number - 1].to_table(use_names_over_ids=True)
        except Exception as error:
            raise no_rows(name, f"table {table!r} cannot be read: {type(error).__name__}: {error}") from error
        where = f"table {table!r}"
        names = column_names(name, where, read.colnames, columns)
        if not names:
            yield from repeat((), len(read))
            return
        yield from array_rows(name, where, names, [read[each] for each in names])


class Named:
    """A section of a VOTable."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name.upper()
        self.values: dict[str, SectionValue] = {}

    def get(self, keyword: str) -> SectionValue | None:
        """Return the value of the first PARAM or INFO of a name."""
        return self.values.get(keyword)

    def items(self) -> Iterator[tuple[str, SectionValue]]:
        """Yield every name that has a value, in order, with that."""
        yield from ((name, value) for name, value in self.values.items() if Votable.keyword.fullmatch(name))


class _Wrong(Exception):
    """What is wrong with a document, and the reason; goes through expat."""


class _Scan:
    """Takes what is wanted from the elements of a document as they begin and end."""

    def __init__(self) -> None:
        self.sections = [Named(0, "")]
        self.open: list[str] = []
        self.values = 0
        self.rows = self.width = self.cells = self.promised = 0

    def begin(self, tag: str, given: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if not self.open and tag != "VOTABLE":
            raise _Wrong(f"is not a VOTable: it begins with <{tag}>", "not_of_format")
        self.open.append(tag)
        match tag:
            case "TABLE":
                self.count()
                self.sections.append(Named(len(self.sections), given.get("name") or given.get("ID", "")))
                self.rows = self.width = 0
                self.promised = max(self.promised, _number(given.get("nrows", "")))
            case "FIELD":
                self.width += prod(map(int, re.findall(r"[0-9]{1,9}", given.get("arraysize", "")))) or 1
            case "TR":
                self.rows += 1
            case "PARAM" | "INFO" if "name" in given:
                self.count()
                here = self.sections[-1 if "TABLE" in self.open else 0]
                if (value := _value(given)) is not None:
                    here.values.setdefault(given["name"], value)
            case "STREAM" if given.get("href") or given.get("encoding", "base64") != "base64":
                what = "elsewhere" if given.get("href") else f"in {given['encoding']}"
                raise _Wrong(f"has a STREAM whose bytes are {what}, which is not followed", "not_of_format")
            case _:
                pass

    def end(self, _tag: str) -> None:
        if self.open.pop() == "TABLE":
            self.cells = max(self.cells, self.rows * self.width)

    def count(self) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            raise _Wrong(f"has more than {MAX_VALUES:,} PARAMs, INFOs and TABLEs, the most that are read", "over_limit")

    def entity(self, *_: object) -> None:
        raise _Wrong("declares entities, which are not read", "not_of_format")


def _scanned(path: StrPath, file: Unpacked | BytesIO) -> _Scan:
    scan, parser = _Scan(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = scan.begin, scan.end, scan.entity
    first, size = b"", 0
    try:
        while data := file.read(1 << 20):
            first, size = first or data[:8], size + len(data)
            parser.Parse(data)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise BadFile(f"{path} is not XML: {error}", reason="not_of_format", remedy=remedy_for(first)) from error
    except _Wrong as error:
        raise BadFile(f"{path} {error.args[0]}", reason=error.args[1]) from error
    if scan.promised > size:
        raise BadFile(f"{path} promises {scan.promised:,} rows in {size:,} bytes", reason="bad_header")
    return scan


def _place(name: StrPath, scan: _Scan, table: int | str) -> int:
    """Return the number of a table; only one whose rows can be held in memory."""
    tables = scan.sections[1:]
    wanted = table.upper() if isinstance(table, str) else ""
    found = [each.number for each in tables if each.number == table or (wanted and each.name == wanted)]
    if not found:
        there = ", ".join(each.name or str(each.number) for each in tables) or "none"
        raise no_rows(name, f"it has not got table {table!r} (there is {there})")
    if scan.cells > MAX_CELLS:
        raise BadFile(
            f"{name}: a table has more than {MAX_CELLS:,} values, the most that are read", reason="over_limit"
        )
    return found[0]


def _number(text: str) -> int:
    return int(text[:30]) if text.isascii() and text.isdigit() else 0


def _value(given: dict[str, Any]) -> SectionValue | None:
    """Return the value of a PARAM or INFO; one that is not what its datatype says, as it is written."""
    text, kind = given.get("value"), given.get("datatype", "char")
    if text is None or (given.get("arraysize", "1") != "1" and kind not in ("char", "unicodeChar")):
        return text
    try:
        if kind in _WHOLE:
            return int(text)
        if kind in ("float", "double"):
            return float(text)
    except ValueError:
        return str(text)
    if kind == "boolean":
        return _TRUTH.get(text.strip().upper(), str(text))
    return str(text)
