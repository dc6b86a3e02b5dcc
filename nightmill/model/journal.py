"""The journal of a job: how it tells what happened, and the report that its entries fold into.

A journal file is JSON lines: a header that says who writes it, then one entry a line. One process writes one file,
which may hold many attempts; the report of an attempt is the fold of its entries, so the same entries read twice say
the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from nightmill.model.attachment import Attachment
from nightmill.model.base import Frozen
from nightmill.model.dimensions import KeyValue
from nightmill.model.fate import Fate
from nightmill.model.file_warning import FileWarning
from nightmill.model.footprint import Footprint
from nightmill.model.observed import Observation
from nightmill.model.order import AttemptKey, ErrorName, JobOrder
from nightmill.model.software import Stack
from nightmill.model.statement import Envelope
from nightmill.model.states import AttemptState

JOURNAL_VERSION: Final = 1

MetadataValue = str | int | float | bool | None


class Owner(Frozen):
    """A process, so named that a later one with its number cannot be taken for it."""

    host: str
    boot_id: str
    """Which boot of the host and, behind a slash, in which PID namespace; journals of before have the boot alone."""
    pid: int
    started_at: float
    """When the process started: seconds after the boot, which no setting of the clock changes."""


class JournalHeader(Frozen):
    """The first line of a journal file."""

    journal: Literal[1] = JOURNAL_VERSION
    owner: Owner
    begun_at: datetime
    writer: str = ""
    """The journal's own name: a file that says another is a copy. Part of the names of temporary uploads."""
    dispatch: str = Field(default="", exclude_if=lambda dispatch: not dispatch)
    """The dispatch that it is of; empty where its writer was given its orders otherwise."""


class MadeFile(Frozen):
    """A file that an attempt made, as the gate found it."""

    name: str
    role: str
    type: str
    step: str
    """Empty for the log, which belongs to the attempt."""
    size_bytes: int
    sha256: str
    store: str = ""
    """Empty for an intermediate file."""
    path: str = ""
    """Below the store's URL."""
    produced_name: str = ""
    """The step's own name for it, where the job renamed it."""
    data_id: Mapping[str, KeyValue] = Field(default_factory=dict)
    metadata: Mapping[str, MetadataValue] = Field(default_factory=dict)
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    attachments: tuple[Attachment, ...] = ()
    """What it holds row by row and its type wants on record; they stand in the spool since it was checked."""
    footprints: tuple[Footprint, ...] = ()
    """Which parts of the sky it covers, where its type wants to know."""
    warnings: tuple[FileWarning, ...] = Field(default=(), exclude_if=lambda warnings: not warnings)
    """What those of its checks found that hold no file back."""


class Cost(Frozen):
    """What a step's process tree cost."""

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    max_rss_bytes: int
    """Peak of the tree: the sampled sum, or what the kernel tells of its largest process where that is more (it tells
    nothing of one that stays below nightmill's own size)."""
    read_bytes: int
    written_bytes: int


class SoftwareSeen(Frozen):
    """A software stack, told once a journal before the first step that runs with it."""

    entry: Literal["software"] = "software"
    sha256: str
    stack: Stack | None = Field(default=None, exclude_if=lambda stack: stack is None)
    packages: Mapping[str, str] = Field(default_factory=dict, exclude_if=lambda packages: not packages)
    """Package or program to version, in journals of before."""

    @property
    def seen(self) -> Stack:
        """The stack, whichever way it is told."""
        return self.stack or Stack.read(self.packages)


class _Entry(Frozen):
    attempt: AttemptKey
    at: datetime


class Started(_Entry):
    """The attempt began; carries its order, so that a journal alone can be recorded."""

    entry: Literal["started"] = "started"
    order: JobOrder
    host: str


class PassedOver(Frozen):
    """A copy of an input that could not be had."""

    name: str
    store: str
    why: str
    fate: Fate | None = None
    """What the attempt ends with where no other copy can be had, either; None in journals of before."""


class Staged(_Entry):
    """Every input of the order stands in scratch with the right size (and checksum, by policy)."""

    entry: Literal["staged"] = "staged"
    files: int
    size_bytes: int
    passed_over: tuple[PassedOver, ...] = ()
    """Copies that were tried in vain before the one that was staged; empty as a rule."""


class NotStaged(_Entry):
    """No copy of some input could be had: the attempt fails."""

    entry: Literal["not_staged"] = "not_staged"
    passed_over: tuple[PassedOver, ...]
    """Copies that were tried in vain, of inputs of which another one could be had as well."""


class StepBegan(_Entry):
    """A step's process was started."""

    entry: Literal["step_began"] = "step_began"
    step: str
    argv: tuple[str, ...]
    pid: int
    software: str
    """Digest of the stack, whose entry came before."""
    environment: Mapping[str, str] = Field(default_factory=dict, exclude_if=lambda environment: not environment)
    """What it saw beside its places: what it had from its worker, and what its order says."""


class StepEnded(_Entry):
    """A step's process ended, in whatever way."""

    entry: Literal["step_ended"] = "step_ended"
    step: str
    exit_code: int | None
    signal: int | None = None
    accepted: ErrorName | None = None
    """The rule of its order by which the exit code counts as good."""
    cost: Cost


class StepObserved(_Entry):
    """What is known of a step that ended: how it was confined, what it opened, what it told."""

    entry: Literal["step_observed"] = "step_observed"
    step: str
    observed: Observation


class Checked(_Entry):
    """Every output of one step passed the gate."""

    entry: Literal["checked"] = "checked"
    step: str
    files: tuple[MadeFile, ...]


class Publishing(_Entry):
    """The intent: these files are about to appear in their stores. Durable before the first of them does."""

    entry: Literal["publishing"] = "publishing"
    files: tuple[MadeFile, ...]
    fate: Fate = Fate.PUBLISHED
    """The fate that the attempt has once they stand: an attempt that failed publishes its log too."""
    step: str = ""
    evidence: str = ""


class Sealed(_Entry):
    """What the worker claims of the attempt, signed: told before the intent, so that what is published is claimed."""

    entry: Literal["sealed"] = "sealed"
    envelope: Envelope


class Done(_Entry):
    """The end. Nothing follows it."""

    entry: Literal["done"] = "done"
    state: AttemptState
    fate: Fate
    step: str = ""
    evidence: str = ""
    """What went wrong, on what, in words, with what the step's output tells of it: the line that tells best, and the
    last."""
    published: tuple[str, ...] = ()
    """Names of the intent's files that stand in their stores."""
    adopted: bool = False
    """True where the writer died while publishing and another process found every file in place."""


AttemptEntry = (
    Started | Staged | NotStaged | StepBegan | StepEnded | StepObserved | Checked | Sealed | Publishing | Done
)
"""An entry that belongs to an attempt."""

Entry = Annotated[SoftwareSeen | AttemptEntry, Field(discriminator="entry")]

ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
"""Reads an entry: ``ENTRY.validate_json(line)``."""
