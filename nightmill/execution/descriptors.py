"""Files and folders that a step may have put links, pipes or others' files in place of: opened without being led away.

A path is looked up anew at each use; a descriptor is what it was when it was opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from nightmill.errors import BadFile
from nightmill.execution.evidence import on_one_line

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

Place = tuple[int, int, int]


def place_of(facts: os.stat_result) -> Place:
    """Return what tells a file or folder from every other: device, inode, and kind, as inodes are reused."""
    return facts.st_dev, facts.st_ino, stat.S_IFMT(facts.st_mode)


def path_of(descriptor: int) -> str:
    """Return a path that leads to an open file, for any process of its owner, until it is closed."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


@contextmanager
def opened_folder(name: str, within: int) -> Iterator[int]:
    """Open a folder of an open folder, though its owner may have been shut out of it.

    Raises
    ------
    OSError
        Where it is not a folder but, say, a link to one.
    """
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=within)
    except PermissionError:
        open_up(name, within)
        descriptor = os.open(name, _FOLDER, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_up(name: str, within: int) -> None:
    """Let the owner of a folder of an open folder do everything with it; a link to one is an OSError."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        os.chmod(path_of(descriptor), 0o700)  # noqa: PTH101 - without the right to read, there is no descriptor for fchmod
    finally:
        os.close(descriptor)


def names_in(folder: int) -> list[str]:
    """Return the names in an open folder, in their order."""
    return sorted(os.listdir(folder))


@contextmanager
def opened_file(name: str, within: int, *, alone: bool = False) -> Iterator[int]:
    """Open a regular file of an open folder; anything else is not even opened.

    Parameters
    ----------
    alone
        Whether it must have no other name: who knows that one may change it.

    Raises
    ------
    BadFile
        Where it is something else, or is not there (reason ``missing``), or cannot be opened.
    """
    try:
        before = os.stat(name, dir_fd=within, follow_symlinks=False)
        if kind := _unfit(before, alone) or _hollow(before, within):
            raise BadFile(f"{on_one_line(name)} is {kind}", reason="unreadable")
        descriptor = os.open(name, _FILE, dir_fd=within)
    except FileNotFoundError as error:
        raise BadFile(f"{on_one_line(name)} is not there", reason="missing") from error
    except PermissionError as error:
        raise BadFile(f"{on_one_line(name)} cannot be read: {error.strerror}", reason="unreadable") from error
    try:
        if place_of(os.fstat(descriptor)) != place_of(before):
            raise BadFile(f"{on_one_line(name)} was replaced while it was looked at", reason="unreadable")
        yield descriptor
    finally:
        os.close(descriptor)


def _hollow(facts: os.stat_result, within: int) -> str:
    """Say what is wrong with a file of holes that would take for ever to read; an empty string where nothing is."""
    if facts.st_size <= facts.st_blocks * 512:
        return ""
    disk = os.fstatvfs(within)
    most = disk.f_blocks * disk.f_frsize
    return f"of {facts.st_size:,} bytes, and its disk has {most:,}" if 0 < most < facts.st_size else ""


def _unfit(facts: os.stat_result, alone: bool) -> str:
    if stat.S_ISLNK(facts.st_mode):
        return "a symbolic link"
    if not stat.S_ISREG(facts.st_mode):
        return "not a regular file"
    return "a hard link to a file that has another name too" if alone and facts.st_nlink > 1 else ""
