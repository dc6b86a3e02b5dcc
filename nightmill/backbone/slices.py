"""Slices: what one Prefect flow run conducts, and how its jobs stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow, SliceRow
from nightmill.errors import UnknownName
from nightmill.model.campaign import Campaign
from nightmill.model.fate import JobState


@dataclass(frozen=True)
class Slice:
    """A slice and the campaign that it belongs to."""

    slice_id: int
    campaign: Campaign


@dataclass(frozen=True)
class FailedJob:
    """A job that failed, and why."""

    name: str
    """``stage/unit``."""
    step: str
    fate: str
    evidence: str

    def __str__(self) -> str:
        first = self.evidence.partition("\n")[0]
        return ": ".join(part for part in (self.name, self.step, self.fate, first) if part)


@dataclass(frozen=True)
class SliceJobs:
    """How the jobs of a slice stand."""

    counts: Mapping[JobState, int]
    failed: tuple[FailedJob, ...]

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
        select(SliceRow.id, CampaignRow.definition)
        .join(CampaignRow, CampaignRow.id == SliceRow.campaign_id)
        .where(CampaignRow.name == campaign, SliceRow.stage == stage, SliceRow.number == number)
    ).one_or_none()
    if row is None:
        raise UnknownName("slice", f"{campaign}/{stage}/{number}", remedy="see 'nightmill status' for the campaigns")
    return Slice(row.id, Campaign.model_validate(row.definition))


def slice_jobs(session: Session, slice_id: int) -> SliceJobs:
    """Return how the jobs of a slice stand, with those that failed in the order of their units."""
    counts = session.execute(
        select(JobRow.state, func.count()).where(JobRow.slice_id == slice_id).group_by(JobRow.state)
    )
    failed = session.execute(
        select(JobRow.stage, JobRow.unit, AttemptRow.failed_step, AttemptRow.fate, AttemptRow.evidence)
        .join(AttemptRow, (AttemptRow.job_id == JobRow.id) & (AttemptRow.number == JobRow.attempts))
        .where(JobRow.slice_id == slice_id, JobRow.state == JobState.FAILED.value)
        .order_by(JobRow.id)
    )
    return SliceJobs(
        {JobState(state): count for state, count in counts},
        tuple(
            FailedJob(f"{stage}/{unit}", step or "", fate or "", evidence or "")
            for stage, unit, step, fate, evidence in failed
        ),
    )
