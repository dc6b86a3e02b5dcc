"""The check of which columns a table has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field

from nightmill.errors import BadFile
from nightmill.files.checks.tables import OfTable, rows_of
from nightmill.model.content import Candidate, StepInput
from nightmill.model.dimensions import VALUES, KeyType


class Wanted(OfTable):
    """Options of the check."""

    columns: tuple[str, ...] | Mapping[str, KeyType] = Field(min_length=1)
    """Their names, whose case does not count; as a mapping, with the types of their values."""


class Columns:
    """``columns``: a table has these columns, whose values are of these types."""

    Options: Final = Wanted
    formats: Final = ()
    compares: Final = False
    tables: Final = True

    def __init__(self, options: Wanted) -> None:
        self.table = options.table
        self.names = tuple(options.columns)
        types = options.columns if isinstance(options.columns, Mapping) else {}
        self.kinds = [(place, name, types[name]) for place, name in enumerate(self.names) if name in types]

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file without a column (``no_rows``), or with a value of another type (``bad_column``)."""
        for number, row in enumerate(rows_of(file, self.table, self.names), start=1):
            if not self.kinds:
                return  # all of them are there, and nothing is asked of their values
            for place, name, kind in self.kinds:
                if (value := row[place]) is not None and type(value) not in VALUES[kind]:
                    raise BadFile(
                        f"{file.name}: column {name!r} has {value!r} in row {number:,}, which is not of type {kind}",
                        reason="bad_column",
                        remedy="look at what wrote the table, or give the column its type in check 'columns'",
                    )
