"""Waiting for a database that is away, so that what takes hours does not end because a database restarts.

While somebody waits, a file in the spool says so: the database cannot.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from nightmill.clock import utc_now
from nightmill.errors import DatabaseAway
from nightmill.execution.owner import is_alive, this_process
from nightmill.model.base import Frozen
from nightmill.model.journal import Owner

Result = TypeVar("Result")

WAITING: Final = "waiting"
"""Folder of the spool for who waits."""
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Each pause is twice the one before, up to this; a server that comes back is not asked by everybody at once."""


class Waiting(Frozen):
    """A process that waits, in a file of its own as long as it does."""

    owner: Owner
    who: str
    """What the process carries out, as ``slice first science #0``."""
    why: str
    since: datetime

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.who} (process {self.owner.pid} on {self.owner.host}) waits"
            f" since {self.since:%Y-%m-%d %H:%M:%S} UTC: {self.why}"
        )


@dataclass(frozen=True)
class Patience:
    """How long somebody waits for a database that is away.

    Parameters
    ----------
    who
        What is carried out, as ``slice first science #0``.
    seconds
        How long at a time; 0 means that it does not wait.
    tell
        Called with a line when waiting begins, and when it ends.
    """

    who: str = ""
    seconds: float = 0.0
    tell: Callable[[str], None] = logging.getLogger("nightmill").warning

    def wait(self, work: Callable[[], Result], spool: Path) -> Result:
        """Return what ``work`` returns, called again and again while it says that the database is away.

        ``work`` must be fit to be called again where nobody knows whether it had been done, and hold no lock: others
        go on meanwhile.

        Raises
        ------
        DatabaseAway
            Where it stayed away for longer.
        """
        try:
            return work()
        except DatabaseAway as error:
            if not self.seconds:
                raise
            waiting = Waiting(owner=this_process(), who=self.who, why=error.message, since=utc_now())
        began = time.monotonic()
        pause = FIRST_PAUSE_SECONDS
        self.tell(f"{waiting}; it is waited for, {self.seconds:g} s at most, and steps that run go on")
        with _shown(waiting, spool):
            while True:
                time.sleep(pause * random.uniform(0.75, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                try:
                    result = work()
                except DatabaseAway:
                    if time.monotonic() - began >= self.seconds:
                        raise
                else:
                    self.tell(f"{self.who}: the database is back after {time.monotonic() - began:.0f} s")
                    return result


NONE: Final = Patience()
"""That of commands: who waits for an answer is told at once."""


def who_waits(spool: Path) -> list[Waiting]:
    """Return the processes that wait, as far as can be told from here, those that wait longest first."""
    found = []
    for file in (spool / WAITING).glob("*.json"):
        with suppress(OSError, ValidationError):  # it has just ended, or just begins
            waiting = Waiting.model_validate_json(file.read_bytes())
            if is_alive(waiting.owner) is not False:
                found.append(waiting)
    return sorted(found, key=lambda waiting: waiting.since)


@contextmanager
def _shown(waiting: Waiting, spool: Path) -> Iterator[None]:
    """Have a file say that somebody waits; one that cannot be written keeps nobody from waiting."""
    file = spool / WAITING / f"{waiting.owner.host}-{waiting.owner.pid}.json"
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(waiting.model_dump_json())
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
