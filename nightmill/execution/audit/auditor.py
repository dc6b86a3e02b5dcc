"""Starting steps so that every path that they try is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from nightmill.errors import RequestRefused
from nightmill.execution.audit.strace import Trace, around, request_of, version
from nightmill.execution.audit.traced import Tally
from nightmill.execution.confine.rules import Rules
from nightmill.execution.confine.seccomp import filter_of
from nightmill.execution.faults import refused
from nightmill.execution.launch.plain import Launch, Outcome, Process
from nightmill.execution.proc import all_processes, tracer_of
from nightmill.execution.scratch import Scratch
from nightmill.model.observed import Confined, Level
from nightmill.model.order import JobOrder, OrderStep

_OPEN: Final = "what it was not given was not denied to it: its site does not confine steps"
_SEARCHES: Final = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")


def must_audit(order: JobOrder, step: OrderStep) -> None:
    """See that a step can be audited on this host, where its order wants it so.

    Raises
    ------
    JobFailed
        Where it cannot be.
    """
    if order.level != "audit" or step.image:
        return
    try:
        version()
    except RequestRefused as error:
        raise refused(step.name, error) from error


@dataclass
class Audited(Process):
    """A step that is traced, however it was started."""

    inner: Process
    trace: Trace
    confined: Confined
    returncode: int | None = None

    def __post_init__(self) -> None:
        self.pid = self.inner.pid

    def looked_at(self) -> None:
        """Do what is to be done now and then."""
        self.inner.looked_at()

    def end_rest(self, scratch: Path, among: Callable[[], Iterable[int]]) -> None:
        """End what the step left running, once its own end was told: what tells it must live until then."""
        self.trace.wait_for_end()
        self.inner.end_rest(scratch, among)

    def reap(self) -> Outcome:
        """Return how the step ended, once the trace has ended, too."""
        outcome = self.inner.reap()
        self.returncode, self.lack = outcome.code, self.inner.lack
        self.traced = self.trace.end()
        return outcome


def auditing(
    start: Callable[[Launch, Rules], Process], rules: Rules, step: OrderStep, scratch: Scratch, *, closes: bool = True
) -> Callable[[Launch], Process]:
    """Return how a step is started so that it is traced.

    Parameters
    ----------
    start
        Starts a program confined by rules.
    rules
        What the step may reach.
    closes
        Whether the rest is denied to it, or only known.
    """
    return partial(_start, start, rules, step, scratch, closes)


def files_of(scratch: Scratch) -> Iterable[str]:
    """Yield the paths of what a step may be seen to open: inputs, and outputs of steps before it."""
    for folder in (scratch.inputs, scratch.outputs):
        yield from (entry.path for entry in os.scandir(folder))


def _start(
    start: Callable[[Launch, Rules], Process],
    rules: Rules,
    step: OrderStep,
    scratch: Scratch,
    closes: bool,
    launch: Launch,
) -> Process:
    """Start a step: strace, confined by nothing but what it sees read-only; in it what confines itself, as the step.

    Raises
    ------
    OSError, ValueError
        Where it cannot be started.
    """
    # a filter of ours answers before strace hears of a call: so it is strace that denies sockets, and names them
    by_strace = closes and step.network == "off" and not step.sockets
    inside = replace(rules, filter=filter_of("off", sockets=False, traced=True) if by_strace else rules.filter)
    searched = [folder for name in _SEARCHES for folder in launch.environment.get(name, "").split(":")]
    tally = Tally((*rules.software, *rules.own), str(scratch.path), files_of(scratch), searched)
    trace = Trace(str(launch.directory), tally)
    try:
        argv = around(trace, ["socket"] if by_strace else [], request_of(launch, inside if closes else None))
        inner = start(replace(launch, argv=argv, environment={}), replace(rules, closes=False, filter=b""))
    except BaseException:
        trace.close()
        raise
    if (why := trace.wait_for_begin(inner.pid)) is not None:
        inner.end_rest(scratch.path, all_processes)
        inner.reap()
        raise why
    inner.spared = tracer_of(inner.pid)
    before = inner.confined
    confined = Confined(
        level=Level.AUDIT, by=(*before.by, version()), lacking=before.lacking if closes else (*before.lacking, _OPEN)
    )
    return Audited(inner, trace, confined)
