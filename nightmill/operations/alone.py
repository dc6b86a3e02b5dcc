"""One drain of a spool at a time, and a word of who holds it up."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nightmill.clock import utc_now
from nightmill.errors import ServiceError
from nightmill.execution.journal import SpoolAway
from nightmill.execution.owner import host_name

LOCK: Final = ".drain.lock"
SAY_SECONDS: Final = 1.0
"""After so long, who waits is told for whom."""
POLL_SECONDS: Final = 0.05
Say = Callable[[str], None]


class SpoolBusy(ServiceError):
    """Another process drains the spool, for longer than there is patience."""


def warn(message: str) -> None:
    """Tell whoever runs this process."""
    logging.getLogger("nightmill").warning("%s", message)


@contextmanager
def alone(folder: Path, *, patience_seconds: float | None = None, say: Say = warn) -> Iterator[None]:
    """Keep every other drain of a spool waiting.

    Parameters
    ----------
    patience_seconds
        How long to wait for another; by default for ever.
    say
        Is told, after a moment, for whom this waits.

    Raises
    ------
    SpoolBusy
        Where patience ends.
    SpoolAway
        Where the spool cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, folder, patience_seconds, say)
            with suppress(OSError):  # only who waits misses it
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {host_name()} since {utc_now():%F %T}".encode(), 0)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SpoolAway(
            f"the spool {folder} cannot be used: {error.filename or 'write'}: {error.strerror}",
            remedy="make room in it, mend its disk, or see who may write there; nothing that it holds is lost",
        ) from error


def _lock(descriptor: int, folder: Path, patience_seconds: float | None, say: Say) -> None:
    begun, said = time.monotonic(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - begun
        busy = f"the spool {folder} is drained by {os.pread(descriptor, 300, 0).decode() or 'another process'}"
        if patience_seconds is not None and waited >= patience_seconds:
            raise SpoolBusy(busy, remedy="wait for its end; where it hangs, see what it waits for, or end it")
        if waited >= SAY_SECONDS and not said:
            say(f"{busy}; waiting for it")
            said = True
        time.sleep(POLL_SECONDS)
