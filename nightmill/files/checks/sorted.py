"""The check of the order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from nightmill.errors import BadFile
from nightmill.files.checks.tables import Names, OfTable, listed, rows_of
from nightmill.model.content import Candidate, StepInput


class Order(OfTable):
    """Options of the check."""

    by: Names
    """A column, or several: the second counts where the first is the same."""
    descending: bool = False
    """Whether the greatest comes first."""


class Sorted:
    """``sorted``: the rows of a table stand in the order of a column, or of several."""

    Options: Final = Order
    formats: Final = ()
    compares: Final = False
    tables: Final = True

    def __init__(self, options: Order) -> None:
        self.options = options

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file whose rows are ``not_sorted``, also where one has no value to sort by."""
        by, descending = listed(self.options.by), self.options.descending
        before: tuple[Any, ...] | None = None
        for number, row in enumerate(rows_of(file, self.options.table, by), start=1):
            if None in row:
                why = f"row {number:,} has no {by[row.index(None)]!r}"
            elif before is not None and _differs(row, before):
                why = f"row {number:,} has a {' and '.join(map(repr, by))} of another type than the row before"
            elif before is not None and (before < row if descending else row < before):
                now, then = (", ".join(map(str, each)) for each in (row, before))
                why = f"row {number:,} has {now}, {'more' if descending else 'less'} than {then} of the row before"
            else:
                before = row
                continue
            raise BadFile(
                f"{file.name}: table {self.options.table!r} is not sorted by {', '.join(by)}: {why}",
                reason="not_sorted",
                remedy="let the step sort it",
            )


def _differs(row: Sequence[object], before: Sequence[object]) -> bool:
    return any(isinstance(one, str) != isinstance(other, str) for one, other in zip(row, before, strict=True))
