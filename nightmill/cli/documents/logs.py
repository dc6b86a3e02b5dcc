"""What verbs print of logs of jobs."""

from __future__ import annotations

from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class Log(Document):
    """Where the log of an attempt is."""

    attempt: str
    """The attempt, as ``CAMPAIGN/STAGE/UNIT/a01``."""
    state: str
    """How far it is."""
    fate: str | None
    """How it ended, once it has."""
    host: str | None
    """Where it runs or ran; null where it has not begun."""
    step: str | None
    """The step that runs."""
    store: str | None
    """The store that has the log; null while it lies in the attempt's scratch, or cannot be read."""
    place: str | None
    """Path of the log: in that store, or on this host."""
    unseen: str | None
    """Why it cannot be read from here."""


@dataclass(frozen=True, kw_only=True)
class ShippedLines(Document):
    """What became of the log lines that waited for one sink."""

    sink: str
    """Its name."""
    lines: int
    """How many it took."""
    size_bytes: int
    """Their size."""
    refused: int
    """How many it will never take; they were set aside."""
    trouble: str
    """Why it did not take the others; empty where it has all."""
