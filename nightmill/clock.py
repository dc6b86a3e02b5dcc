"""The time, always with its zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the time; a test's gives what the test wants."""


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
