"""What became of an attempt: the fold of what its journal tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import Field

from nightmill.model.base import Frozen
from nightmill.model.fate import Fate
from nightmill.model.journal import (
    Checked,
    Cost,
    Done,
    Entry,
    MadeFile,
    NotStaged,
    PassedOver,
    Publishing,
    Sealed,
    SoftwareSeen,
    Staged,
    Started,
    StepBegan,
    StepEnded,
    StepObserved,
)
from nightmill.model.observed import Observation
from nightmill.model.order import AttemptKey, ErrorName, JobOrder
from nightmill.model.software import Stack
from nightmill.model.statement import Envelope
from nightmill.model.states import AttemptState


class StepReport(Frozen):
    """What is known of one step of one attempt."""

    name: str
    argv: tuple[str, ...]
    began_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    accepted: ErrorName | None = None
    """The rule by which its exit code counts as good."""
    cost: Cost | None = None
    software: str
    """Digest of its stack."""
    environment: Mapping[str, str] = Field(default_factory=dict)
    """What it saw beside its places; empty in journals of before."""
    observed: Observation | None = None
    """What is known of it beside; None in journals of before."""

    @property
    def known_software(self) -> str:
        """Digest of its stack, with the libraries that it loaded where these are known."""
        return (self.observed.software if self.observed is not None else "") or self.software


class JobReport(Frozen):
    """The fold of an attempt's entries."""

    attempt: AttemptKey
    order: JobOrder
    state: AttemptState
    fate: Fate | None = None
    host: str
    began_at: datetime
    staged_at: datetime | None = None
    """When every input stood in its scratch."""
    passed_over: tuple[PassedOver, ...] = ()
    """Copies of its inputs that could not be had."""
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
    sealed: Envelope | None = None
    """What its worker claimed of it, signed; None where it signs nothing, and in journals of before."""


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


def stacks(entries: Iterable[Entry]) -> dict[str, Stack]:
    """Return the software stacks that entries tell of, by their digests.

    One whose digest is not that of what is told of it is left out; of stacks of journals of before nobody can tell.
    """
    told = (entry for entry in entries if isinstance(entry, SoftwareSeen))
    return {entry.sha256: entry.seen for entry in told if entry.stack is None or entry.stack.sha256 == entry.sha256}


def _begin(entry: Started) -> JobReport:
    return JobReport(
        attempt=entry.attempt, order=entry.order, state=AttemptState.STAGING_IN, host=entry.host, began_at=entry.at
    )


def _change(report: JobReport, entry: Entry) -> dict[str, object]:
    match entry:
        case Staged() | NotStaged():
            staged = {"staged_at": entry.at} if isinstance(entry, Staged) else {}
            return {**staged, "passed_over": entry.passed_over}
        case StepBegan():
            step = StepReport(
                name=entry.step,
                argv=entry.argv,
                began_at=entry.at,
                software=entry.software,
                environment=entry.environment,
            )
            return {"state": AttemptState.RUNNING, "steps": (*report.steps, step)}
        case StepEnded() | StepObserved() if report.steps:
            last = report.steps[-1].model_copy(update=_told(entry))
            return {"state": AttemptState.CHECKING, "steps": (*report.steps[:-1], last)}
        case Checked():
            return {"made": report.made + entry.files}
        case Sealed():
            return {"sealed": entry.envelope}
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


def _told(entry: StepEnded | StepObserved) -> dict[str, object]:
    """Return what is known of a step since it ended."""
    if isinstance(entry, StepObserved):
        return {"observed": entry.observed}
    return {
        "ended_at": entry.at,
        "exit_code": entry.exit_code,
        "signal": entry.signal,
        "accepted": entry.accepted,
        "cost": entry.cost,
    }


def pace_of(reports: Sequence[JobReport]) -> float:
    """Return the seconds that each of several jobs took which one thread carried out one after another."""
    began_at = min(report.began_at for report in reports)
    ended_at = max(report.ended_at or report.began_at for report in reports)
    return (ended_at - began_at).total_seconds() / len(reports)
