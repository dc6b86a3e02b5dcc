"""The rows of a file that its type wants on record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Final

from nightmill import plugins
from nightmill.errors import BadFile, FileRefused, PluginFault
from nightmill.files import formats
from nightmill.model.attachment import RowValue
from nightmill.model.dimensions import DIMENSIONS, VALUES, KeyType
from nightmill.model.file_type import FileType
from nightmill.model.ports import TableFormat

MAX_ROWS: Final = 10_000_000
MAX_TEXT: Final = 1 << 30
"""Characters of all texts of a file's rows together: a few bytes of a format can stand for many of them."""


def column_kind(column: str, types: Mapping[str, KeyType]) -> KeyType | None:
    """Return the type of a column that is a key: by its file type, or as the dimension that it is."""
    if column in DIMENSIONS:
        return "int" if DIMENSIONS[column] is int else "str"
    return types.get(column)


def rows_of(name: str | PathLike[str], file_type: FileType, path: str) -> Iterator[tuple[RowValue, ...]]:
    """Yield the rows of a file's membership, which its type must have.

    Parameters
    ----------
    name
        What messages call the file.
    path
        Leads to its bytes.

    Raises
    ------
    BadFile
        Where it has not got them, or they are told by a step (``no_rows``), or more than can be kept (``over_limit``).
    PluginFault
        Where its format failed otherwise.
    """
    wanted = file_type.membership
    if wanted is not None and wanted.told:
        raise BadFile(
            f"{name}: the rows of files of type {file_type.name!r} are told by the steps that make them, and nothing"
            " tells those of a file that is brought",
            reason="no_rows",
            remedy="give it a type of its own, whose 'membership' is read from the file",
        )
    format = formats.open_format(file_type.format)
    if wanted is None or not isinstance(format, TableFormat):
        raise ValueError(f"files of type {file_type.name} have no rows")
    kinds = {place: kind for place, column in enumerate(wanted.names) if (kind := column_kind(column, wanted.types))}
    try:
        for number, row in enumerate(_bounded(name, format.rows(name, path, wanted.table, wanted.names))):
            for column, kind in kinds.items():
                if (value := row[column]) is not None and type(value) not in VALUES[kind]:
                    raise BadFile(
                        f"{name}: row {number} of its table has {value!r} in column {wanted.names[column]!r}, which is"
                        f" not of type {kind}",
                        reason="no_rows",
                        remedy="see 'membership' of its file type",
                    )
            yield row
    except FileRefused:
        raise
    except OSError as error:
        raise BadFile(f"{name}: its rows cannot be read: {error}", reason="unreadable") from error
    except (Exception, SystemExit) as error:  # of a plug-in
        raise PluginFault(
            f"format {file_type.format!r} of {plugins.package(formats.GROUP, file_type.format)} failed on the rows of"
            f" {name}: {type(error).__name__}: {error}",
            remedy="tell whoever maintains the format; the file may be good",
        ) from error


def _bounded(name: str | PathLike[str], rows: Iterator[tuple[RowValue, ...]]) -> Iterator[tuple[RowValue, ...]]:
    """Yield rows as long as they can be kept."""
    text = 0
    for number, row in enumerate(rows):
        text += sum([len(value) for value in row if isinstance(value, str)])
        if number == MAX_ROWS or text > MAX_TEXT:
            most = f"{MAX_ROWS:,} rows" if text <= MAX_TEXT else f"{MAX_TEXT:,} characters of text in its rows"
            raise BadFile(f"{name} has more than {most}, the most that are kept", reason="over_limit")
        yield row
