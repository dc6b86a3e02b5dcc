"""How far a long staging is, told in the log of its job while it lasts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nightmill.execution.scratch import Scratch

TELL_SECONDS: Final = 10.0
"""How often it is told; what takes less long tells nothing."""
LEAST_BYTES: Final = 16 << 20
"""Less than that is not watched: it is there at once, or its store does not answer, which is told otherwise."""


@contextmanager
def told_pace(scratch: Scratch, coming: Sequence[tuple[Path, int]]) -> Iterator[None]:
    """Tell how much has come, of how much, and how fast, every few seconds until the context is left.

    Parameters
    ----------
    coming
        Where each file comes in, and its size in bytes.
    """
    total = sum(size for _path, size in coming)
    if total < LEAST_BYTES:
        yield
        return
    over, begun = threading.Event(), time.monotonic()

    def tell() -> None:
        while not over.wait(TELL_SECONDS):
            seconds = time.monotonic() - begun
            there = [(_size(path), size) for path, size in coming]
            done = sum(came for came, _size in there)
            whole = sum(came >= size for came, size in there)
            with suppress(OSError):  # a full scratch is told by what fills it
                os.write(
                    scratch.open_log(),
                    f"== staging: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {whole} of {len(there)} files,"
                    f" {done / seconds / 1e6:,.1f} MB/s\n".encode(),
                )
                scratch.show_log()

    teller = threading.Thread(target=tell, name="nightmill-pace", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _size(path: Path) -> int:
    """Return the size of a file so far; one that has not begun to come, or was taken away again, has none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
