"""What verbs print of the software that steps ran with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nightmill.cli.documents import Document
from nightmill.cli.documents.capsules import ComparedFile


@dataclass(frozen=True, kw_only=True)
class SoftwareInUse(Document):
    """A stack that steps ran with, whatever their pipelines' folders."""

    software: str
    """Its digest, without the bundle."""
    known: bool | None
    """Whether the site knows it; null where it has not judged it."""
    executions: int
    """How many executions had it."""
    first_at: datetime
    """When the first of them began."""
    last_at: datetime
    """When the last of them began."""
    hosts: Sequence[str]
    """Where."""
    campaigns: Sequence[str]
    """Of which campaigns."""
    odd_hosts: Mapping[str, str]
    """Hosts that ran a step of a campaign with it and never with what most hosts had, to the sections that differ."""


@dataclass(frozen=True, kw_only=True)
class SoftwareChange(Document):
    """In what two stacks differ."""

    section: str
    """The section."""
    name: str
    """What of it."""
    before: str | None
    """What the earlier has; null where it has none."""
    after: str | None
    """What the later has; null where it has none."""


@dataclass(frozen=True, kw_only=True)
class StepSoftware(Document):
    """The software of a step, beside that of another."""

    step: str
    """The step; empty where two stacks are compared."""
    before: str | None
    """Digest of the earlier; null where that job lacks the step."""
    after: str | None
    """Digest of the later; null where that job lacks the step."""
    changes: Sequence[SoftwareChange]
    """In what they differ."""


@dataclass(frozen=True, kw_only=True)
class Compared(Document):
    """Two things beside each other."""

    same: bool
    """Whether nothing differs."""
    before: str
    """What the earlier is, in words."""
    after: str
    """What the later is, in words."""
    software: Sequence[StepSoftware]
    """Their software, step by step."""


@dataclass(frozen=True, kw_only=True)
class Accepted(Document):
    """A stack that was accepted."""

    software: str
    """Its digest, without the bundle."""


@dataclass(frozen=True, kw_only=True)
class Regressed(Document):
    """A reference attempt that was carried out again."""

    reference: str
    """The attempt."""
    host: str
    """Where it was carried out again."""
    passed: bool
    """Whether it came to the same."""
    software: Mapping[str, str]
    """Steps to the digests, without bundles, of what they ran with now."""
    outputs: Sequence[ComparedFile]
    """Its outputs, beside what is on record."""
    endings: Sequence[str]
    """What ended otherwise."""
