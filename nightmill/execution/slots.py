"""The cores of a host, and other things that are few, shared by all processes of a site there.

Each is a slot: a file that is locked for as long as somebody has it. The kernel unlocks those of a process that
ends, in whatever way.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nightmill.execution.journal import SpoolAway

FIRST_PAUSE_SECONDS: Final = 0.001
LONGEST_PAUSE_SECONDS: Final = 0.05
"""Between two looks for free slots: short beside what was waited for already, up to this."""
_WAITS: Final = "waits"
"""With a priority, the name of a file that everybody has a shared lock on who waits with that."""


@dataclass(frozen=True)
class Slots:
    """The slots of one host.

    Parameters
    ----------
    folder
        Of the host's own, on a file system with locks; made where it is missing.
    count
        How many there are.
    what
        What they stand for, for who cannot have any.
    changes
        Whether the count changes: of those that there were more of before, those that are still held count.
    """

    folder: Path
    count: int
    what: str = "the cores of this host"
    changes: bool = False

    def take(
        self,
        wanted: int,
        *,
        stopping: Callable[[], bool] = lambda: False,
        priority: Callable[[], int] = lambda: 0,
    ) -> ExitStack | None:
        """Wait until so many slots are free, and take them.

        Whoever waits for several takes them as they become free, and nobody else takes any meanwhile: so two that want
        many do not wait for each other, and many that want one do not keep one that wants many waiting for ever.

        Parameters
        ----------
        wanted
            At most all.
        stopping
            Asked at least 20 times a second, while waiting, whether to give up.
        priority
            Asked as often: as long as somebody waits whose is higher, nobody else takes any, and who has taken some and
            waits for more gives them back.

        Returns
        -------
        ExitStack or None
            Frees them when it is closed, or left as a context; None where it was given up.

        Raises
        ------
        SpoolAway
            Where the slots cannot be locked.
        """
        with ExitStack() as slots, ExitStack() as spare, ExitStack() as turn, ExitStack() as waits, self._told():
            self.folder.mkdir(parents=True, exist_ok=True)
            left = set(range(self.count))
            has_turn = False
            announced: int | None = None
            pause = FIRST_PAUSE_SECONDS
            while True:
                own = priority()
                if self._waits_above(own):
                    turn.close()
                    slots.close()
                    spare.close()
                    left, has_turn = set(range(self.count)), False
                else:
                    has_turn = has_turn or _locked(self.folder / "turn", turn)
                free = wanted + (self._held_above() if has_turn and self.changes else 0)
                for number in sorted(left) if has_turn else ():
                    mine = self.count - len(left)
                    if mine < free and _locked(self.folder / str(number), slots if mine < wanted else spare):
                        left.remove(number)
                if self.count - len(left) >= free:
                    return slots.pop_all()
                if stopping():
                    return None
                if announced != own:
                    waits.close()
                    _share(self.folder / f"{_WAITS}{own}", waits)
                    announced = own
                time.sleep(pause)
                pause = min(pause * 1.25, LONGEST_PAUSE_SECONDS)

    def _waits_above(self, priority: int) -> bool:
        """Whether somebody waits whose priority is higher."""
        told = [path for path in self.folder.iterdir() if path.name.startswith(_WAITS)]
        above = [path for path in told if int(path.name.removeprefix(_WAITS)) > priority]
        with ExitStack() as free:
            return not all(_locked(path, free) for path in above)

    def _held_above(self) -> int:
        """Return how many slots are held of those that there were more of before."""
        told = [path for path in self.folder.iterdir() if path.name.isdecimal()]
        with ExitStack() as free:
            return sum(int(path.name) >= self.count and not _locked(path, free) for path in told)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpoolAway(
                f"{self.what} cannot be shared out: {error.filename or self.folder}: {error.strerror}",
                remedy="the spool has to be on a file system that can be written and has locks",
            ) from error


def _locked(path: Path, until: ExitStack) -> bool:
    """Lock a file, where it is free, until something is closed; return whether that was so."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return False
        raise
    until.callback(os.close, descriptor)
    return True


def _share(path: Path, until: ExitStack) -> None:
    """Lock a file together with others, until something is closed; who looks whether it is free has it for a moment."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    until.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
