"""How far an attempt is, and how it ended.

Each member documents the evidence that sets it, so that no two observers can disagree.
"""

from __future__ import annotations

from enum import StrEnum


class Origin(StrEnum):
    """Where a file came from."""

    RAW = "raw"
    """Delivered by an instrument: no process before it is known or claimed."""
    MANUAL = "manual"
    """Brought by a person, with a provenance message; made by something outside nightmill."""
    BATCH = "batch"
    """Made by an execution that nightmill recorded."""


class Relation(StrEnum):
    """The relations of provenance (the names of W3C PROV)."""

    USED = "used"
    WAS_GENERATED_BY = "was_generated_by"
    WAS_DERIVED_FROM = "was_derived_from"
    WAS_ASSOCIATED_WITH = "was_associated_with"


class JobState(StrEnum):
    """Where a job stands in its campaign."""

    PLANNED = "planned"
    """Its plan is sealed; nothing was issued."""
    HELD = "held"
    """Waits for a person, or for something that the plan names."""
    READY = "ready"
    """May be issued again: its last attempt was ended before its time, or somebody asked for another."""
    ACTIVE = "active"
    """An attempt was issued and has not ended."""
    DONE = "done"
    """One attempt is its result."""
    FAILED = "failed"
    """Its last attempt did not publish."""
    CANCELLED = "cancelled"
    """A person ended it."""


class AttemptState(StrEnum):
    """How far an attempt is: the last entry of its journal, or its issue where there is none."""

    ISSUED = "issued"
    STAGING_IN = "staging_in"
    RUNNING = "running"
    CHECKING = "checking"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether nothing more can happen to the attempt."""
        return self in _ENDED


_ENDED = frozenset({AttemptState.PUBLISHED, AttemptState.FAILED, AttemptState.CANCELLED, AttemptState.LOST})


class Fate(StrEnum):
    """How an attempt ended, by the evidence."""

    PUBLISHED = "published"
    """Every output that its order wants kept stands in its store with the size and checksum of the intent."""
    INPUT_MISSING = "input_missing"
    """An input of the order was not in its store when it was staged."""
    INPUT_CORRUPT = "input_corrupt"
    """An input had another size or checksum than the catalogue says."""
    STEP_FAILED = "step_failed"
    """A step's process exited with a code other than 0."""
    STEP_KILLED = "step_killed"
    """A step's process was ended by a signal that nightmill did not send."""
    STEP_NOT_STARTED = "step_not_started"
    """The step's program could not be executed."""
    WALL_LIMIT = "wall_limit"
    """A step ran longer than its ``wall_seconds``, and nightmill ended it."""
    MISSING_OUTPUT = "missing_output"
    """A step exited 0, and a required output (or the least number of them) was not there."""
    BAD_OUTPUT = "bad_output"
    """An output was there and not whole, lacked required metadata, or contradicted the plan."""
    NAME_COLLISION = "name_collision"
    """The name of an output exists in its store with other bytes."""
    NO_SPACE = "no_space"
    """The scratch or a store had no room (ENOSPC, EDQUOT)."""
    STORE_ERROR = "store_error"
    """A store or the scratch could not be read or written, for another reason than those above."""
    CANCELLED = "cancelled"
    """nightmill ended it, or did not begin it, because its slice was told to end (cancelled in Prefect, or its runner
    stopped) or failed itself."""
    LOST = "lost"
    """Its owner is dead (same host and boot, no such process) and its journal has no end."""

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
    Fate.LOST: AttemptState.LOST,
}
_JOB_STATES = {Fate.PUBLISHED: JobState.DONE, Fate.CANCELLED: JobState.READY}
_TRANSIENT = frozenset({Fate.STEP_KILLED, Fate.NO_SPACE, Fate.STORE_ERROR, Fate.LOST})


class Maturity(StrEnum):
    """How far a calibration is trusted."""

    DRAFT = "draft"
    CERTIFIED = "certified"
    WITHDRAWN = "withdrawn"
