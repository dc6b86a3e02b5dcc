"""What ``nightmill errors`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class ErrorRule(Document):
    """A version of the rule by which the site knows an error."""

    name: str
    """Name of the error."""
    version: int
    """Among the rules of that name, from 1."""
    on: bool
    """Whether it names failures."""
    priority: int
    """Of several rules the one with the lowest counts."""
    stage: str
    """A pattern over the stage's name; empty for any."""
    step: str
    """A pattern over the step's name; empty for any."""
    exit: Sequence[int]
    """Exit codes; none for any."""
    fate: Sequence[str]
    """Fates; none for any but ``cancelled``."""
    says: str
    """A regular expression over evidence and log; empty for any."""
    explanation: str
    """What the error means."""
    link: str
    """Where the site says more of it."""
    action: str | None
    """``fail``, ``retry``, ``hold`` or ``accept``; null where the stage's ``retries`` decide."""
    tries: int | None
    """How often a job is tried again, where the action is ``retry``."""
    memory_factor: float | None
    """What its memory is multiplied by then."""
    wait_seconds: float | None
    """How long it waits for that, seconds."""
    who: str
    """Who added it."""
    why: str
    """Why, in words."""
    at: datetime
    """When."""


@dataclass(frozen=True, kw_only=True)
class NamedFailure(Document):
    """A past failure that a rule would have named."""

    attempt: str
    """As CAMPAIGN/STAGE/UNIT/aNN."""
    step: str
    """The step that failed; empty where none did."""
    fate: str
    """Its fate."""
    error: str
    """The error that it is on record as; empty where it has no name."""
    by_others: str
    """The error that the rules that are on would name without this one; empty where they would not."""


@dataclass(frozen=True, kw_only=True)
class Trial(Document):
    """What a rule would have named of past failures, or accepted."""

    name: str
    """Name of the error."""
    action: str | None
    """What the rule does: steps of the failures would have been accepted where that is ``accept``."""
    looked_at: int
    """How many failures were looked at."""
    campaigns: Mapping[str, int]
    """Campaigns to how many of their failures it would have named."""
    named: Sequence[NamedFailure]
    """These failures, the last first."""
