"""Operations statistics: what jobs took of what their stages ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from sqlalchemy import case, func, null, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, ExecutionRow, JobRow, PlanRow
from nightmill.backbone.work.campaigns import campaign_named
from nightmill.errors import UnknownName
from nightmill.model.fate import Fate
from nightmill.model.pipeline import Stage
from nightmill.model.states import ExecutionState

CUT_SHORT: Final = (Fate.OUT_OF_MEMORY, Fate.WALL_LIMIT)
"""Ends of a step that had too little of something: what it would have taken is not known, only that it is more."""
_AT_ONCE: Final = 10_000


class Run(NamedTuple):
    """The run of a step that counts for a job."""

    job_id: int
    step: str
    cut: str | None
    """How it was cut short; None where it ended well."""
    wall_seconds: float
    cpu_seconds: float
    max_rss_bytes: int | None
    read_bytes: int | None
    written_bytes: int | None


class PlannedStage(NamedTuple):
    """A stage as it was planned last."""

    pipeline: str
    stage: Stage


def planned_stages(
    session: Session, *, campaign: str = "", pipeline: str = "", stage: str = ""
) -> Sequence[PlannedStage]:
    """Return the stages that were planned, each as it was last, by pipeline and in the order of that.

    Parameters
    ----------
    campaign, pipeline, stage
        Only those of this campaign, of this pipeline, or of this name.

    Raises
    ------
    UnknownName
        Where there is no such campaign, or no such pipeline or stage among them; with a guess.
    """
    newest = select(func.max(PlanRow.id)).join(CampaignRow, CampaignRow.id == PlanRow.campaign_id)
    if campaign:
        newest = newest.where(CampaignRow.id == campaign_named(session, campaign).id)
    query = (
        select(CampaignRow.pipeline, PlanRow.common["stage"])
        .join(CampaignRow, CampaignRow.id == PlanRow.campaign_id)
        .where(PlanRow.id.in_(newest.group_by(CampaignRow.pipeline, PlanRow.stage)))
        .order_by(CampaignRow.pipeline, PlanRow.position, PlanRow.id)
    )
    found = [PlannedStage(name, Stage.model_validate(planned)) for name, planned in session.execute(query)]
    if pipeline and pipeline not in (known := sorted({each.pipeline for each in found})):
        raise UnknownName("pipeline with a plan", pipeline, known)
    found = [each for each in found if pipeline in ("", each.pipeline)]
    if stage and stage not in (names := [each.stage.name for each in found]):
        raise UnknownName("stage with a plan", stage, names)
    return [each for each in found if stage in ("", each.stage.name)]


def runs_of(session: Session, planned: PlannedStage, *, campaign: str = "") -> Iterator[Run]:
    """Return what the jobs of a stage took, those of a job one after the other; they are read as they are asked for.

    A job counts once a step: with the last run that ended well, else with the last that was cut short. What another run
    took, such as one that was killed for lack of memory before one with more of it, says nothing of what the job needs.

    Parameters
    ----------
    campaign
        Only jobs of this one.
    """
    ended_well = ExecutionRow.state == ExecutionState.SUCCEEDED
    was_cut = AttemptRow.fate.in_(CUT_SHORT) & (AttemptRow.failed_step == ExecutionRow.step)
    place = func.row_number().over(
        partition_by=(AttemptRow.job_id, ExecutionRow.step),
        order_by=(case((ended_well, 0), else_=1), AttemptRow.number.desc()),
    )
    ran = (
        select(
            AttemptRow.job_id,
            ExecutionRow.step,
            case((ended_well, null()), else_=AttemptRow.fate).label("cut"),
            ExecutionRow.wall_seconds,
            (ExecutionRow.user_seconds + ExecutionRow.system_seconds).label("cpu_seconds"),
            ExecutionRow.max_rss_bytes,
            ExecutionRow.read_bytes,
            ExecutionRow.written_bytes,
            place.label("place"),
        )
        .join(AttemptRow, AttemptRow.id == ExecutionRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(CampaignRow.pipeline == planned.pipeline, JobRow.stage == planned.stage.name)
        .where(ExecutionRow.step.in_([step.name for step in planned.stage.steps]))
        .where(ended_well | was_cut, ExecutionRow.wall_seconds.is_not(None))
    )
    if campaign:
        ran = ran.where(CampaignRow.name == campaign)
    counting = ran.subquery()
    query = select(*[each for each in counting.c if each.key != "place"])
    query = query.where(counting.c.place == 1).order_by(counting.c.job_id)
    return (Run(*row) for row in session.execute(query.execution_options(yield_per=_AT_ONCE)))
