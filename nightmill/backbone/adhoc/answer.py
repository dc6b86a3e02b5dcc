"""What a query answers, and how a refusal reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nightmill.errors import RequestRefused


@dataclass(frozen=True)
class Answer:
    """Columns and rows of the last statement that had any; no columns where none had."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


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
