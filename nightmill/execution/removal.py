"""Folders that steps filled are emptied, and nothing that lies outside of them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from nightmill.execution.descriptors import open_up, opened_folder
from nightmill.execution.proc import end_all_in


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, as far as that can be done, if it is there."""
    with suppress(OSError):
        above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with opened_folder(path.name, above) as folder:
                empty(folder)
            path.rmdir()
        finally:
            os.close(above)


def empty(folder: int) -> None:
    """Remove everything in an open folder as far as that can be done, and nothing outside of it.

    No link is followed and no mount entered: a folder is looked into under a new name that it was just given, and the
    kernel gives none to a mount point. Folders in folders are all brought to the top first, so that neither the stack
    nor the number of descriptors grows with their depth.
    """
    waiting = _lift_from(folder, folder)
    while waiting:
        name = waiting.pop()
        with suppress(OSError):
            with opened_folder(name, folder) as inner:
                waiting += _lift_from(inner, folder)
            os.rmdir(name, dir_fd=folder)


def _lift_from(inner: int, top: int) -> list[str]:
    """Remove the files of a folder and its empty folders, and bring the others to the top; return their names there."""
    if os.fstat(inner).st_mode & 0o700 != 0o700:
        os.fchmod(inner, 0o700)
    with os.scandir(inner) as found:
        entries = list(found)
    lifted: list[str] = []
    for entry in entries:
        with suppress(OSError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=inner)
            elif not _removed(entry.name, inner):
                lifted.append(_lift(entry.name, inner, top))
    return lifted


def _removed(name: str, inner: int) -> bool:
    try:
        os.rmdir(name, dir_fd=inner)
    except OSError:
        return False
    return True


def _lift(name: str, inner: int, top: int) -> str:
    fresh = token_hex(8)
    try:
        os.rename(name, fresh, src_dir_fd=inner, dst_dir_fd=top)
    except PermissionError:  # it is closed to its owner, who may give it a name beside its own
        os.rename(name, fresh, src_dir_fd=inner, dst_dir_fd=inner)
        open_up(fresh, inner)
        os.rename(fresh, fresh, src_dir_fd=inner, dst_dir_fd=top)
    return fresh


def discard(path: Path) -> None:
    """End what runs in a scratch that nobody has any more, and remove it, or what a step put in its place."""
    if os.path.lexists(path):
        end_all_in(path)
        remove(path)
        _unlink(path)


def remove_open(path: Path, folder: int) -> None:
    """Remove an open folder with all that is in it: what stays is not a failure of the attempt."""
    with suppress(OSError):
        empty(folder)
        path.rmdir()
    _unlink(path)


def _unlink(path: Path) -> None:
    """Remove what a step put in place of its scratch; a folder stays."""
    with suppress(OSError):
        path.unlink()
