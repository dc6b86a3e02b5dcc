"""What a query answers, and how a refusal reads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from nightmill.errors import RequestRefused

TEMPORARY_BYTES: Final = 10 * 2**30
"""What a request may put on disk meanwhile: temporary tables (SQLite) and what a sort has no room for in memory."""


@dataclass(frozen=True)
class Answer:
    """Columns of the last statement, and its rows; no columns where it has none."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


@dataclass(frozen=True)
class Limit:
    """How long a request may take, from when this is made."""

    seconds: float
    _began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self._began)

    def refused(self) -> RequestRefused:
        """Make the error for a request that took longer."""
        return RequestRefused(
            f"the SQL took longer than {self.seconds:g} seconds, the reading of its rows included, and was ended",
            remedy="narrow it, or give it more time with --seconds",
        )


def refused(said: str, *, forbidden: bool) -> RequestRefused:
    """Make the error for a statement that the database refused.

    Parameters
    ----------
    said
        The database's own words.
    forbidden
        Whether it may not be done, rather than cannot be understood.
    """
    if forbidden:
        return RequestRefused(
            f"the database refused: {said.strip()}",
            remedy="ad-hoc SQL reads every table and may make temporary ones; it changes nothing else",
        )
    return RequestRefused(f"the database cannot carry out the SQL: {said.strip()}")
