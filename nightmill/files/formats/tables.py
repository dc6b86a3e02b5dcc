"""Rows of FITS tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, Final

from nightmill.errors import BadFile, guess
from nightmill.model.attachment import RowValue

_BLOCK: Final = 10_000
"""So many rows are turned into plain values at a time."""
_KINDS: Final = "biufSU"
"""Truth values, numbers and texts."""


def table_rows(
    name: str | PathLike[str], path: str, table: int | str, columns: Sequence[str]
) -> Iterator[tuple[RowValue, ...]]:
    """Yield the values of columns, row after row, as :meth:`nightmill.model.ports.TableFormat.rows` says."""
    from astropy.io import fits  # half a second, for who has such files alone

    with fits.open(path, memmap=True) as hdus:
        try:
            hdu = hdus[table]
        except (KeyError, IndexError):
            raise _refused(name, f"it has not got HDU {table!r}") from None
        if not isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
            raise _refused(name, f"HDU {table!r} is not a table")
        there = {each.upper(): each for each in hdu.columns.names}
        for column in columns:
            if column.upper() not in there:
                near = guess(column, list(hdu.columns.names)) or f" (there is {', '.join(hdu.columns.names) or 'none'})"
                raise _refused(name, f"the table in HDU {table!r} has not got the column {column!r}{near}")
        values = [hdu.data[there[column.upper()]] for column in columns]
        for column, each in zip(columns, values, strict=True):
            if each.dtype.kind not in _KINDS or each.ndim > 1:
                raise _refused(name, f"column {column!r} of HDU {table!r} has more than one plain value a row")
        for start in range(0, len(hdu.data), _BLOCK):
            yield from zip(*(_plain(each[start : start + _BLOCK]) for each in values), strict=True)


def _plain(values: Any) -> list[RowValue]:
    """Return values as Python has them; a text without the blanks at its end, and what is not a number as nothing."""
    if values.dtype.kind == "S":
        return [value.decode(errors="replace").rstrip() for value in values.tolist()]
    if values.dtype.kind == "U":
        return [str(value).rstrip() for value in values]
    if values.dtype.kind == "f":
        return [value if value - value == 0 else None for value in values.tolist()]
    plain: list[RowValue] = values.tolist()
    return plain


def _refused(name: str | PathLike[str], why: str) -> BadFile:
    return BadFile(f"{name}: {why}", reason="no_rows", remedy="see 'membership' of its file type")
