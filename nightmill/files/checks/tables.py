"""Tables of any format, as checks read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Final

from pydantic import Field

from nightmill.errors import BadFile
from nightmill.files.formats import open_format
from nightmill.model.attachment import RowValue
from nightmill.model.base import Frozen
from nightmill.model.content import Candidate
from nightmill.model.ports import TableFormat

MAX_ROWS: Final = 100_000_000


Names = Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1)]
"""One column, or several."""


def listed(names: Names) -> tuple[str, ...]:
    """Return the columns of one or several."""
    return (names,) if isinstance(names, str) else names


class OfTable(Frozen):
    """What every check of a table wants to know."""

    table: int | str = 1
    """Number or name of the table in its file, as ``table`` of a membership says it."""


def rows_in(
    name: str, path: str, format: str, table: int | str, columns: Sequence[str]
) -> Iterator[tuple[RowValue, ...]]:
    """Yield the values of columns of a table, row after row; without a column, an empty row for each.

    Raises
    ------
    BadFile
        Where there is no such table or column, or it cannot be read (``no_rows``).
    """
    opened = open_format(format)
    assert isinstance(opened, TableFormat), f"files of format {format} hold no tables"
    try:
        rows = opened.rows(name, path, table, columns)
        yield from islice(rows, MAX_ROWS)
        if next(rows, None) is not None:  # a few bytes can promise more than anybody comes to the end of
            raise BadFile(f"{name} has more than {MAX_ROWS:,} rows, the most that are read", reason="over_limit")
    except OSError as error:
        raise BadFile(f"{name}: the rows of table {table!r} cannot be read: {error}", reason="unreadable") from error
    except BadFile as error:
        if error.reason != "no_rows":
            raise
        raise BadFile(error.message, reason="no_rows", remedy="see the checks of its file type") from error


def rows_of(file: Candidate, table: int | str, columns: Sequence[str]) -> Iterator[tuple[RowValue, ...]]:
    """Yield the values of columns of a table of a candidate; see :func:`rows_in`."""
    return rows_in(file.name, file.path, file.format, table, columns)
