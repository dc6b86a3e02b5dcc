"""Opening files that others wrote: whatever goes wrong is a reason, not a traceback."""

from __future__ import annotations

import errno
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

# Without O_NONBLOCK, opening a FIFO would block for ever, and nobody would come to see that it is one.
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def opened(path: StrPath, descriptor: int | None = None) -> Iterator[tuple[BufferedReader[FileIO], int]]:
    """Open a regular file for reading; give it with its size in bytes.

    Parameters
    ----------
    descriptor
        Of the file, where it is open already: it is read from its beginning, and stays open.

    Raises
    ------
    BadFile
        Where it is not there (reason ``missing``), is not a regular file, or cannot be opened or read, at any time
        while it is open (reason ``unreadable``).
    """
    try:
        opening = FileIO(path, opener=_open) if descriptor is None else FileIO(descriptor, closefd=False)
        with BufferedReader(opening, BUFFER_BYTES) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadFile(f"{path} is not a regular file", reason="unreadable")
            if descriptor is not None:
                file.seek(0)
            yield file, status.st_size
    except OSError as error:
        raise _refusal(path, error) from error


@contextmanager
def held(path: StrPath, real: str) -> Iterator[int]:
    """Open a file that lies where it seems to lie, and give its descriptor.

    Parameters
    ----------
    real
        Its path without any link; an empty string where links are followed.

    Raises
    ------
    BadFile
        As :func:`opened`, or where the file, or a folder above it, is a symbolic link (reason ``link``): also one that
        was put there since somebody looked.
    """
    try:
        descriptor = os.open(real or path, _FLAGS | (os.O_NOFOLLOW if real else 0))
        try:
            if real:
                there = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a third of the time that a Path takes
                if there != real and there.casefold() != real.casefold():  # some file systems have no case
                    raise link_refused(path)
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        raise (link_refused(path) if error.errno == errno.ELOOP and real else _refusal(path, error)) from error


def link_refused(path: StrPath) -> BadFile:
    """Make the refusal of a symbolic link."""
    return BadFile(
        f"{path} is a symbolic link, or lies behind one, and links are not followed",
        reason="link",
        remedy="name what it points to, or use --follow-links",
    )


def decoded(data: bytes) -> str:
    """Decode what should be ASCII and at times is not: UTF-8, else Windows-1252, which has all letters of Latin-1.

    What that knows no character for becomes a control character.
    """
    if data.isascii():
        return data.decode("ascii")
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _refusal(path: StrPath, error: OSError) -> BadFile:
    if isinstance(error, FileNotFoundError):
        return BadFile(f"{path} is not there", reason="missing")
    return BadFile(f"{path} cannot be read: {error.strerror or error}", reason="unreadable")


def _open(path: str, _flags: int) -> int:
    return os.open(path, _FLAGS)
