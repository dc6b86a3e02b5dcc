"""The check of what values a column holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field

from nightmill.errors import BadFile
from nightmill.files.checks.limits import Limits
from nightmill.files.checks.tables import OfTable, rows_of
from nightmill.model.content import Candidate, StepInput


class Ranges(OfTable):
    """Options of the check."""

    columns: Mapping[str, Limits] = Field(min_length=1)
    """Columns to what their values may be; what has no value is left alone."""


class Values:
    """``values``: the values of columns of a table lie within limits."""

    Options: Final = Ranges
    formats: Final = ()
    compares: Final = False
    tables: Final = True

    def __init__(self, options: Ranges) -> None:
        self.table = options.table
        self.columns = dict(options.columns)

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file with a value that lies beyond (``out_of_range``)."""
        limits = list(self.columns.items())
        for number, row in enumerate(rows_of(file, self.table, list(self.columns)), start=1):
            for (name, limit), value in zip(limits, row, strict=True):
                if value is not None and (why := limit.wrong_with(value)):
                    raise BadFile(
                        f"{file.name}: column {name!r} of table {self.table!r} has {value} in row {number:,}, {why}",
                        reason="out_of_range",
                        remedy="look at the file, or change check 'values' of its type",
                    )
