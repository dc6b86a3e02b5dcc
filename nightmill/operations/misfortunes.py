"""Jobs that fail one after another for what is not their fault: the slice waits, or halts, before all others do."""

from __future__ import annotations

import time
from typing import Final

from nightmill.model.fate import Fate
from nightmill.model.pipeline import Stage
from nightmill.model.report import JobReport
from nightmill.model.retries import retry_after

OF_THE_PLACE: Final = (Fate.NO_SPACE, Fate.STORE_ERROR)
"""Fates for which a store or the scratch is to blame, and not the job."""
LEAST_FAILURES: Final = 3
"""So many jobs in a row with such a fate end a slice, or as many as run at a time."""


class Misfortunes:
    """Counts the jobs of a slice that ended in a row with such a fate; its caller lets one thread at a time call it.

    Parameters
    ----------
    stage
        Says whether and how long to wait after such a fate.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._failures = self._pauses = 0
        self._paused_until = 0.0

    def __bool__(self) -> bool:
        """Whether the last job had one: a look at the next is due before many run into the same."""
        return bool(self._failures or self._pauses)

    @property
    def seconds_left(self) -> float:
        """How long no job shall begin; none where that is not above zero."""
        return self._paused_until - time.monotonic()

    def heed(self, report: JobReport, threads: int) -> str:
        """Take note of how a job ended; return why no other may begin, or nothing where others may, now or later."""
        self._failures = self._failures + 1 if report.fate in OF_THE_PLACE else 0
        if report.fate not in OF_THE_PLACE:
            self._pauses = 0
        if self._failures < max(LEAST_FAILURES, threads) or not report.fate:
            return ""
        _key, retry = retry_after(self._stage.retries, report.fate) or ("", None)
        if retry is not None and retry.wait_seconds and self._pauses < retry.tries:
            self._pauses, self._failures = self._pauses + 1, 0
            self._paused_until = time.monotonic() + retry.wait_seconds
            return ""
        first = report.evidence.partition("\n")[0]
        return f"{self._failures} jobs in a row ended with {report.fate} on host {report.host}: {first}"
