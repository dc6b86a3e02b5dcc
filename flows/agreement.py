"""What the state of a flow run ought to be, given what the backbone knows: the rule of reconciliation by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flows.api import RunState

PENDING_LIMIT = timedelta(minutes=5)
"""A run that was claimed begins within seconds; one that takes so long has lost its worker."""
CANCELLING_LIMIT = timedelta(minutes=5)
"""A process that is told to end does so within a minute, or is killed."""
RUNNING_LIMIT = timedelta(minutes=30)
"""A run takes its work in hand once the spool is drained; one that takes so long has lost its process."""


@dataclass(frozen=True)
class Evidence:
    """What is known of what a flow run conducts.

    Parameters
    ----------
    jobs, done, complete
        How many jobs it has, how many of them are done, and whether nothing is left to do: stages without a plan count.
    owner
        The process that took it in hand last, in words; empty where none did.
    owner_alive
        Whether it lives; None where nothing can be said from here.
    since
        When it took it in hand.
    """

    jobs: int
    done: int
    complete: bool
    owner: str = ""
    owner_alive: bool | None = None
    since: datetime | None = None


def agreed(state: RunState, evidence: Evidence, now: datetime) -> dict[str, Any] | None:
    """Return the state that a flow run is to get, or None where it has the right one.

    - Under way, and the process that had it in hand last lives: left to it.
    - Under way, and the process that had it in hand is dead: Crashed, or Cancelled where that was asked for.
    - Claimed or begun long ago, and no process took it in hand since: Crashed.
    - To be cancelled for minutes, and not known to live: Cancelled.
    - Ended badly, and all its work is done: Completed, as after its jobs were adopted or done by another.
    - Ended well, and some of its work is not done: Failed.
    """
    if state.type in ("PENDING", "RUNNING", "CANCELLING") and evidence.owner_alive:
        return None
    if state.type == "CANCELLING":
        if evidence.owner_alive is False:
            return {"type": "CANCELLED", "message": f"on request; its process ({evidence.owner}) is gone"}
        if now - state.at > CANCELLING_LIMIT:
            return {"type": "CANCELLED", "message": f"on request; nothing was heard since {state.at:%H:%M:%S} UTC"}
    if state.type in ("PENDING", "RUNNING"):
        # a run that is carried out again in place is in nobody's hands at first: its last owner was another process
        if evidence.since is not None and evidence.since >= state.at:
            dead = evidence.owner_alive is False
            return {"type": "CRASHED", "message": f"its process ({evidence.owner}) is dead"} if dead else None
        limit, what = (PENDING_LIMIT, "claimed") if state.type == "PENDING" else (RUNNING_LIMIT, "begun")
        if now - state.at > limit:
            return {"type": "CRASHED", "message": f"{what} at {state.at:%H:%M:%S} UTC, and no process took it in hand"}
    if state.type in ("FAILED", "CRASHED") and evidence.complete:
        return {"type": "COMPLETED", "message": f"{evidence.jobs} jobs done, as the backbone says"}
    if state.type == "COMPLETED" and not evidence.complete:
        left = evidence.jobs - evidence.done
        told = f"{left} of {evidence.jobs} jobs not done" if left else "some of its stages were not carried out"
        return {"type": "FAILED", "message": f"{told}, as the backbone says"}
    return None
