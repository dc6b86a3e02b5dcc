"""The software that every step may read and run: of the system, of this Python, and what the site declares."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from nightmill.execution.confine.landlock import READ, READ_DIR, READ_FILE, RUN, USE_DEVICE

Place = tuple[str, int]
"""A path, and what a step may do there and below."""

SYSTEM: Final = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/etc", "/opt")
_KERNEL: Final = ("/proc", "/sys")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@cache
def software(reads: tuple[Path, ...], closed: frozenset[Path]) -> tuple[Place, ...]:
    """Return what every step may reach.

    A folder that has something in it which is closed is open as far as its other entries go; the names in it can be
    listed. It is looked at once a process: what is put there later is not open.

    Parameters
    ----------
    reads
        What the site declares.
    closed
        What no step may reach, resolved.
    """
    wanted = [*SYSTEM, *python_places(), *map(str, reads)]
    places = dict.fromkeys([Path(os.path.realpath(place)) for place in wanted])
    found = [(str(device), USE_DEVICE) for device in _DEVICES] + [(place, READ) for place in _KERNEL]
    for place in places:
        found += opened(place, closed)
    return tuple(dict.fromkeys(found))


def python_places() -> Iterable[str]:
    """Return where this Python and what it imports lies."""
    return dict.fromkeys([sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(os.path.isabs, sys.path)])


def opened(place: Path, closed: frozenset[Path]) -> Iterator[Place]:
    """Yield what is open of a place, both as they resolve, where something is closed."""
    if place in closed:
        return
    if not any(place in each.parents for each in closed):
        yield str(place), RUN
        return
    yield str(place), READ_DIR
    with suppress(OSError):
        for entry in os.scandir(place):
            if not entry.is_symlink():
                yield from opened(Path(entry.path), closed)


def is_in(path: str, places: Iterable[Place]) -> bool:
    """Say whether a path can be read by one of some places."""
    return any(access & READ_FILE and (path == place or path.startswith(f"{place}/")) for place, access in places)
