"""What verbs print of the acts of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class Act(Document):
    """What an operator did."""

    at: datetime
    """When."""
    who: str
    """The operator."""
    verb: str
    """The command, without what it was done to."""
    subject: str
    """What it was done to: a campaign, a set, files, a store, a host or the site."""
    why: str
    """In the operator's words; empty where none were given."""
    command: Sequence[str] | None
    """The words that do it again; null where a program did it, or a release that did not keep them."""
    detail: Mapping[str, Any]
    """What else is on record of it; its keys depend on the verb."""


@dataclass(frozen=True, kw_only=True)
class Interventions(Document):
    """How often people had to touch a campaign, or all of a site."""

    campaign: str | None
    """Name of the campaign; null for the sum."""
    interventions: int
    """Acts on it after its first submit."""
    jobs: int
    """Its jobs that have a result."""
    per_1000_jobs: float | None
    """Interventions per 1,000 jobs; null where no job has a result."""
