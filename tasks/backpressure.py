"""Keeps the server's queue of task runs short, because what does not fit it is lost.

The server takes task runs as messages into a queue of 10,000 in its memory, three for each run, and drops what comes
when it is full. A flow that submits task runs faster than the server records them therefore has to wait for it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.logging import get_logger

UNRECORDED_TASK_RUNS = 500
"""For one flow run: six slices at a time stay below the server's limit."""
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.25


@dataclass
class Backpressure:
    """Lets task runs of one flow run begin while few of those before wait to be recorded.

    Parameters
    ----------
    client
        Used under a lock, from any thread.
    flow_run_id
        Whose task runs.
    most
        Task runs that may wait.
    """

    client: SyncPrefectClient
    flow_run_id: UUID
    most: int = UNRECORDED_TASK_RUNS
    _begun: int = 0
    _recorded: int = 0
    _gave_up: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._begun = self._recorded = self._count()

    def enter(self, task_runs: int = 1) -> None:
        """Wait until so many task runs may begin."""
        with self._lock:
            self._begun += task_runs
            self._wait(self.most)

    def drain(self) -> int:
        """Wait until every task run that has ended is recorded; return how many are not, where patience ends."""
        with self._lock:
            self._wait(0)
            return self._begun - self._recorded

    def open(self) -> None:
        """Let everything through from now on, whoever waits included."""
        self._gave_up = True

    def _wait(self, most: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._begun - self._recorded > most and not self._gave_up:
            before, self._recorded = self._recorded, self._count()
            if self._recorded > before:
                deadline = time.monotonic() + PATIENCE_SECONDS
            elif time.monotonic() > deadline:
                get_logger("nightmill").warning(
                    "The Prefect server has recorded %d of %d task runs and no more for %.0f s; jobs go on",
                    self._recorded,
                    self._begun,
                    PATIENCE_SECONDS,
                )
                self._gave_up = True
            else:
                time.sleep(POLL_SECONDS)

    def _count(self) -> int:
        """Ask how many are recorded; where the server is away, as many as before."""
        ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}
        of_run: dict[str, Any] = {"flow_runs": {"id": {"any_": [str(self.flow_run_id)]}}, "task_runs": ended}
        try:
            return int(self.client.request("POST", "/task_runs/count", json=of_run).json())
        except httpx.HTTPError:
            return self._recorded
