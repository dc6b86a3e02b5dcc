"""What verbs print that steer a campaign while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class Limits(Document):
    """What a campaign may use."""

    jobs: int
    """How many of its jobs run at a time, at most; 0 for no limit."""
    use_hosts: Sequence[str]
    """Patterns of the hosts that it runs on; none for any."""
    avoid_hosts: Sequence[str]
    """Patterns of the hosts that it never runs on."""
    who: str
    """Who said so; empty where it was submitted with that."""
    why: str
    """Why, in words."""


@dataclass(frozen=True, kw_only=True)
class Limited(Document):
    """A campaign that somebody limited."""

    campaign: str
    """Name of the campaign."""
    limits: Limits
    """What it may use now."""
    changed: bool
    """Whether that was otherwise before."""
    unknown_hosts: Sequence[str]
    """Patterns that match no host that ever carried out anything."""


@dataclass(frozen=True, kw_only=True)
class StoreLimit(Document):
    """How many transfers run at a time with a store, from each host."""

    store: str
    """Name of the store, or working area."""
    transfers: int
    """At most so many; 0 for no limit."""
    who: str
    """Who said so; empty where the site's file does."""
    why: str
    """Why, in words."""


@dataclass(frozen=True, kw_only=True)
class StoreLimited(Document):
    """A store that somebody limited."""

    limit: StoreLimit
    """What holds for it now."""
    changed: bool
    """Whether that was otherwise before."""


@dataclass(frozen=True, kw_only=True)
class Steering(Document):
    """What operators want of a campaign."""

    course: str
    """``goes_on``, ``paused``, ``stopped`` (what ran was ended) or ``cancelled``."""
    who: str
    """Who set it on that; empty where nobody did since it was submitted."""
    why: str
    """Why, in words."""
    priority: int
    """How urgent it is."""
    limits: Limits
    """What it may use."""


@dataclass(frozen=True, kw_only=True)
class Steered(Document):
    """A campaign that somebody wanted to steer."""

    campaign: str
    """Name of the campaign."""
    steering: Steering
    """What is wanted of it now."""
    changed: bool
    """Whether it was otherwise before."""
    jobs: int
    """How many of its jobs are cancelled."""
    active: int
    """How many attempts have not ended, as far as anybody has told."""
    unreached: Sequence[str]
    """What could not be reached; the word holds all the same."""


@dataclass(frozen=True, kw_only=True)
class SignedOff(Document):
    """Breakpoints of a campaign that somebody signed off, or rejected."""

    campaign: str
    """Name of the campaign."""
    breakpoints: Sequence[str]
    """Names of the breakpoints."""
    accepted: bool
    """Whether it goes on; else it is cancelled."""
    jobs: int
    """How many jobs were released, or cancelled."""
    unreached: Sequence[str]
    """What could not be reached."""


@dataclass(frozen=True, kw_only=True)
class Held(Document):
    """Jobs that were held, or released."""

    campaign: str
    """Name of the campaign."""
    jobs: int
    """How many jobs."""
    others: Mapping[str, int]
    """States to how many jobs were meant that stay as they are."""
    unreached: str
    """What could not be reached; empty for nothing."""


@dataclass(frozen=True, kw_only=True)
class KeyDifference(Document):
    """How far a numeric key of the metadata of files is from that of their counterparts."""

    type: str
    """Type of the files."""
    key: str
    """The key."""
    files: int
    """How many files have it, as their counterparts do."""
    median: float
    """The difference in the middle of them."""
    largest: float
    """The largest difference."""
    file: str
    """Name of the file where it is largest."""


@dataclass(frozen=True, kw_only=True)
class SampleComparison(Document):
    """Files beside those that another campaign made of the same units."""

    against: str
    """Name of that campaign."""
    same: int
    """How many files are the same bytes."""
    differing: int
    """How many are not."""
    missing: int
    """How many have no counterpart."""
    keys: Sequence[KeyDifference]
    """How far their metadata is from that of their counterparts."""


@dataclass(frozen=True, kw_only=True)
class Sample(Document):
    """What a campaign made up to a breakpoint that it has reached."""

    breakpoint: str
    """Name of the breakpoint."""
    waiting: int
    """How many jobs wait at it."""
    done: int
    """How many of the jobs before it are done."""
    failed: int
    """How many of them failed."""
    comparison: SampleComparison | None
    """How it compares; null where nobody said with what."""
    rule: str
    """The expression that would sign it off; empty for none."""
    holds: bool | None
    """Whether that holds; null for none."""
