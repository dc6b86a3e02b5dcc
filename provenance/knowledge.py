"""What is known of runs of steps, read back: of one run, of a campaign, and over all campaigns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import case, distinct, func, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import (
    AttemptRow,
    DerivationRow,
    DifferenceRow,
    ExecutionRow,
    FileRow,
    InputUseRow,
    JobRow,
)
from nightmill.model.base import grouped
from nightmill.model.observed import Consequence, DifferenceKind, Level

Witness = Literal["", "inotify", "strace"]


@dataclass(frozen=True, slots=True)
class SeenDifference:
    """One difference between what was planned, seen and told."""

    kind: str
    name: str
    """Of the file; a path, or the role, where no file can be named."""
    detail: str
    consequence: str

    def __str__(self) -> str:
        """Say it in words, with its name."""
        kind = self.kind.replace("_", " ")
        return f"{kind}: {self.name}{f': {self.detail}' if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of a run of a step beside what it did.

    Parameters
    ----------
    level, by, lacking
        How it was confined, what held it, and what was not held.
    witness
        Who saw what it opened; empty where nobody did.
    inputs, opened, left_out
        How many files on record it was to read, how many it was seen to open, how many it tells it did not use.
    told
        Whether it told anything of what it used.
    reached
        Paths outside of what it was given that it tried to reach.
    """

    level: str
    by: tuple[str, ...]
    lacking: tuple[str, ...]
    witness: Witness
    inputs: int
    opened: int
    left_out: int
    told: bool
    reached: tuple[str, ...]
    differences: tuple[SeenDifference, ...]


def observed(session: Session, executions: Sequence[ExecutionRow]) -> dict[int, Observed]:
    """Return what is known of runs, by their IDs; of which nothing is known are left out."""
    known = [row for row in executions if row.level is not None]
    if not known:
        return {}
    ids = [row.id for row in known]
    use = InputUseRow
    of_each = (use.planned.is_(True), use.opened.is_(True), use.contributed.is_(False))
    counts = (
        select(use.execution_id, *(func.count(distinct(case((each, use.file_id)))) for each in of_each))
        .where(among(InputUseRow.execution_id, ids))
        .group_by(InputUseRow.execution_id)
    )
    counted = {id_: (inputs, opened, left_out) for id_, inputs, opened, left_out in session.execute(counts)}
    differences: dict[int, list[SeenDifference]] = {}
    query = select(DifferenceRow).where(among(DifferenceRow.execution_id, ids))
    for each in session.scalars(query.order_by(DifferenceRow.execution_id, DifferenceRow.number)):
        seen = SeenDifference(each.kind, each.name, each.detail, each.consequence)
        differences.setdefault(each.execution_id, []).append(seen)
    found = {}
    for row in known:
        confined, (inputs, opened, left_out) = row.confined or {}, counted.get(row.id, (0, 0, 0))
        found[row.id] = Observed(
            level=row.level or "",
            by=tuple(confined.get("by", ())),
            lacking=tuple(confined.get("lacking", ())),
            witness=cast(Witness, row.witness or ""),
            inputs=inputs,
            opened=opened,
            left_out=left_out,
            told=bool(row.told),
            reached=tuple(row.reached or ()),
            differences=tuple(differences.get(row.id, ())),
        )
    return found


def sources_of(session: Session, file_id: int) -> tuple[str, ...]:
    """Return the names of what a file was made of, by the word of the step that made it."""
    query = select(FileRow.name).join(DerivationRow, DerivationRow.from_id == FileRow.id)
    return tuple(session.scalars(query.where(DerivationRow.file_id == file_id).order_by(FileRow.name)))


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much is known of the runs of steps that the results of a campaign stand on.

    Parameters
    ----------
    runs
        How many there are.
    confined, witnessed, told
        How many were held to what they were given, how many a witness saw, how many told anything of what they used.
    silent
        How many may eliminate inputs and told nothing.
    """

    runs: int = 0
    confined: int = 0
    witnessed: int = 0
    told: int = 0
    silent: int = 0

    def __str__(self) -> str:
        """Say it in a line."""
        silent = f", {self.silent:,} silent that may eliminate" if self.silent else ""
        return (
            f"of {self.runs:,} {'run' if self.runs == 1 else 'runs'} of steps {self.confined:,} confined,"
            f" {self.witnessed:,} witnessed, {self.told:,} told what they used{silent}"
        )


@dataclass(frozen=True, slots=True)
class Warned:
    """A kind of difference of which the results of a campaign warn.

    Parameters
    ----------
    count, jobs
        How many differences there are, of how many jobs.
    example
        The unit of one of these.
    """

    stage: str
    step: str
    kind: str
    count: int
    jobs: int
    example: str

    def __str__(self) -> str:
        """Say it in a line."""
        kind = f"{self.kind.replace('_', ' ')} ({DifferenceKind(self.kind).meaning})"
        jobs = f"{self.jobs:,} {'job' if self.jobs == 1 else 'jobs'}"
        return f"{self.stage}/{self.step}: {kind}: {self.count:,} in {jobs}, as {self.example}"


def completeness(session: Session, campaign_ids: Collection[int]) -> dict[int, Completeness]:
    """Return how much is known of campaigns, by their IDs; two statements."""
    held = case((ExecutionRow.level.in_([Level.STANDARD, Level.AUDIT]), 1))
    columns = (held, case((ExecutionRow.witness != "", 1)), case((ExecutionRow.told.is_(True), 1)))
    query = (
        select(JobRow.campaign_id, func.count(), *map(func.count, columns))
        .join(AttemptRow, AttemptRow.job_id == JobRow.id)
        .join(ExecutionRow, ExecutionRow.attempt_id == AttemptRow.id)
        .where(among(JobRow.campaign_id, campaign_ids), AttemptRow.result)
        .group_by(JobRow.campaign_id)
    )
    silent = (
        select(JobRow.campaign_id, func.count(distinct(DifferenceRow.execution_id)))
        .join(AttemptRow, AttemptRow.job_id == JobRow.id)
        .join(ExecutionRow, ExecutionRow.attempt_id == AttemptRow.id)
        .join(DifferenceRow, DifferenceRow.execution_id == ExecutionRow.id)
        .where(among(JobRow.campaign_id, campaign_ids), AttemptRow.result)
        .where(DifferenceRow.kind == DifferenceKind.SILENT)
        .group_by(JobRow.campaign_id)
    )
    silents = dict(session.execute(silent).tuples().all())
    return {
        id_: Completeness(runs, confined, witnessed, told, silents.get(id_, 0))
        for id_, runs, confined, witnessed, told in session.execute(query)
    }


def warned(session: Session, campaign_ids: Collection[int]) -> dict[int, list[Warned]]:
    """Return what the results of campaigns warn of, by their IDs, the most frequent first: one statement."""
    kinds = (JobRow.campaign_id, JobRow.stage, ExecutionRow.step, DifferenceRow.kind)
    query = (
        select(*kinds, func.count(), func.count(distinct(JobRow.id)), func.min(JobRow.unit))
        .join(AttemptRow, AttemptRow.job_id == JobRow.id)
        .join(ExecutionRow, ExecutionRow.attempt_id == AttemptRow.id)
        .join(DifferenceRow, DifferenceRow.execution_id == ExecutionRow.id)
        .where(among(JobRow.campaign_id, campaign_ids), AttemptRow.result)
        .where(DifferenceRow.consequence == Consequence.WARNED)
        .group_by(*kinds)
        .order_by(func.count().desc(), *kinds)
    )
    return grouped((id_, Warned(*each)) for id_, *each in session.execute(query))
