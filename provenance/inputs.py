"""What became of inputs, over all campaigns: staged in vain, eliminated and why, and how plan and use differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Select, case, cast, distinct, func, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, DifferenceRow, ExecutionRow, FileRow, InputUseRow, JobRow
from provenance.statistics import planned_stages


@dataclass(frozen=True, slots=True)
class NeverOpened:
    """Files that were staged for an input of a stage, and that a witness saw no step of the job open.

    Parameters
    ----------
    files, attempts, staged
        How many there are, for how many attempts they were staged, and how often together.
    size_bytes
        What was staged so.
    """

    campaign: str
    stage: str
    role: str
    files: int
    attempts: int
    staged: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class EliminatedFiles:
    """Files that the results of a campaign left out for a reason.

    Parameters
    ----------
    reason
        In the words of the step.
    files, jobs
        How many there are, and in how many jobs they were left out.
    example
        Name of one of them.
    """

    campaign: str
    stage: str
    role: str
    reason: str
    night: int | None
    detector: int | None
    files: int
    jobs: int
    example: str


@dataclass(frozen=True, slots=True)
class Differing:
    """Differences of a kind between what steps were planned to do, were seen to do, and told that they did.

    Parameters
    ----------
    count, jobs
        How many there are, and of how many jobs.
    example
        Name of a file, or the path or role.
    """

    campaign: str
    stage: str
    step: str
    kind: str
    consequence: str
    count: int
    jobs: int
    example: str


@dataclass(frozen=True, slots=True)
class InputsReport:
    """What became of inputs; what comes first is what there is most of."""

    never_opened: Sequence[NeverOpened]
    eliminated: Sequence[EliminatedFiles]
    differences: Sequence[Differing]


def inputs_report(session: Session, *, campaign: str = "", pipeline: str = "", stage: str = "") -> InputsReport:
    """Tell what became of inputs; three statements.

    What was staged in vain, and what differs, counts of every attempt; what was eliminated, of results.

    Parameters
    ----------
    campaign, pipeline, stage
        Only of this campaign, of this pipeline, of this stage.

    Raises
    ------
    UnknownName
        Where there is no such campaign, or no such pipeline or stage among its plans; with a guess.
    """
    if campaign or pipeline or stage:
        planned_stages(session, campaign=campaign, pipeline=pipeline, stage=stage)

    def of(query: Select[Any]) -> Select[Any]:
        for column, wanted in ((CampaignRow.name, campaign), (CampaignRow.pipeline, pipeline), (JobRow.stage, stage)):
            query = query.where(column == wanted) if wanted else query
        return query

    return InputsReport(
        never_opened=[NeverOpened(*row) for row in session.execute(of(_never_opened()))],
        eliminated=[EliminatedFiles(*row) for row in session.execute(of(_eliminated()))],
        differences=[Differing(*row) for row in session.execute(of(_differences()))],
    )


def _never_opened() -> Select[Any]:
    """Select inputs that each step of an attempt that might have opened them was seen not to open."""
    unopened = (
        select(ExecutionRow.attempt_id, InputUseRow.file_id, func.min(InputUseRow.role).label("role"))
        .join(ExecutionRow, ExecutionRow.id == InputUseRow.execution_id)
        .where(InputUseRow.planned)
        .group_by(ExecutionRow.attempt_id, InputUseRow.file_id)
        .having(func.count() == func.count(case((InputUseRow.opened.is_(False), 1))))
        .subquery()
    )
    size = cast(func.sum(FileRow.size_bytes), BigInteger)
    return (
        select(CampaignRow.name, JobRow.stage, unopened.c.role, func.count(distinct(FileRow.id)))
        .add_columns(func.count(distinct(AttemptRow.id)), func.count(), size)
        .join_from(unopened, AttemptRow, AttemptRow.id == unopened.c.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .join(FileRow, FileRow.id == unopened.c.file_id)
        .where(FileRow.attempt_id.is_distinct_from(AttemptRow.id))  # what the job made itself was not staged
        .group_by(CampaignRow.name, JobRow.stage, unopened.c.role)
        .order_by(size.desc(), CampaignRow.name, JobRow.stage, unopened.c.role)
    )


def _eliminated() -> Select[Any]:
    kinds = (CampaignRow.name, JobRow.stage, InputUseRow.role, InputUseRow.reason, FileRow.night, FileRow.detector)
    files = func.count(distinct(FileRow.id))
    return (
        select(*kinds, files, func.count(distinct(JobRow.id)), func.min(FileRow.name))
        .join_from(InputUseRow, ExecutionRow, ExecutionRow.id == InputUseRow.execution_id)
        .join(AttemptRow, AttemptRow.id == ExecutionRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .join(FileRow, FileRow.id == InputUseRow.file_id)
        .where(InputUseRow.planned, InputUseRow.contributed.is_(False), InputUseRow.reason.is_not(None))
        .where(AttemptRow.result)
        .group_by(*kinds)
        .order_by(files.desc(), *kinds)
    )


def _differences() -> Select[Any]:
    kinds = (CampaignRow.name, JobRow.stage, ExecutionRow.step, DifferenceRow.kind, DifferenceRow.consequence)
    return (
        select(*kinds, func.count(), func.count(distinct(JobRow.id)), func.min(DifferenceRow.name))
        .join_from(DifferenceRow, ExecutionRow, ExecutionRow.id == DifferenceRow.execution_id)
        .join(AttemptRow, AttemptRow.id == ExecutionRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .group_by(*kinds)
        .order_by(func.count().desc(), *kinds)
    )
