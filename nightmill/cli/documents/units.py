"""What verbs print of units that are not jobs."""

from __future__ import annotations

from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class LeftOutUnit(Document):
    """A unit that a plan leaves out."""

    stage: str
    """Name of the stage."""
    unit: str
    """Name of the unit."""
    role: str
    """The input that lacks files."""
    missing: str
    """What becomes of the unit: ``skip`` or ``hold``."""
    why: str
    """What was looked for and what was there."""
