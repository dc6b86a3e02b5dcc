"""What the kernel tells of processes, read from /proc: cheap enough to be asked often."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def started_at(pid: int) -> float | None:
    """Return when a process started, in seconds after the boot, or None where there is none or it is a zombie.

    Unlike the time of the day, it stays what it is when somebody sets the clock.
    """
    fields = _read(pid, "stat").rpartition(")")[2].split()
    if not fields or fields[0] in "ZX":
        return None
    return int(fields[19]) / _TICKS_A_SECOND


def children(pid: int) -> list[int]:
    """Return the children of a process; none where the kernel keeps no such list."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, _read(pid, f"task/{thread.name}/children").split())
    except OSError:
        return found
    return found


def end_all_in(folder: Path, *, patience_seconds: float = 5.0) -> list[int]:
    """Kill every process whose working folder is this one or lies below it, wait until they are gone, and return them.

    Processes that are started meanwhile are found too. Those of other users are out of reach, and stay.
    """
    ended: list[int] = []
    deadline = time.monotonic() + patience_seconds
    while (found := _working_in(folder.resolve())) and time.monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended += [pid for pid in found if pid not in ended]
        time.sleep(0.01)
    return ended


def _working_in(folder: Path) -> list[int]:
    found: list[int] = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):  # it is gone, is a zombie, or belongs to another user
                if (Path(entry.path) / "cwd").readlink().is_relative_to(folder):
                    found.append(int(entry.name))
    return found


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 where there is none."""
    fields = _read(pid, "statm").split()
    return int(fields[1]) * _PAGE_BYTES if fields else 0


def bytes_moved(pid: int) -> tuple[int, int]:
    """Return what a process and its reaped children read and wrote, in bytes, by any means; 0 where it is not told."""
    lines = dict(line.split(": ") for line in _read(pid, "io").splitlines())
    return int(lines.get("rchar", 0)), int(lines.get("wchar", 0))


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # it is gone, or belongs to another user
        return ""
