"""What tables of text have in common: their lines, and the values that stand in these."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Final

from nightmill.errors import BadFile
from nightmill.files.formats.compressed import remedy_for
from nightmill.files.formats.tables import no_rows, plain_value
from nightmill.files.reading import StrPath
from nightmill.model.attachment import RowValue

MAX_LINE_BYTES: Final = 1 << 20

_INT: Final = re.compile("-?(?:0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def guessed(text: str) -> RowValue:
    """Return the number that a text is, as programs write one; any other text as it is."""
    if _INT.fullmatch(text) and len(text) < 20:
        return int(text)
    if _FLOAT.fullmatch(text) and not text.isdigit() and isfinite(value := float(text)):
        return value
    return text


def texts_of(path: StrPath, lines: Iterator[bytes]) -> Iterator[str]:
    """Yield lines as texts.

    Raises
    ------
    BadFile
        Where one is not UTF-8 or holds a NUL (``not_of_format``).
    """
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            why = f"it is not UTF-8 (byte {line[error.start]:#04x})"
            raise not_a_table(path, "a table of text", why, remedy_for(line) if number == 1 else "") from error
        if "\0" in text:
            raise not_a_table(path, "a table of text", "it holds a NUL", remedy_for(line))
        yield text


def value_of(path: StrPath, column: str, kind: Callable[[str], RowValue], row: int, text: str) -> RowValue:
    """Return the value of a column that a text stands for; nothing for an empty one.

    Parameters
    ----------
    kind
        Makes the values of the column.
    row
        Its number, from 1.

    Raises
    ------
    BadFile
        Where the text is not of this kind (``no_rows``).
    """
    if not text:
        return None
    try:
        return plain_value(path, column, row, kind(text))
    except (ValueError, KeyError) as error:
        raise no_rows(path, f"column {column!r} has {text[:40]!r} in row {row:,}, which is not of its type") from error


def refuse_table(path: StrPath, table: int | str) -> None:
    """Raise ``no_rows`` for any table but the one that a file of text has."""
    if table != 1:
        raise no_rows(path, f"it has one table, which is 1, and not {table!r}")


def not_a_table(path: StrPath, what: str, why: str, remedy: str = "") -> BadFile:
    """Make the refusal of a file that is not of its format."""
    return BadFile(f"{path} is not {what}: {why}", reason="not_of_format", remedy=remedy)
