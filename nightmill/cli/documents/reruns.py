"""What ``nightmill rerun --dry-run`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class OtherInput(Document):
    """An input of a job that would be others now."""

    role: str
    """The input."""
    before: str
    """Names of its files as they were sealed, and why these."""
    after: str
    """The same as they would be chosen now."""


@dataclass(frozen=True, kw_only=True)
class JobAgain(Document):
    """A job that runs again."""

    stage: str
    """Name of the stage."""
    unit: str
    """Name of the unit."""
    state: str
    """How it stands now."""
    attempts: int
    """How many attempts were issued."""
    held_why: str
    """Why an exclusion holds it; empty where none does."""
    inputs: Sequence[OtherInput]
    """Its inputs that are others then."""
    begins_with: str
    """The step that it begins with; empty for the first."""
    takes: Sequence[str]
    """Names of the files that it takes from an earlier attempt."""


@dataclass(frozen=True, kw_only=True)
class ChangedValue(Document):
    """A value that is another then."""

    key: str
    """As ``parameters.sigma``, or ``stages.measure.resources.memory_bytes``."""
    before: Any
    """What it was; null where there was none."""
    after: Any
    """What it is then; null where there is none."""
    origin: str
    """The configuration layer that sets it."""
    jobs: int
    """How many of the jobs it is about."""


@dataclass(frozen=True, kw_only=True)
class ForeseenRerun(Document):
    """What a rerun would do."""

    campaign: str
    """Name of the campaign."""
    jobs: Sequence[JobAgain]
    """Exactly the jobs that would run again."""
    counts: Mapping[str, Mapping[str, int]]
    """Stages to how many of these jobs are in each state now."""
    values: Sequence[ChangedValue]
    """What would be otherwise for them."""
    downstream: Sequence[str]
    """Done jobs that run again after them with what they make, as CAMPAIGN/STAGE/UNIT."""
    stale: Sequence[str]
    """Jobs that are done and become stale then, as CAMPAIGN/STAGE/UNIT."""
    waits: Sequence[str]
    """Why stages of these jobs wait for others."""
    gone: Sequence[str]
    """Jobs that would not be planned any more and do not run again, with why."""
    go_on: int
    """How many other jobs were not issued yet, or are under way: they run in any case."""
    held: int
    """How many jobs wait for ``nightmill release``."""
    passed_over: int
    """How many jobs failed and do not run again."""
