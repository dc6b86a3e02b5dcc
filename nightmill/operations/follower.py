"""Keeps the rows of running executions up to date while a slice is carried out."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from traceback import format_exception
from typing import Final

from nightmill.clock import utc_now
from nightmill.errors import DatabaseAway
from nightmill.model.journal import Done, Entry, SoftwareSeen, StepBegan
from nightmill.model.order import AttemptKey
from nightmill.model.report import fold
from nightmill.model.software import Stack
from nightmill.operations.site import Site
from provenance.record import record

FOLLOW_SECONDS: Final = 1.0
"""How often the rows of running executions are brought up to date."""


class Follower:
    """Hears the entries of a journal and keeps the rows of running executions up to date.

    Parameters
    ----------
    flush
        Called as often as it does so.
    tell
        Called, by the thread that looks after it, with why it failed.
    """

    def __init__(self, site: Site, flush: Callable[[], None], tell: Callable[[str], None]) -> None:
        self.stacks: dict[str, Stack] = {}
        self._site, self._flush, self._tell_operator = site, flush, tell
        self._entries: defaultdict[AttemptKey, list[Entry]] = defaultdict(list)
        self._news: set[AttemptKey] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread
        self._failure: BaseException | None = None

    @property
    def open_attempts(self) -> frozenset[AttemptKey]:
        """The attempts that the journal tells of, and not the end of."""
        with self._lock:
            return frozenset(self._entries)

    def start(self) -> None:
        """Begin to follow."""
        self._thread = threading.Thread(target=self._run, name="nightmill-follower", daemon=True)
        self._thread.start()

    def tend(self) -> None:
        """Start it again where it has failed, and say so: what it has not told is told then."""
        if not self._thread.is_alive() and not self._stop.is_set():
            self._tell_failure()
            self.start()

    def stop(self) -> None:
        """Cease to follow, and say how it failed where it did."""
        self._stop.set()
        self._thread.join()
        self._tell_failure()

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # noqa: BLE001 - for the slice to tell, whose thread has its logger
            self._failure = error

    def _tell_failure(self) -> None:
        error, self._failure = self._failure, None
        if error is not None:
            cause = "".join(format_exception(error)).strip()
            told = "The rows of running jobs were not kept up to date for a while; the ends of jobs are recorded apart"
            self._tell_operator(f"{told}. The cause:\n{cause}")

    def hear(self, entry: Entry) -> None:
        """Take note of an entry; called by whoever writes the journal."""
        with self._lock:
            match entry:
                case SoftwareSeen():
                    self.stacks |= {entry.sha256: entry.seen}
                case Done():
                    self._entries.pop(entry.attempt, None)
                    self._news.discard(entry.attempt)
                case _:
                    self._entries[entry.attempt].append(entry)
                    if isinstance(entry, StepBegan):
                        self._news.add(entry.attempt)

    def _follow(self) -> None:
        while not self._stop.wait(FOLLOW_SECONDS):
            with suppress(DatabaseAway):  # only how far they are is late
                self._tell()
                self._flush()

    def _tell(self) -> None:
        with self._lock:
            news, self._news = self._news, set()
            entries = [entry for attempt in news for entry in self._entries[attempt]]
        if not entries:
            return
        reports = list(fold(entries).values())
        try:
            self._site.database.write(lambda session: record(session, reports, self.stacks, now=utc_now()))
        except BaseException:
            with self._lock:
                self._news |= news & self._entries.keys()
            raise
