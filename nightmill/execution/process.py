"""One step's process: started without a shell, watched, measured, ended with all its descendants."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from nightmill.model.journal import Cost

FIRST_SAMPLE_SECONDS: Final = 0.1
SAMPLE_SECONDS: Final = 1.0
"""The process tree is sampled after the first interval and then ever less often, up to this one."""
GRACE_SECONDS: Final = 5.0
"""Between SIGTERM and SIGKILL, for a step that ran too long."""


@dataclass(frozen=True)
class Ended:
    """How a process ended and what it cost."""

    exit_code: int | None
    signal: int | None
    timed_out: bool
    cost: Cost


def run_process(
    argv: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    output: int,
    wall_seconds: float,
    began: Callable[[int], None],
) -> Ended:
    """Run a command to its end.

    Parameters
    ----------
    argv
        Program and arguments; no shell sees them.
    directory
        Working folder.
    environment
        The whole environment of the process.
    output
        File descriptor for its stdout and stderr.
    wall_seconds
        When it is ended: first SIGTERM, then SIGKILL, for the whole process group.
    began
        Called with the process ID as soon as it runs.

    Raises
    ------
    OSError
        Where the program cannot be executed.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        argv,
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        began(process.pid)
        peak, timed_out = _watch(process.pid, start, wall_seconds)
        read_bytes, written_bytes = _bytes_moved(process.pid)
    except BaseException:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        raise
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - start
    _signal_group(process.pid, signal.SIGKILL)
    cost = Cost(
        wall_seconds=wall,
        user_seconds=usage.ru_utime,
        system_seconds=usage.ru_stime,
        max_rss_bytes=max(peak, usage.ru_maxrss * 1024),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
    )
    return Ended(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        timed_out=timed_out,
        cost=cost,
    )


def _watch(pid: int, start: float, wall_seconds: float) -> tuple[int, bool]:
    """Wait until the process has ended (not yet reaped); return the peak of the tree's RSS and whether it timed out."""
    peak = 0
    deadline = start + wall_seconds
    timed_out = False
    interval = FIRST_SAMPLE_SECONDS
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not poll.poll(max(0.0, min(interval, deadline - time.monotonic())) * 1000):
            peak = max(peak, _tree_rss(pid))
            interval = min(interval * 1.5, SAMPLE_SECONDS)
            if time.monotonic() >= deadline:
                _signal_group(pid, signal.SIGKILL if timed_out else signal.SIGTERM)
                deadline = time.monotonic() + GRACE_SECONDS
                timed_out = True
    finally:
        os.close(descriptor)
    return peak, timed_out


def _tree_rss(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        pass
    return total


def _bytes_moved(pid: int) -> tuple[int, int]:
    """Bytes that an ended, not yet reaped process and its reaped children read and wrote, by any means."""
    try:
        counters = psutil.Process(pid).io_counters()
    except (psutil.Error, OSError):  # the kernel keeps no account of it
        return 0, 0
    return counters.read_chars, counters.write_chars


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return
