"""How many transfers run at a time between a host and a store, where that is limited.

What the site's file says of a store holds until an operator says otherwise. The operator's word stands in the database,
and in a file of the spool, where a worker hears of it that has no database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from nightmill.execution.slots import Slots
from nightmill.model.base import Frozen

PLACES: Final = "transfers"
"""Folder of the spool for what the processes of each host share the transfers with each store by."""
LOOK_SECONDS: Final = 0.5
"""How often a process that transfers looks at what operators say."""


class SaidLimits(Frozen):
    """What operators say of stores, in the place of what the site's file says."""

    transfers: Mapping[str, Annotated[int, Field(ge=0)]] = {}
    """How many run at a time from each host, by the names of stores; 0 for no limit."""


def limits_file(spool: Path) -> Path:
    """Return where the spool tells what operators say."""
    return spool / "memory" / "transfers.json"


def said_limits(spool: Path) -> SaidLimits:
    """Return what operators say, as the spool tells it.

    Raises
    ------
    OSError
        Where the file is there, and cannot be read.
    ValueError
        Where it is damaged.
    """
    try:
        return SaidLimits.model_validate_json(limits_file(spool).read_bytes())
    except FileNotFoundError:
        return SaidLimits()


@dataclass
class Transfers:
    """The transfers of the processes of one host with each store; safe for use by several threads.

    Parameters
    ----------
    spool
        The site's.
    host
        Name of the host.
    written
        What the site's file says, by the names of stores: how many at a time; 0, or nothing, for no limit.
    """

    spool: Path
    host: str
    written: Mapping[str, int] = field(default_factory=dict)
    _said: Mapping[str, int] = field(default_factory=dict)
    _look_at: float = 0.0

    def most(self, store: str) -> int:
        """Return how many transfers with a store may run at a time; 0 for no limit.

        Where the spool's file cannot be read, what it told before holds: a drain writes it anew.
        """
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            with suppress(OSError, ValueError):
                self._said = said_limits(self.spool).transfers
        return self._said.get(store, self.written.get(store, 0))

    def take(self, store: str, *, stopping: Callable[[], bool] = lambda: False) -> ExitStack | None:
        """Wait until one more transfer with a store may run, and take a place for it; without a limit, at once.

        A limit that changes is heard of while waiting. Nobody may have a place already: two could wait for each other.

        Parameters
        ----------
        stopping
            Asked at least 20 times a second, while waiting, whether to give up.

        Returns
        -------
        ExitStack or None
            Gives the place back when it is closed, or left as a context; None where it was given up.

        Raises
        ------
        nightmill.execution.journal.SpoolAway
            Where the places cannot be locked.
        """
        place: ExitStack | None = None
        while place is None and (most := self.most(store)):
            place = self._take(store, most, stopping)
            if place is None and stopping():
                return None
        return place or ExitStack()

    def _take(self, store: str, most: int, stopping: Callable[[], bool]) -> ExitStack | None:
        folder = self.spool / PLACES / self.host / store
        places = Slots(folder, most, f"the transfers with store {store!r}", changes=True)
        return places.take(1, stopping=lambda: stopping() or self.most(store) != most)
