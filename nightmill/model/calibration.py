"""Files in the role of calibrations, and how far they can be trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal

from nightmill.model.base import Frozen


class Maturity(StrEnum):
    """How far a calibration is trusted."""

    DRAFT = "draft"
    CERTIFIED = "certified"
    WITHDRAWN = "withdrawn"


class Calibration(Frozen):
    """Makes a file a calibration: an output when it is published, a file that is brought when it is taken in."""

    set: str
    """Name of the set of calibrations."""
    valid_days_before: float = 0.0
    """The validity range begins so many days before the earliest input began, or the file that is brought."""
    valid_days_after: float = 0.0
    """The validity range ends so many days after the latest input ended, or the file that is brought."""
    maturity: Literal["draft", "certified"] = "draft"
    """Only certified ones are looked up."""

    def validity(self, begins_at: datetime, ends_at: datetime) -> tuple[datetime, datetime]:
        """Return the validity range of a file, from the times of what it is of; none is beyond what a time can be."""
        return _moved(begins_at, -self.valid_days_before), _moved(ends_at, self.valid_days_after)


def _moved(time: datetime, days: float) -> datetime:
    try:
        return time + timedelta(days=days)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if days > 0 else datetime.min.replace(tzinfo=UTC)
