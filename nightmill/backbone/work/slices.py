"""Slices: what one Prefect flow run conducts, and how its jobs stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, not_, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import CampaignRow, JobRow, SliceRow
from nightmill.backbone.work.campaigns import JobLine, jobs, own_campaign
from nightmill.errors import UnknownName
from nightmill.model.base import grouped
from nightmill.model.campaign import Campaign
from nightmill.model.states import JobState


@dataclass(frozen=True)
class Slice:
    """A slice and the campaign that it belongs to."""

    slice_id: int
    campaign_id: int
    campaign: Campaign


@dataclass(frozen=True)
class SliceJobs:
    """How the jobs of a slice stand."""

    counts: Mapping[JobState, int]
    failed: tuple[JobLine, ...]

    @property
    def total(self) -> int:
        """How many jobs the slice has."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """How many of them have a result."""
        return self.counts.get(JobState.DONE, 0)


@dataclass(frozen=True)
class SliceLine:
    """A slice with the flow run that conducts it, or did last."""

    id: int
    stage: str
    number: int
    flow_run_id: str | None
    jobs: int
    done: int
    held: int

    @property
    def waits(self) -> bool:
        """Whether nothing of it is left but what is held."""
        return 0 < self.held == self.jobs - self.done


def find_slice(session: Session, campaign: str, stage: str, number: int) -> Slice:
    """Return a slice.

    Raises
    ------
    UnknownName
        Where there is none.
    RequestRefused
        Where its campaign is of another site.
    """
    row = session.execute(
        select(SliceRow.id, SliceRow.campaign_id, CampaignRow.definition)
        .join(CampaignRow, CampaignRow.id == SliceRow.campaign_id)
        .where(CampaignRow.name == campaign, SliceRow.stage == stage, SliceRow.number == number)
    ).one_or_none()
    if row is None:
        raise UnknownName("slice", f"{campaign}/{stage}/{number}", remedy="see 'nightmill status' for the campaigns")
    own_campaign(session, campaign)
    return Slice(row.id, row.campaign_id, Campaign.model_validate(row.definition))


def slice_jobs(session: Session, found: Slice) -> SliceJobs:
    """Return how the jobs of a slice stand, with those that failed in the order of the plan."""
    counts = session.execute(
        select(JobRow.state, func.count()).where(JobRow.slice_id == found.slice_id).group_by(JobRow.state)
    )
    failed = jobs(session, found.campaign_id, slice_id=found.slice_id, states=[JobState.FAILED])
    return SliceJobs({JobState(state): count for state, count in counts}, tuple(failed))


def next_try(session: Session, *, slice_id: int, but: Collection[str] = ()) -> datetime | None:
    """Return when the next job of a slice that waits for its next try may begin; None where none does.

    Parameters
    ----------
    but
        Units that do not count.
    """
    query = select(func.min(JobRow.ready_at)).where(
        JobRow.slice_id == slice_id, JobRow.state == JobState.FAILED.value, ~JobRow.passed_over
    )
    return session.scalar(query.where(not_(among(JobRow.unit, but))) if but else query)


def slices(session: Session, campaign_id: int, *, stage: str = "") -> list[SliceLine]:
    """Return the slices of a campaign, or of one stage of it, in the order of their sealing."""
    return slices_of(session, [campaign_id], stage=stage).get(campaign_id, [])


def slices_of(session: Session, campaign_ids: Collection[int], *, stage: str = "") -> dict[int, list[SliceLine]]:
    """Return the slices of campaigns, by the campaign's ID: one statement, however many they are."""
    done, held = (func.sum(case((JobRow.state == state.value, 1), else_=0)) for state in (JobState.DONE, JobState.HELD))
    columns = (SliceRow.campaign_id, SliceRow.id, SliceRow.stage, SliceRow.number, SliceRow.flow_run_id)
    query = (
        select(*columns, func.count(JobRow.id), done, held)
        .outerjoin(JobRow, JobRow.slice_id == SliceRow.id)
        .where(among(SliceRow.campaign_id, campaign_ids))
        .group_by(SliceRow.id)
        .order_by(SliceRow.id)
    )
    if stage:
        query = query.where(SliceRow.stage == stage)
    return grouped((number, SliceLine(*line)) for number, *line in session.execute(query))


def slice_numbers(session: Session, campaign_id: int, stage: str) -> tuple[int, ...]:
    """Return the numbers of a stage's slices, in the order of their sealing."""
    of_stage = (SliceRow.campaign_id == campaign_id, SliceRow.stage == stage)
    return tuple(session.scalars(select(SliceRow.number).where(*of_stage).order_by(SliceRow.id)))
