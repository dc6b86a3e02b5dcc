"""Opening files that others wrote: whatever goes wrong is a reason, not a traceback."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from os import PathLike
from typing import Final

from nightmill.errors import BadFile

StrPath = str | PathLike[str]

BUFFER_BYTES: Final = 1 << 16


@contextmanager
def opened(path: StrPath) -> Iterator[tuple[BufferedReader[FileIO], int]]:
    """Open a regular file for reading; give it with its size in bytes.

    Raises
    ------
    BadFile
        Where it is not there (reason ``missing``), is no regular file, or cannot be opened or read, at any time while
        it is open (reason ``unreadable``).
    """
    try:
        with BufferedReader(FileIO(path, opener=_open), BUFFER_BYTES) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadFile(f"{path} is no regular file", reason="unreadable")
            yield file, status.st_size
    except FileNotFoundError as error:
        raise BadFile(f"{path} is not there", reason="missing") from error
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror or error}", reason="unreadable") from error


def _open(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO would block for ever, and nobody would come to see that it is one.
    return os.open(path, flags | os.O_NONBLOCK)
