"""Lists that operators bring to a query."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nightmill.errors import RequestRefused

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

_WHOLE: Final = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
"""No leading zeros: 007 is a code, and stays as it is."""
_NUMBER: Final = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True)
class Upload:
    """A table to be: its name, its columns with their types in SQL, its rows."""

    name: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]]

    @property
    def definition(self) -> str:
        """The statement that makes the temporary table; names are quoted."""
        columns = ", ".join(f'"{name}" {type_}' for name, type_ in self.columns)
        return f'CREATE TEMP TABLE "{self.name}" ({columns})'


def read_upload(name: str, path: Path) -> Upload:
    """Read a list for a temporary table.

    A column is of whole numbers, numbers, or text, as all of its values allow; an empty value is NULL.

    Parameters
    ----------
    name
        Of the table.
    path
        CSV whose first line names the columns, or (``.txt``) one value a line in a column named ``value``.

    Raises
    ------
    RequestRefused
        Where the file cannot be read, a name is none in SQL, or a line has too few or too many values.
    """
    if not _NAME.fullmatch(name):
        raise RequestRefused(f"{name!r} cannot name a table", remedy="use letters, digits and _")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            if path.suffix == ".txt":
                header, lines = ["value"], [[line.strip()] for line in stream if line.strip()]
            else:
                header, *lines = [line for line in csv.reader(stream, strict=True) if line] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RequestRefused(f"the list {path} cannot be read: {error}", remedy="give a CSV or .txt file") from error
    header = [column.strip() for column in header]
    _check(path, header, lines)
    converted = [_convert([line[number] for line in lines]) for number in range(len(header))]
    columns = [(name, type_) for name, (type_, _) in zip(header, converted, strict=True)]
    return Upload(name, columns, list(zip(*(values for _, values in converted), strict=True)))


def _check(path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    wrong = [column for column in header if not _NAME.fullmatch(column)]
    if not header or wrong:
        raise RequestRefused(
            f"{path}: {wrong[0]!r} cannot name a column" if wrong else f"{path} is empty",
            remedy="let the first line name the columns, in letters, digits and _; a .txt file needs none",
        )
    if len({column.lower() for column in header}) < len(header):
        raise RequestRefused(f"{path} names a column twice", remedy="give each column a name of its own")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise RequestRefused(
                f"{path}: row {number} has {len(line)} values for {len(header)} columns", remedy="mend that row"
            )


def _convert(values: Sequence[str]) -> tuple[str, list[Any]]:
    given = [value for value in values if value != ""]
    kinds: Sequence[tuple[str, re.Pattern[str], Callable[[str], Any]]] = (
        ("BIGINT", _WHOLE, int),
        ("DOUBLE PRECISION", _NUMBER, float),
    )
    for type_, form, convert in kinds:
        if all(form.fullmatch(value) for value in given):
            return type_, [convert(value) if value else None for value in values]
    return "TEXT", [value or None for value in values]
