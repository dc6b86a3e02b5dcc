"""How an attempt ended.

Each member documents the evidence that sets it, so that no two observers can disagree.
"""

from __future__ import annotations

from enum import StrEnum

from nightmill.model.states import AttemptState, JobState


class Fate(StrEnum):
    """How an attempt ended, by the evidence."""

    PUBLISHED = "published"
    """Every output that its order wants kept stands in its store with the size and checksum of the intent."""
    INPUT_MISSING = "input_missing"
    """An input of the order was not in its store when it was staged."""
    INPUT_CORRUPT = "input_corrupt"
    """An input had another size or checksum than the catalogue says."""
    UNSTAGED_INPUT = "unstaged_input"
    """A step tried to read what was not staged for it: its own words after a denied read name the path, or it asked its
    index for it, or a trace of every path that it tried has it. Nothing is fetched."""
    STEP_FAILED = "step_failed"
    """A step's process exited with a code other than 0 that no rule of its site accepts."""
    STEP_KILLED = "step_killed"
    """A step's process was ended by a signal that nightmill did not send; or what audited it was ended before it."""
    OUT_OF_MEMORY = "out_of_memory"
    """A step failed, and the kernel killed a process of it for lack of memory, as the control group of the step counts.
    Where it has none: its process was ended by SIGKILL that nightmill did not send, and the kernel of its host counted
    a kill for lack of memory while the step ran; or it exited with code 137, as a shell does whose command was killed,
    and the kernel counted one in the control group of the worker; or the accounting of its engine says that its worker
    was ended for that."""
    STEP_NOT_STARTED = "step_not_started"
    """The step's program could not be executed, or its image, or what runs images, was not on the host."""
    WALL_LIMIT = "wall_limit"
    """A step ran longer than its ``wall_seconds``, and nightmill ended it; or the accounting of its engine says that
    its worker ran longer than it might."""
    MISSING_OUTPUT = "missing_output"
    """A step exited 0, or with a code that its site accepts, and a required output (or the least number of them) was
    not there."""
    BAD_OUTPUT = "bad_output"
    """An output was there and not whole, lacked required metadata, was refused by a check of its type, or contradicted
    the plan; or a step changed what it may only read: an input, the bundle, an output of an earlier step, the log,
    or a folder of its scratch."""
    NAME_COLLISION = "name_collision"
    """The name of an output exists in its store with other bytes."""
    NO_SPACE = "no_space"
    """The scratch or a store had no room (ENOSPC, EDQUOT)."""
    STORE_ERROR = "store_error"
    """A store or the scratch could not be read or written, for another reason than those above."""
    CANCELLED = "cancelled"
    """nightmill ended it, or did not begin it, because its slice was told to end (cancelled in Prefect, or its runner
    stopped) or failed itself; or because its worker would have run with software that the site gates."""
    PREEMPTED = "preempted"
    """The accounting of its engine says that its worker was ended to make room for others."""
    NODE_FAILED = "node_failed"
    """The accounting of its engine says that the node failed that its worker ran on."""
    ENDED_OUTSIDE = "ended_outside"
    """Its engine says that its worker was ended by somebody who is not nightmill, as by an administrator."""
    LOST = "lost"
    """Its owner is dead (same host and boot, no such process), or its engine says that its worker is gone and not why,
    and its journal has no end."""

    @property
    def attempt_state(self) -> AttemptState:
        """The state of an attempt that ended so."""
        return _ATTEMPT_STATES.get(self, AttemptState.FAILED)

    @property
    def job_state(self) -> JobState:
        """Where a job stands whose last attempt ended so."""
        return _JOB_STATES.get(self, JobState.FAILED)

    @property
    def retry_may_help(self) -> bool:
        """Whether the same order may succeed when it is run again."""
        return self in _TRANSIENT


_ATTEMPT_STATES = {
    Fate.PUBLISHED: AttemptState.PUBLISHED,
    Fate.CANCELLED: AttemptState.CANCELLED,
    Fate.PREEMPTED: AttemptState.LOST,
    Fate.NODE_FAILED: AttemptState.LOST,
    Fate.LOST: AttemptState.LOST,
}
_JOB_STATES = {Fate.PUBLISHED: JobState.DONE, Fate.CANCELLED: JobState.READY}
_TRANSIENT = frozenset(
    {
        Fate.STEP_KILLED,
        Fate.OUT_OF_MEMORY,
        Fate.NO_SPACE,
        Fate.STORE_ERROR,
        Fate.PREEMPTED,
        Fate.NODE_FAILED,
        Fate.LOST,
    }
)
