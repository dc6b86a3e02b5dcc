"""The journal of a job: how it tells what happened, and the report that its entries fold into.

A journal file is JSON lines: a header that says who writes it, then one entry a line. One process writes one file,
which may hold many attempts; the report of an attempt is the fold of its entries, so the same entries read twice say
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from nightmill.model.base import Frozen
from nightmill.model.fate import AttemptState, Fate
from nightmill.model.order import AttemptKey, DimensionValue, JobOrder

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
    data_id: Mapping[str, DimensionValue] = Field(default_factory=dict)
    metadata: Mapping[str, MetadataValue] = Field(default_factory=dict)
    begins_at: datetime | None = None
    ends_at: datetime | None = None


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
    packages: Mapping[str, str]
    """Package or program to version."""


class _Entry(Frozen):
    attempt: AttemptKey
    at: datetime


class Started(_Entry):
    """The attempt began; carries its order, so that a journal alone can be recorded."""

    entry: Literal["started"] = "started"
    order: JobOrder
    host: str


class Staged(_Entry):
    """Every input of the order stands in scratch with the right size (and checksum, by policy)."""

    entry: Literal["staged"] = "staged"
    files: int
    size_bytes: int


class StepBegan(_Entry):
    """A step's process was started."""

    entry: Literal["step_began"] = "step_began"
    step: str
    argv: tuple[str, ...]
    pid: int
    software: str
    """Digest of the stack, whose entry came before."""


class StepEnded(_Entry):
    """A step's process ended, in whatever way."""

    entry: Literal["step_ended"] = "step_ended"
    step: str
    exit_code: int | None
    signal: int | None = None
    cost: Cost


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


class Done(_Entry):
    """The end. Nothing follows it."""

    entry: Literal["done"] = "done"
    state: AttemptState
    fate: Fate
    step: str = ""
    evidence: str = ""
    """What went wrong, on what, in words, with the last lines of the step's output."""
    published: tuple[str, ...] = ()
    """Names of the intent's files that stand in their stores."""
    adopted: bool = False
    """True where the writer died while publishing and another process found every file in place."""


AttemptEntry = Started | Staged | StepBegan | StepEnded | Checked | Publishing | Done
"""An entry that belongs to an attempt."""

Entry = Annotated[SoftwareSeen | AttemptEntry, Field(discriminator="entry")]

ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
"""Reads an entry: ``ENTRY.validate_json(line)``."""


class StepReport(Frozen):
    """What is known of one step of one attempt."""

    name: str
    argv: tuple[str, ...]
    began_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    cost: Cost | None = None
    software: str
    """Digest of its stack."""


class JobReport(Frozen):
    """The fold of an attempt's entries."""

    attempt: AttemptKey
    order: JobOrder
    state: AttemptState
    fate: Fate | None = None
    host: str
    began_at: datetime
    ended_at: datetime | None = None
    steps: tuple[StepReport, ...] = ()
    intended: tuple[MadeFile, ...] = ()
    """What the intent named."""
    published: tuple[MadeFile, ...] = ()
    """What of it stands in its store, once the attempt has ended."""
    made: tuple[MadeFile, ...] = ()
    """Everything that passed the gate, intermediate files included."""
    failed_step: str = ""
    evidence: str = ""
    adopted: bool = False


def fold(entries: Iterable[Entry]) -> dict[AttemptKey, JobReport]:
    """Fold entries into a report an attempt.

    Entries of an attempt come in the order in which they were written; entries without a ``started`` before them, and
    entries after an end, say nothing.

    Returns
    -------
    dict
        Attempts in the order in which they began.
    """
    reports: dict[AttemptKey, JobReport] = {}
    for entry in entries:
        if isinstance(entry, Started):
            reports.setdefault(entry.attempt, _begin(entry))
        elif isinstance(entry, SoftwareSeen):
            continue
        elif (report := reports.get(entry.attempt)) is not None and not report.state.ended:
            reports[entry.attempt] = report.model_copy(update=_change(report, entry))
    return reports


def stacks(entries: Iterable[Entry]) -> dict[str, Mapping[str, str]]:
    """Return the software stacks that entries tell of, by their digests."""
    return {entry.sha256: entry.packages for entry in entries if isinstance(entry, SoftwareSeen)}


def _begin(entry: Started) -> JobReport:
    return JobReport(
        attempt=entry.attempt,
        order=entry.order,
        state=AttemptState.STAGING_IN,
        host=entry.host,
        began_at=entry.at,
    )


def _change(report: JobReport, entry: Entry) -> dict[str, object]:
    match entry:
        case StepBegan():
            step = StepReport(name=entry.step, argv=entry.argv, began_at=entry.at, software=entry.software)
            return {"state": AttemptState.RUNNING, "steps": (*report.steps, step)}
        case StepEnded() if report.steps:
            last = report.steps[-1].model_copy(
                update={
                    "ended_at": entry.at,
                    "exit_code": entry.exit_code,
                    "signal": entry.signal,
                    "cost": entry.cost,
                }
            )
            return {"state": AttemptState.CHECKING, "steps": (*report.steps[:-1], last)}
        case Checked():
            return {"made": report.made + entry.files}
        case Publishing():
            return {
                "state": AttemptState.PUBLISHING,
                "intended": entry.files,
                "fate": entry.fate,
                "failed_step": entry.step,
                "evidence": entry.evidence,
            }
        case Done():
            return {
                "state": entry.state,
                "fate": entry.fate,
                "ended_at": entry.at,
                "failed_step": entry.step,
                "evidence": entry.evidence,
                "published": tuple(file for file in report.intended if file.name in entry.published),
                "adopted": entry.adopted,
            }
        case _:
            return {}
