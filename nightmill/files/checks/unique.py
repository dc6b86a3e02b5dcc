"""The check of keys that no two rows may share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nightmill.errors import BadFile
from nightmill.files.checks.tables import Names, OfTable, listed, rows_of
from nightmill.model.attachment import RowValue
from nightmill.model.content import Candidate, StepInput


class Key(OfTable):
    """Options of the check."""

    columns: Names
    """A column, or several that tell rows apart together."""


class Unique:
    """``unique``: no two rows of a table have the same values in a column, or in several together."""

    Options: Final = Key
    formats: Final = ()
    compares: Final = False
    tables: Final = True

    def __init__(self, options: Key) -> None:
        self.options = options

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file with two such rows (``not_unique``)."""
        columns = listed(self.options.columns)
        seen: dict[tuple[RowValue, ...], int] = {}
        for number, row in enumerate(rows_of(file, self.options.table, columns), start=1):
            if (first := seen.setdefault(row, number)) != number:
                told = ", ".join([f"{name}={value}" for name, value in zip(columns, row, strict=True)])
                raise BadFile(
                    f"{file.name}: rows {first:,} and {number:,} of table {self.options.table!r} both have {told}",
                    reason="not_unique",
                    remedy="look at what the step put together: something is in it twice",
                )
