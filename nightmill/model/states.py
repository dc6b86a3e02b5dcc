"""How far a job is, and an attempt."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a job stands in its campaign."""

    PLANNED = "planned"
    """Its plan is sealed; nothing was issued."""
    HELD = "held"
    """Waits for a person, or for something that the plan names."""
    READY = "ready"
    """May be issued again: its last attempt was ended before its time, or somebody asked for another."""
    ACTIVE = "active"
    """An attempt was issued and has not ended."""
    DONE = "done"
    """One attempt is its result."""
    FAILED = "failed"
    """Its last attempt did not publish."""
    CANCELLED = "cancelled"
    """A person ended it."""


class Hold(StrEnum):
    """What holds a job that is :attr:`~JobState.HELD`, and so how it goes on."""

    EXCLUSION = "exclusion"
    """It reads what was excluded since it was planned: a rerun looks again."""
    REVIEW = "review"
    """A rule of the site says that a person shall look at its failure, and release it."""
    OPERATOR = "operator"
    """A person holds it, and releases it."""
    BREAKPOINT = "breakpoint"
    """The campaign waits there for a sign-off."""
    SHIPPING = "shipping"
    """It needs what could not be shipped from another site: a rerun tries again."""


LOOKED_AT_AGAIN: Final = (Hold.EXCLUSION, Hold.SHIPPING)
"""A rerun makes such jobs ready: what held them holds them again where it is still so."""


class Course(StrEnum):
    """What its operators want of a campaign."""

    GOES_ON = "goes_on"
    """It is carried out."""
    PAUSED = "paused"
    """No further job begins; what runs goes on to its end."""
    STOPPED = "stopped"
    """It is paused, and what ran was ended."""
    CANCELLED = "cancelled"
    """Somebody ended it; a rerun takes it up again."""


class AttemptState(StrEnum):
    """How far an attempt is: the last entry of its journal, or its issue where there is none."""

    ISSUED = "issued"
    STAGING_IN = "staging_in"
    RUNNING = "running"
    CHECKING = "checking"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether nothing more can happen to the attempt."""
        return self in _ENDED


_ENDED = frozenset({AttemptState.PUBLISHED, AttemptState.FAILED, AttemptState.CANCELLED, AttemptState.LOST})


class ExecutionState(StrEnum):
    """How a run of a step stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    """Its process died and told no end."""


class ReplicaState(StrEnum):
    """How a copy of a file stands."""

    PRESENT = "present"
    MISSING = "missing"
    CORRUPT = "corrupt"


class TransferState(StrEnum):
    """How a transfer between sites ended."""

    DONE = "done"
    FAILED = "failed"


class Purpose(StrEnum):
    """What a file came from another site for."""

    SHIPPED = "shipped"
    """A campaign of this site needed it."""
    HOME = "home"
    """A campaign of the other site made it, and this site is the home of that."""
