"""Slices: what one Prefect flow run conducts, and how its jobs stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.campaigns import JobLine, jobs
from nightmill.backbone.schema import CampaignRow, JobRow, SliceRow
from nightmill.errors import UnknownName
from nightmill.model.campaign import Campaign
from nightmill.model.fate import JobState


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


def find_slice(session: Session, campaign: str, stage: str, number: int) -> Slice:
    """Return a slice.

    Raises
    ------
    UnknownName
        Where there is none.
    """
    row = session.execute(
        select(SliceRow.id, SliceRow.campaign_id, CampaignRow.definition)
        .join(CampaignRow, CampaignRow.id == SliceRow.campaign_id)
        .where(CampaignRow.name == campaign, SliceRow.stage == stage, SliceRow.number == number)
    ).one_or_none()
    if row is None:
        raise UnknownName("slice", f"{campaign}/{stage}/{number}", remedy="see 'nightmill status' for the campaigns")
    return Slice(row.id, row.campaign_id, Campaign.model_validate(row.definition))


def slice_jobs(session: Session, found: Slice) -> SliceJobs:
    """Return how the jobs of a slice stand, with those that failed in the order of the plan."""
    counts = session.execute(
        select(JobRow.state, func.count()).where(JobRow.slice_id == found.slice_id).group_by(JobRow.state)
    )
    failed = jobs(session, found.campaign_id, slice_id=found.slice_id, states=[JobState.FAILED])
    return SliceJobs({JobState(state): count for state, count in counts}, tuple(failed))
