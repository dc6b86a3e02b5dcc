"""The check of how many rows a table has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from pydantic import Field, model_validator

from nightmill.errors import BadFile
from nightmill.files.checks.limits import check_ends
from nightmill.files.checks.tables import OfTable, rows_of
from nightmill.model.content import Candidate, StepInput


class Count(OfTable):
    """Options of the check; at least one limit is given."""

    min: int | None = Field(default=None, ge=0)
    """The least number of rows."""
    max: int | None = Field(default=None, ge=0)
    """The greatest number of rows."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("limited by min or max")
        check_ends(self.min, self.max)
        return self


class Rows:
    """``rows``: a table has so many rows, and all of them can be read."""

    Options: Final = Count
    formats: Final = ()
    compares: Final = False
    tables: Final = True

    def __init__(self, options: Count) -> None:
        self.options = options

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file with too few or too many (``other_rows``)."""
        least, most = self.options.min, self.options.max
        count = sum(1 for _ in rows_of(file, self.options.table, ()))
        if least is not None and count < least:
            told = f"at least {least:,}"
        elif most is not None and count > most:
            told = f"at most {most:,}"
        else:
            return
        raise BadFile(
            f"{file.name}: table {self.options.table!r} has {count:,} rows, of {told}",
            reason="other_rows",
            remedy="look at the file, or change check 'rows' of its type",
        )
