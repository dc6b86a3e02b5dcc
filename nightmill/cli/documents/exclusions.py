"""What ``nightmill exclude`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class Exclusion(Document):
    """Files that must not be inputs, by one rule."""

    number: int
    """By which it is lifted; 0 where it is not on record."""
    campaign: str
    """The only campaign that it is about; empty for every one."""
    rule: str
    """What was typed for it."""
    expression: str
    """The same, as an expression over files."""
    types: Sequence[str]
    """The only file types that it is about; none for every one."""
    part: str
    """The part of each file that is excluded; empty for the whole file."""
    up_to: str
    """The stage after which it holds; empty for every stage."""
    who: str
    """Who excluded them."""
    why: str
    """Why, in words."""
    ticket: str
    """Where more is said of it."""
    at: datetime
    """When."""
    expires_at: datetime | None
    """When it ends by itself."""
    lifted_at: datetime | None
    """When it was lifted."""
    lifted_by: str
    """Who lifted it."""
    lifted_why: str
    """Why, in words."""


@dataclass(frozen=True, kw_only=True)
class ExcludedJob(Document):
    """A job that is not done and reads what is excluded."""

    job: str
    """As CAMPAIGN/STAGE/UNIT."""
    state: str
    """How it stands."""


@dataclass(frozen=True, kw_only=True)
class StageDifference(Document):
    """What would differ in a stage of a plan."""

    stage: str
    """Its name."""
    before: int
    """How many units it has as things are."""
    after: int
    """How many it would have."""
    without: Sequence[str]
    """The units that it would not have; the first thousand."""
    changed: Sequence[str]
    """The units that would read other files, or other parts of them; the first thousand."""


@dataclass(frozen=True, kw_only=True)
class Effect(Document):
    """What an exclusion is about, as things are now."""

    exclusion: Exclusion
    """The exclusion."""
    files: Mapping[str, int]
    """How many files there are that it is about, by their type."""
    jobs: Sequence[ExcludedJob]
    """The jobs that are not done and read them."""
    problems: Sequence[str]
    """Where a plan was asked for: why it could not be carried out any more."""
    stages: Sequence[StageDifference]
    """Where a plan was asked for: what would differ in it; none for stages that stay as they are."""
