"""How many short jobs belong together: so many that what their chunk costs beside them is little."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

from nightmill.model.report import JobReport, pace_of

CHUNK_SECONDS: Final = 5.0
"""How long a chunk of short jobs should take: short beside a person's patience."""
MOST_JOBS: Final = 100
"""A chunk has no more for that, but where so many would take too little time."""
LITTLE: Final = 0.05
"""So much of the work may be what a chunk costs beside its jobs."""
_NEWEST: Final = 0.2
"""The weight of the jobs that ended last."""


class Pace:
    """How long the jobs of a slice take, one after another, as they were measured."""

    def __init__(self) -> None:
        self._seconds_a_job = 0.0

    def measure(self, reports: Sequence[JobReport]) -> None:
        """Take note of how long jobs took that were carried out one after another."""
        newest = pace_of(reports)
        self._seconds_a_job += (newest - self._seconds_a_job) * (_NEWEST if self._seconds_a_job else 1.0)

    def jobs_together(self, chunk_costs_seconds: float) -> int:
        """Return how many jobs a chunk should hold; 1 as long as nothing is known of them.

        Parameters
        ----------
        chunk_costs_seconds
            What a chunk costs beside its jobs.
        """
        if not self._seconds_a_job:
            return 1
        enough = ceil(chunk_costs_seconds / LITTLE / self._seconds_a_job)
        return max(1, enough, min(MOST_JOBS, int(CHUNK_SECONDS / self._seconds_a_job)))
