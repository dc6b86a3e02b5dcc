"""What the kernel tells of processes, read from /proc: cheap enough to be asked often."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

SCRATCH_VARIABLE: Final = "NIGHTMILL_SCRATCH"
"""Environment variable of every step: the scratch of its job, by which its processes are known wherever they work."""
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


def all_processes() -> list[int]:
    """Return the number of every process."""
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def started_after(pid: int) -> Iterable[int]:
    """Return the numbers of all processes that were started after one that still has its number, and of some others.

    Cheap where that was a moment ago. Wrong where so many were started since that every number was given anew.
    """
    newest = int(read_kernel("/proc/loadavg").split()[-1])
    return range(pid + 1, newest + 1) if newest >= pid else all_processes()


def end_all_in(
    folder: Path, *, among: Callable[[], Iterable[int]] = all_processes, patience_seconds: float = 5.0
) -> list[int]:
    """Kill every process of a scratch, wait until they are gone, and return them.

    These are the processes that have the scratch as :data:`SCRATCH_VARIABLE` in their environment, and those whose
    working folder is the scratch or lies below it; but nobody who looks into it from a terminal. Processes that are
    started meanwhile are found too. Those of other users are out of reach, and stay.

    Parameters
    ----------
    folder
        The scratch.
    among
        Gives the numbers of the processes to look at.
    """
    ended: list[int] = []
    deadline = time.monotonic() + patience_seconds
    while found := _processes_of(folder, among()):
        for pid, started in found.items():
            kill(pid, started)
        ended += [pid for pid in found if pid not in ended]
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return ended


def all_in(folder: Path) -> list[int]:
    """Return the processes of a scratch, as :func:`end_all_in` knows them."""
    return list(_processes_of(folder, all_processes()))


def kill(pid: int, started: float, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to the process that has a number and started then: not to another that has the number since."""
    with suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(pid)
        try:
            if started_at(pid) == started:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _processes_of(folder: Path, among: Iterable[int]) -> dict[int, float]:
    """Return the processes of a scratch, and when each started."""
    there = [pid for pid in among if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110 - asked of very many
    if not there:
        return {}
    whole = folder.parent.resolve() / folder.name  # the folder itself may have been made a link to anywhere
    marks = [f"\0{SCRATCH_VARIABLE}={path}\0".encode() for path in (folder, whole)]
    return {pid: started for pid in there if (started := started_at(pid)) is not None and _is_of(pid, whole, marks)}


def _is_of(pid: int, folder: Path, marks: Sequence[bytes]) -> bool:
    try:
        environment = b"\0" + read_kernel(f"/proc/{pid}/environ")
        if any(mark in environment for mark in marks):
            return True
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder) and not _has_terminal(pid)
    except OSError:  # it is gone, is a zombie, or belongs to another user
        return False


def _has_terminal(pid: int) -> bool:
    return _read(pid, "stat").rpartition(")")[2].split()[4:5] != ["0"]


def tracer_of(pid: int) -> int:
    """Return the number of the process that traces another; 0 where none does."""
    _before, _name, rest = _read(pid, "status").partition("\nTracerPid:\t")
    return int(rest.partition("\n")[0] or 0)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 where there is none."""
    fields = _read(pid, "statm").split()
    return int(fields[1]) * _PAGE_BYTES if fields else 0


def bytes_moved(pid: int) -> tuple[int, int]:
    """Return what a process and its reaped children read and wrote, in bytes, by any means; 0 where it is not told."""
    lines = dict(line.split(": ") for line in _read(pid, "io").splitlines())
    return int(lines.get("rchar", 0)), int(lines.get("wchar", 0))


def state_of(pid: int) -> str:
    """Return the letter by which the kernel tells the state of a process; empty where there is none."""
    return _read(pid, "stat").rpartition(")")[2][1:2]


def wait_status(pid: int) -> int | None:
    """Return how a process ended that was not reaped yet, as :func:`os.wait` tells it; None where there is none."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[49]) if fields and fields[0] == "Z" else None


def spent_seconds(pid: int) -> tuple[float, float]:
    """Return what a process and the children that it waited for spent as user and in the kernel, seconds."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    user, system, of_children, in_children = map(int, fields[11:15]) if fields else (0, 0, 0, 0)
    return (user + of_children) / _TICKS_A_SECOND, (system + in_children) / _TICKS_A_SECOND


def _read(pid: int, name: str) -> str:
    try:
        return read_kernel(f"/proc/{pid}/{name}").decode(errors="replace")
    except OSError:  # it is gone, or belongs to another user
        return ""


def read_kernel(path: str) -> bytes:
    """Read what the kernel tells at a path, without a buffer and a Path: they take longer than the kernel does."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see above
        return file.read()
