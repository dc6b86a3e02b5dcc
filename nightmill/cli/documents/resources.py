"""What ``nightmill ops`` prints."""

from __future__ import annotations

from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class Need(Document):
    """How much of something a stage, or a step of it, asks for, and what its jobs took."""

    pipeline: str
    """Name of the pipeline."""
    stage: str
    """Name of the stage."""
    step: str | None
    """The step; null for the stage as a whole, with the most that any step of a job took."""
    resource: str
    """The key of the pipeline that asks for it; ``read_bytes`` and ``written_bytes`` are told and not asked for."""
    asked: float | None
    """By the stage as it was planned last; null where it does not say."""
    jobs: int
    """How many ended well and tell what they took."""
    median: float | None
    """What half of them took at most; null without jobs, as the next three."""
    p95: float | None
    """What 95 % of them took at most."""
    p99: float | None
    """What 99 % of them took at most."""
    most: float | None
    """What all of them took at most."""
    cut: int
    """How many further jobs never ended otherwise than for lack of it."""
    proposed: int | None
    """What would be better asked for; null where nothing is proposed."""
    short_for: int | None
    """For how many jobs that would have been too little; null where nothing is proposed."""
    why: str
    """Why nothing is proposed; empty where something is, or there is nothing to be asked for."""
