"""The catalogue as it was at a time: what was on record then, by the clocks of those who put it there.

Rows of files, roles, withdrawals and campaigns are never changed, and each has the time at which it came: a question
that leaves out what came later is answered as it was then.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, true
from sqlalchemy.orm import InstrumentedAttribute


def on_record(came_at: InstrumentedAttribute[datetime], as_of: datetime | None) -> ColumnElement[bool]:
    """Say of rows that they were there at a time; where none is given, of all: this then adds nothing to a query.

    Parameters
    ----------
    came_at
        The column of the time at which they came.
    """
    return true() if as_of is None else came_at <= as_of
