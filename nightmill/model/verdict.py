"""What follows from how an attempt ended: the name of its error, and what becomes of its job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is recorded with the end of an attempt that did not publish."""

    error_id: int | None = None
    """The rule that names its error, on record."""
    held_why: str = ""
    """Why its job is held for review; empty where it is not."""
    ready_at: datetime | None = None
    """When its job may be tried again, UTC, where that is not at once."""
    memory_bytes: int | None = None
    """What the next attempt asks for, where that is another amount."""
    note: str = ""
    """What is added to its evidence."""


NOTHING = Verdict()
"""Nothing follows but what its fate says."""
