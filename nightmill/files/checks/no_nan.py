"""The check of values that are missing, or not numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from nightmill.errors import BadFile
from nightmill.files.checks.limits import percent
from nightmill.files.checks.tables import Names, OfTable, listed, rows_of
from nightmill.model.content import Candidate, StepInput


class Filled(OfTable):
    """Options of the check."""

    columns: Names
    """Those whose values are looked at."""
    max_fraction: float = Field(default=0.0, ge=0, le=1)
    """The greatest share of the rows that may have none."""


class NoNan:
    """``no_nan``: columns of a table have a value in each row; NaN, an infinite number and nothing are not values."""

    Options: Final = Filled
    formats: Final = ()
    compares: Final = False
    tables: Final = True

    def __init__(self, options: Filled) -> None:
        self.options = options

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file with too many rows that have none (``no_value``)."""
        columns, most = listed(self.options.columns), self.options.max_fraction
        lacking, first, rows = [0] * len(columns), [0] * len(columns), 0
        for rows, row in enumerate(rows_of(file, self.options.table, columns), start=1):
            if None in row:
                for place, value in enumerate(row):
                    if value is None:
                        lacking[place] += 1
                        first[place] = first[place] or rows
        wrong = [
            f"{name!r} in {count:,} (first in row {row:,})"
            for name, count, row in zip(columns, lacking, first, strict=True)
            if count > most * rows
        ]
        if wrong:
            raise BadFile(
                f"{file.name}: of the {rows:,} rows of table {self.options.table!r}, some lack a finite value: column"
                f" {', '.join(wrong)}; at most {percent(most)} may lack one",
                reason="no_value",
                remedy="look at the file, or raise max_fraction of check 'no_nan' in its type",
            )
