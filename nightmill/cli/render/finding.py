"""What the doctor saw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is well, and what was seen.

    Of a contradiction also where it is, since when, and what to do, which stand in ``seen`` as well.
    """

    what: str
    well: bool
    seen: str
    where: str = ""
    since: datetime | None = None
    remedy: str = ""
