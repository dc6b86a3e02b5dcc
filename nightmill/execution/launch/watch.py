"""One step's process: started without a shell, watched, measured, ended with all its descendants."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, partial
from pathlib import Path
from typing import Final

from nightmill.execution.audit.traced import Traced
from nightmill.execution.launch import plain
from nightmill.execution.launch.plain import Launch, Process
from nightmill.execution.proc import (
    SCRATCH_VARIABLE,
    all_processes,
    bytes_moved,
    children,
    kill,
    read_kernel,
    rss_bytes,
    started_after,
    started_at,
)
from nightmill.model.journal import Cost
from nightmill.model.observed import UNCONFINED, Confined

FIRST_SAMPLE_SECONDS: Final = 0.01
SAMPLE_SECONDS: Final = 1.0
"""The process tree is sampled at once, after the first interval, and then ever less often, up to this one."""
RECENT_SECONDS: Final = 1.0
"""No host starts so many processes in this time that their numbers begin anew."""
KERNEL_COUNTS: Final = "/proc/vmstat"
"""Where the kernel counts what it did."""
OWN_GROUPS: Final = Path("/proc/self/cgroup")
GROUPS: Final = Path("/sys/fs/cgroup")
TELLS_OF_A_KILL: Final = 128 + signal.SIGKILL
"""How a shell exits whose last command was killed."""
GRACE_SECONDS: Final = 5.0
"""Between SIGTERM and SIGKILL, for a step that ran too long or is to end with its slice."""


@dataclass(frozen=True)
class Ended:
    """How a process ended and what it cost."""

    exit_code: int | None
    signal: int | None
    timed_out: bool
    stopped: bool
    """Whether it was ended because ``stopping`` said so."""
    out_of_memory: bool
    """Whether it failed, and the kernel killed some of it for lack of memory, as its control group counts. Without one:
    whether the kernel killed it, and counted a kill for lack of memory on this host meanwhile; or it exited as a
    shell does whose command was killed, and the kernel counted such a kill in the control group of this process."""
    cost: Cost
    asked_bytes: int | None = None
    """What its job asks for of memory, where the kernel killed it for taking more."""
    confined: Confined = UNCONFINED
    traced: Traced | None = None
    """What its trace comes to; None where it has none."""

    @property
    def starved(self) -> str:
        """How it ended that is out of memory, in words."""
        if self.timed_out:
            who = "ran too long and was ended, after a process of it was"
        else:
            who = "was" if self.signal is not None else f"exited with code {self.exit_code} as a process of it was"
        if self.asked_bytes is None:
            return (
                f"{who} killed by the kernel for lack of memory; it was seen with {_megabytes(self.cost.max_rss_bytes)}"
            )
        asked = f"the {_megabytes(self.asked_bytes)} of memory that its job asks for"
        return f"{who} killed by the kernel, as it came to {asked}; more can be had by memory_bytes of its stage"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def run_process(
    argv: Sequence[str],
    *,
    directory: Path,
    scratch: Path,
    environment: Mapping[str, str],
    output: int,
    wall_seconds: float,
    began: Callable[[int], None],
    stopping: Callable[[], bool] = lambda: False,
    looked: Callable[[], float | None] = lambda: None,
    start: Callable[[Launch], Process] = plain.start,
) -> Ended:
    """Run a command to its end, and end whatever it started and left running.

    Its processes are those of its process group, descendants that left the group and were seen by a sample, and those
    that have or use its scratch, as :func:`nightmill.execution.proc.end_all_in` finds them.

    Parameters
    ----------
    argv
        Program and arguments; no shell sees them.
    directory
        Working folder.
    scratch
        The folder of the job, which no other process uses.
    environment
        The whole environment of the process, but for the variable that names the scratch.
    output
        File descriptor for its stdout and stderr.
    wall_seconds
        When it is ended: first SIGTERM for its process group, then SIGKILL for all its processes.
    began
        Called with the process ID as soon as it runs.
    stopping
        Asked about once a second whether the process is to be ended before its time.
    looked
        Called about once a second, after each look at the process. What it returns, in seconds, is the most until the
        next.
    start
        How it is started.

    Raises
    ------
    OSError, ValueError
        Where the program cannot be executed.
    """
    began_at, killed, killed_here = time.monotonic(), _killed_for_memory(), _killed_in_own_group()
    process = start(Launch(argv, directory, {**environment, SCRATCH_VARIABLE: str(scratch)}, output))
    tree = _Tree(process.pid)
    try:
        began(process.pid)
        watched = _watch(tree, process, began_at + wall_seconds, stopping, looked)
        read_bytes, written_bytes = bytes_moved(process.step)
        process.note_end()
    finally:  # until it is reaped, its number and that of its group are nobody else's
        tree.kill()
        is_recent = time.monotonic() - began_at < RECENT_SECONDS
        process.end_rest(scratch, partial(started_after, process.pid) if is_recent else all_processes)
        outcome = process.reap()
    code, lack = outcome.code, process.lack
    cost = Cost(
        wall_seconds=time.monotonic() - began_at,
        user_seconds=outcome.user_seconds,
        system_seconds=outcome.system_seconds,
        max_rss_bytes=max(tree.peak_bytes, outcome.max_rss_bytes),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
    )
    return Ended(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        timed_out=watched is _Watched.TIMED_OUT,
        stopped=watched is _Watched.STOPPED,
        out_of_memory=code != 0 and lack.kills > 0
        if lack is not None
        else (code == -signal.SIGKILL and _killed_for_memory() > killed)
        or (code == TELLS_OF_A_KILL and _killed_in_own_group() > killed_here),
        asked_bytes=lack.asked_bytes if lack is not None and code != 0 else None,
        cost=cost,
        confined=process.confined,
        traced=process.traced,
    )


def _killed_for_memory() -> int:
    """Return how many processes the kernel of this host has killed for lack of memory; 0 where it does not tell."""
    return _count_in(KERNEL_COUNTS)


def _killed_in_own_group() -> int:
    """Return how many of those were in the control group of this process, as a batch system gives one to each job.

    The second version of control groups counts those in groups below, too; 0 where the group has no counter.
    """
    return _count_in(counts) if (counts := _own_counts()) else 0


@cache
def _own_counts() -> str:
    with suppress(OSError):
        for line in Path(OWN_GROUPS).read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers in ("", "memory"):
                name = "memory.oom_control" if controllers else "memory.events"
                if (counts := GROUPS / controllers / group.lstrip("/") / name).exists():
                    return str(counts)
    return ""


def _count_in(counts: str) -> int:
    with suppress(OSError):
        _before, name, count = (b"\n" + read_kernel(counts)).partition(b"\noom_kill ")
        return int(count.partition(b"\n")[0]) if name else 0
    return 0


class _Watched(Enum):
    """Why a process ended, as far as its watcher knows."""

    BY_ITSELF = auto()
    TIMED_OUT = auto()
    STOPPED = auto()


def _watch(
    tree: _Tree, process: Process, deadline: float, stopping: Callable[[], bool], looked: Callable[[], float | None]
) -> _Watched:
    """Wait until the process has ended (not yet reaped), and say whether it had to be."""
    watched = _Watched.BY_ITSELF
    interval = FIRST_SAMPLE_SECONDS
    descriptor = os.pidfd_open(process.step)
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        tree.sample()
        while not ended.poll(max(0.0, min(interval, deadline - time.monotonic())) * 1000):
            tree.sample()
            process.looked_at()
            interval = min(interval * 1.5, looked() or SAMPLE_SECONDS)
            late = time.monotonic() >= deadline
            if watched is _Watched.BY_ITSELF and (late or stopping()):
                watched = _Watched.TIMED_OUT if late else _Watched.STOPPED
                process.ask_to_end(tree.seen)
                deadline = time.monotonic() + GRACE_SECONDS
            elif late:
                tree.kill()
                deadline = time.monotonic() + GRACE_SECONDS
    finally:
        os.close(descriptor)
    return watched


class _Tree:
    """A process that leads a group of its own, and its descendants as far as they were seen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_bytes = 0
        self.seen: dict[int, float] = {}

    def sample(self) -> None:
        """Look at every process of the tree: what it holds in memory now; those that have ended are forgotten."""
        total = 0
        before, self.seen = self.seen, {}
        waiting = {self.pid, *before}
        while waiting:
            pid = waiting.pop()
            started = started_at(pid)
            if started is not None and before.get(pid, started) == started:
                self.seen[pid] = started
                total += rss_bytes(pid)
                waiting.update(set(children(pid)) - self.seen.keys())
        self.peak_bytes = max(self.peak_bytes, total)

    def kill(self) -> None:
        """End every process of the group, and every one that was seen."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid, started in self.seen.items():
            kill(pid, started)
