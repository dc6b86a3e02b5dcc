"""Rows of tables: what the formats that hold some have in common, and those of FITS tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from math import isfinite
from os import PathLike
from typing import Any, Final

from nightmill.errors import BadFile, guess
from nightmill.model.attachment import RowValue

BLOCK: Final = 10_000
"""So many rows are turned into plain values at a time."""
_KINDS: Final = "biufSU"
"""Truth values, numbers and texts."""
_INT64: Final = range(-(1 << 63), 1 << 63)


def table_rows(
    name: str | PathLike[str], path: str, table: int | str, columns: Sequence[str]
) -> Iterator[tuple[RowValue, ...]]:
    """Yield the values of columns of a FITS table, as :meth:`nightmill.model.ports.TableFormat.rows` says."""
    from astropy.io import fits  # half a second, for who has such files alone

    with fits.open(path, memmap=True) as hdus:
        try:
            hdu = hdus[table]
        except (KeyError, IndexError):
            raise no_rows(name, f"it has not got HDU {table!r}") from None
        if not isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
            raise no_rows(name, f"HDU {table!r} is not a table")
        where = f"the table in HDU {table!r}"
        names = column_names(name, where, list(hdu.columns.names), columns)
        if not names:
            yield from repeat((), hdu.header["NAXIS2"])
            return
        yield from array_rows(name, where, names, [hdu.data[each] for each in names])


def column_names(name: str | PathLike[str], where: str, there: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return columns by the names that a table gives them: the case does not count.

    Parameters
    ----------
    where
        What the table is, for the message.
    there
        All that it has.

    Raises
    ------
    BadFile
        Where it lacks one, or several differ in their case alone and none is written as it is asked for (``no_rows``).
    """
    return [_column_name(name, where, there, column) for column in columns]


def _column_name(name: str | PathLike[str], where: str, there: Sequence[str], column: str) -> str:
    if column in there:
        return column
    same = [each for each in there if each.upper() == column.upper()]
    if len(same) > 1:
        raise no_rows(name, f"{where} has the columns {' and '.join(same)}, and {column!r} may be any of them")
    if not same:
        near = guess(column, list(there)) or f" (there is {', '.join(there) or 'none'})"
        raise no_rows(name, f"{where} has not got the column {column!r}{near}")
    return same[0]


def array_rows(
    name: str | PathLike[str], where: str, names: Sequence[str], arrays: Sequence[Any], *, after: int = 0
) -> Iterator[tuple[RowValue, ...]]:
    """Yield the values of arrays of one length, row after row.

    Parameters
    ----------
    after
        How many rows of the table come before them.

    Raises
    ------
    BadFile
        Where one holds more than a plain value a row (``no_rows``).
    """
    for column, each in zip(names, arrays, strict=True):
        if each.dtype.kind not in (*_KINDS, "O") or each.ndim != 1:
            raise not_plain(name, column, f" of {where}")
    for start in range(0, len(arrays[0]), BLOCK):
        blocks = [each[start : start + BLOCK] for each in arrays]
        yield from zip(*(_plain(name, *each, after + start) for each in zip(names, blocks, strict=True)), strict=True)


def _plain(name: str | PathLike[str], column: str, values: Any, start: int) -> list[RowValue]:
    """Return values as Python has them; a text without the blanks at its end, and what is not a number as nothing."""
    if values.dtype.kind in "iub" and not hasattr(values, "mask"):
        plain: list[RowValue] = values.tolist()
        return plain
    return [plain_value(name, column, number, value) for number, value in enumerate(values.tolist(), start + 1)]


def plain_value(name: str | PathLike[str], column: str, row: int, value: object) -> RowValue:
    """Return a value of a table as a database can keep it: text that is Unicode, a number that is finite or nothing.

    Parameters
    ----------
    row
        Its number, from 1.

    Raises
    ------
    BadFile
        Where it is not one plain value, or a whole number of more than 64 bits (``no_rows``).
    """
    match value:
        case None | bool():
            return value
        case float():
            return value if isfinite(value) else None
        case int():
            if value in _INT64:
                return value
            raise no_rows(name, f"column {column!r} has a whole number of more than 64 bits in row {row:,}")
        case str():
            return value.rstrip() if value.isascii() else value.encode(errors="replace").decode().rstrip()
        case bytes():
            return value.decode(errors="replace").rstrip()
        case _:
            raise not_plain(name, column, f" in row {row:,}")


def not_plain(name: str | PathLike[str], column: str, where: str) -> BadFile:
    """Make the refusal of a file with lists where plain values are wanted."""
    return no_rows(name, f"column {column!r}{where} has more than one plain value a row")


def no_rows(name: str | PathLike[str], why: str) -> BadFile:
    """Make the refusal of a file that has not got the rows that its type wants."""
    return BadFile(f"{name}: {why}", reason="no_rows", remedy="see 'membership' of its file type")
