"""What verbs print of units that wait, or are not jobs at all."""

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


@dataclass(frozen=True, kw_only=True)
class HeldJobs(Document):
    """Jobs of a campaign that one thing holds."""

    by: str
    """What: ``exclusion``, ``review``, ``operator`` or ``breakpoint``."""
    why: str
    """Why, in words."""
    jobs: int
    """How many jobs."""


@dataclass(frozen=True, kw_only=True)
class AcceptedJobs(Document):
    """Jobs of a campaign that have a result although a step of it exited with an error, which the site accepts."""

    error: str
    """Name of the error."""
    explanation: str
    """What it means."""
    link: str
    """Where the site says more of it."""
    jobs: int
    """How many jobs."""
