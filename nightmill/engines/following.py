"""Following the journal of a worker somewhere else, as it grows."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from nightmill.execution.concluding import journal_of
from nightmill.execution.dispatches import Dispatched
from nightmill.model.journal import ENTRY, Done, Entry, SoftwareSeen
from nightmill.model.order import AttemptKey
from nightmill.model.report import JobReport, fold

CLOCK_SECONDS: Final = 5.0
"""Clocks that differ by more are told of."""


def clock_told(host: str, ahead_seconds: float) -> str:
    """Say how the clock of a host differs from that of this one."""
    how = "ahead of" if ahead_seconds > 0 else "behind"
    return f"the clock of host {host} is {abs(ahead_seconds):.0f} s {how} that of this host"


class Clocks:
    """Compares the clocks of workers with that of this host."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._told: set[str] = set()

    def news(self, dispatched: Dispatched) -> str:
        """Say once of each host how its clock differs; empty where it does not, or that was said."""
        if dispatched.name in self._seen:
            return ""
        self._seen.add(dispatched.name)
        taken, ahead = dispatched.taken, dispatched.clock_seconds
        if taken is None or ahead is None or abs(ahead) < CLOCK_SECONDS or taken.owner.host in self._told:
            return ""
        self._told.add(taken.owner.host)
        return clock_told(taken.owner.host, ahead)


class Followed:
    """The journal of a dispatch's worker; close it when done.

    It stays open, so that it is read to its end where somebody sets it aside meanwhile. A line that is damaged says
    nothing here: whoever drains the spool tells of it.
    """

    def __init__(self, dispatched: Dispatched) -> None:
        self._dispatched = dispatched
        self._descriptor: int | None = None
        self._at = 0
        self._begun: defaultdict[AttemptKey, list[Entry]] = defaultdict(list)

    def news(self) -> list[Entry]:
        """Return the entries that were written since the last call, as far as their lines are whole."""
        if self._descriptor is None:
            path = journal_of(self._dispatched)
            if path is None or path.suffix == ".gz":
                return []
            self._descriptor = os.open(path, os.O_RDONLY)
            self._at = len(_first_line(path))
        fresh = os.pread(self._descriptor, os.fstat(self._descriptor).st_size - self._at, self._at)
        whole, end, _torn = fresh.rpartition(b"\n")
        self._at += len(whole) + len(end)
        return list(_entries(whole)) if end else []

    def reports(self, entries: list[Entry]) -> Iterator[JobReport]:
        """Yield the reports of attempts whose ends are among some news."""
        for entry in entries:
            if isinstance(entry, SoftwareSeen):
                continue
            self._begun[entry.attempt].append(entry)
            if isinstance(entry, Done) and (told := fold(self._begun.pop(entry.attempt))):
                yield told[entry.attempt]

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()


def _entries(lines: bytes) -> Iterator[Entry]:
    for line in lines.split(b"\n"):
        try:
            yield ENTRY.validate_json(line)
        except ValidationError:
            continue
