"""How fast stages go, from what was seen of them; it holds the last minutes and no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable
from datetime import datetime, timedelta
from typing import Final

WINDOW_SECONDS: Final = 600.0
"""A rate is that of so long a time at most."""
APART_SECONDS: Final = 5.0
"""What was seen sooner after the last is not kept."""


class Pace:
    """How many jobs of each stage had ended at which times."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, deque[tuple[float, int]]] = {}

    def note(self, stage: Hashable, ended: int, at_seconds: float) -> None:
        """Take note of how many jobs of a stage have ended."""
        seen = self._seen.setdefault(stage, deque())
        if seen and ended < seen[-1][1]:
            seen.clear()  # a rerun
        if not seen or at_seconds - seen[-1][0] >= APART_SECONDS:
            seen.append((at_seconds, ended))
        while at_seconds - seen[0][0] > WINDOW_SECONDS and len(seen) > 1:
            seen.popleft()

    def keep(self, stages: Collection[Hashable]) -> None:
        """Forget all other stages."""
        self._seen = {stage: seen for stage, seen in self._seen.items() if stage in stages}

    def per_hour(self, stage: Hashable) -> float | None:
        """Return how many jobs of a stage ended in an hour, lately; None where it was not seen for long enough."""
        seen = self._seen.get(stage)
        if not seen or seen[-1][0] == seen[0][0]:
            return None
        (begin, before), (end, after) = seen[0], seen[-1]
        return 3600 * (after - before) / (end - begin)

    def ends_at(self, stage: Hashable, left: int, now: datetime) -> datetime | None:
        """Return when the jobs that are left of a stage would have ended, at this rate; None where nobody can tell."""
        rate = self.per_hour(stage)
        try:
            return now + timedelta(hours=left / rate) if rate and left else None
        except OverflowError:
            return None
