"""What ``nightmill bring-home`` and ``nightmill ops transfers`` print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class BroughtHome(Document):
    """What came home of one campaign."""

    campaign: str
    """Its name."""
    site: str
    """The site that made it."""
    files: int
    """How many files came, or would."""
    size_bytes: int
    """Their size."""
    failed: Mapping[str, str]
    """Names of files that did not come, with why."""


@dataclass(frozen=True, kw_only=True)
class Route(Document):
    """What came on one way between two sites, for one purpose of one campaign."""

    campaign: str
    """Its name."""
    purpose: str
    """``shipped``, which it needed, or ``home``, which it made."""
    source: str
    """Where it came from, as SITE:STORE."""
    target: str
    """Where it went to, as SITE:STORE."""
    files: int
    """How many files."""
    size_bytes: int
    """Their size."""
    wall_seconds: float
    """What their transfers took, one after another; several run at a time."""
    bytes_per_second: float | None
    """How fast one transfer was; null where nothing came."""
    failed: int
    """How many further transfers failed, whatever became of their files later."""
