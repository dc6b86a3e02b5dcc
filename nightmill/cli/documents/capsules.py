"""What verbs print of capsules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class ComparedFile(Document):
    """An output of a run of a capsule, beside the one that is on record."""

    step: str
    """The step that made it."""
    role: str
    """The output's role."""
    name: str
    """Its name."""
    verdict: str
    """``same bytes``, ``same content``, ``differs``, ``missing`` (the run did not make it) or ``added``."""
    differences: Sequence[str]
    """What differs in it, and in what is known of it."""


@dataclass(frozen=True, kw_only=True)
class CapsuleDiff(Document):
    """A run of a capsule, beside what is on record of its attempt."""

    run: int
    """Number of the run."""
    recorded: str
    """The attempt that is on record."""
    equal: bool
    """Whether the result is the same."""
    outputs: Sequence[ComparedFile]
    """Its outputs, and those that are on record."""
    endings: Sequence[str]
    """What ended otherwise."""
    changed: Sequence[str]
    """What the run read otherwise than the attempt."""
