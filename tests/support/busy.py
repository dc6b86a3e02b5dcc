"""A store whose transfers take a while, and are counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightmill.model.store import Store
from stagers.local import LocalStager


class BusyStager(LocalStager):
    """Moves bytes as a local store does, slowly, and knows how many transfers ran at a time."""

    def __init__(self, store: Store, seconds: float = 0.005) -> None:
        super().__init__(store)
        self.seconds, self.now, self.most, self.transfers = seconds, 0, 0, 0
        self._counting = threading.Lock()

    def fetch(self, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet."""
        with self._counted():
            return super().fetch(path, target)

    def upload(self, source: Path, path: str, *, attempt: str, durable: bool = True) -> None:
        """Bring a local file in under a temporary name."""
        with self._counted():
            super().upload(source, path, attempt=attempt, durable=durable)

    def uploaded(self, path: str, *, attempt: str) -> tuple[int, str] | None:
        """Return size in bytes and SHA-256 of an upload that was not revealed, or None."""
        with self._counted():
            return super().uploaded(path, attempt=attempt)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._counting:
            self.now, self.transfers = self.now + 1, self.transfers + 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        try:
            yield
        finally:
            with self._counting:
                self.now -= 1
