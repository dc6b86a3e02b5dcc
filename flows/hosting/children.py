"""The flow runs that a runner has started, and what becomes of those whose processes end without telling."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from uuid import UUID

from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Crashed, Scheduled

from nightmill.model.base import Frozen
from nightmill.model.journal import Owner


class ChildRecord(Frozen):
    """A flow run that was claimed, in a file of its own until its end is reported."""

    flow_run_id: UUID
    flow_run_name: str
    queue: str
    process: Owner | None = None
    """The process that carries it out; None from the claim to the fork."""


@dataclass
class Child:
    """A flow run of this runner, or of one before it."""

    record: ChildRecord
    entrypoint: str = ""
    """Of its flow; empty for one of a runner before."""
    mine: bool = False
    """Whether the process is a child of this process, so that its exit code can be known."""
    exit_code: int | None = None
    """Negative for a signal; None while it runs, and for a process whose exit code nobody can know."""
    ended: bool = False
    cancelled: bool = False
    kill_at: float | None = None

    @property
    def pid(self) -> int:
        """Its PID, 0 where it was never forked."""
        return self.record.process.pid if self.record.process else 0


def state_after(child: Child, state: State[object] | None) -> State[object] | None:
    """Return what to make of the state of a flow run whose process has ended; None to leave it.

    The engine inside the process tells of every orderly end itself, crashes by SIGTERM included. What is left are
    processes that could not, and cancellations, which the engine takes for crashes.
    """
    if state is None:
        return None
    if child.cancelled or state.type is StateType.CANCELLING:
        return None if state.type in (StateType.CANCELLED, StateType.COMPLETED) else Cancelled(message="on request")
    if state.type not in (StateType.PENDING, StateType.RUNNING):
        return None
    if child.record.process is None:  # claimed, never forked
        return Scheduled() if state.type is StateType.PENDING else None
    if child.mine and child.exit_code == 0:
        return None  # the engine gave way to another process that carries it out
    return Crashed(message=f"process {child.pid} on {child.record.process.host} {_how(child.exit_code)}")


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended while its runner was away"
    if exit_code < 0:
        return f"was killed by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"ended with exit code {exit_code} before its flow run had a final state"
