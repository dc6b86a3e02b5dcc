"""What its operators want of a campaign: to go on, to pause, to end; and how urgent it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow
from nightmill.backbone.work.campaigns import StageProgress
from nightmill.backbone.work.limits import Limits, limits_of
from nightmill.errors import RequestRefused
from nightmill.model.states import AttemptState, Course, JobState

_ENDED: Final = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
_OPEN: Final = [state.value for state in AttemptState if not state.ended]


@dataclass(frozen=True)
class Steering:
    """The course of a campaign.

    Parameters
    ----------
    who, why
        Who set it on that course, and why; empty where nobody did since it was submitted.
    priority
        Jobs of the campaign with the highest get cores first.
    limits
        What it may use.
    """

    course: Course = Course.GOES_ON
    who: str = ""
    why: str = ""
    priority: int = 0
    limits: Limits = field(default_factory=Limits)

    @property
    def halts(self) -> bool:
        """Whether no further job of it may begin."""
        return self.course is not Course.GOES_ON

    @property
    def is_paused(self) -> bool:
        """Whether it is paused, in either way."""
        return self.course in (Course.PAUSED, Course.STOPPED)

    @property
    def ends_what_runs(self) -> bool:
        """Whether jobs that run are to be ended."""
        return self.course in (Course.STOPPED, Course.CANCELLED)

    def __str__(self) -> str:
        """Say what it is, who wanted it and why: ``paused by mara: clouds``."""
        word = "paused" if self.is_paused else "cancelled" if self.halts else "going on"
        return f"{word} by {self.who}: {self.why}" if self.who else word


def of_row(row: CampaignRow) -> Steering:
    """Return the course of a campaign whose row is at hand."""
    limits = limits_of(row.most_jobs, row.hosts, row.limited_by, row.limited_why)
    return Steering(Course(row.course), row.steered_by or "", row.steered_why or "", row.priority, limits)


def steering_of(session: Session, campaign_id: int, *, to_issue: bool = False) -> Steering:
    """Return the course of a campaign.

    Parameters
    ----------
    to_issue
        Nobody changes it before the transaction ends, which is a writing one: what is issued in it was issued before.
    """
    course = (CampaignRow.course, CampaignRow.steered_by, CampaignRow.steered_why, CampaignRow.priority)
    limits = (CampaignRow.most_jobs, CampaignRow.hosts, CampaignRow.limited_by, CampaignRow.limited_why)
    query = select(*course, *limits).where(CampaignRow.id == campaign_id)
    if to_issue:
        query = query.with_for_update(read=True)
    found, who, why, priority, *limited = session.execute(query).one()
    return Steering(Course(found), who or "", why or "", priority, limits_of(*limited))


def locked(session: Session, campaign_id: int) -> Steering:
    """Return the course of a campaign, which nobody else changes before the transaction ends."""
    session.execute(select(CampaignRow.id).where(CampaignRow.id == campaign_id).with_for_update())
    return steering_of(session, campaign_id)


def set_course(session: Session, campaign_id: int, course: Course, *, who: str, why: str) -> None:
    """Set a campaign on a course."""
    values = {"course": course.value, "steered_by": who, "steered_why": why}
    session.execute(update(CampaignRow).where(CampaignRow.id == campaign_id).values(values))


def set_priority(session: Session, campaign_id: int, priority: int) -> None:
    """Say how urgent a campaign is."""
    session.execute(update(CampaignRow).where(CampaignRow.id == campaign_id).values(priority=priority))


def cancel_jobs(session: Session, campaign_id: int) -> None:
    """Cancel the jobs of a campaign that are not at their end, those with an open attempt too.

    An attempt that publishes after all is the result of its job; one that ends otherwise changes nothing. What held a
    job holds it again when it is taken up.
    """
    states = [state for state in JobState if state not in _ENDED]
    going = (JobRow.campaign_id == campaign_id) & JobRow.state.in_(states)
    session.execute(
        update(JobRow).where(going).values(state=JobState.CANCELLED.value),
        execution_options={"synchronize_session": False},
    )


def take_up_cancelled(session: Session, campaign_id: int) -> None:
    """Have jobs that were cancelled be held again, or carried out, where they are; a rerun chooses among the others."""
    cancelled = (JobRow.campaign_id == campaign_id) & (JobRow.state == JobState.CANCELLED)
    was_held = JobRow.held_by.is_not(None)
    for state, which in ((JobState.HELD, was_held), (JobState.ACTIVE, ~was_held & is_open())):
        session.execute(
            update(JobRow).where(cancelled, which).values(state=state.value),
            execution_options={"synchronize_session": False},
        )


def is_open() -> ColumnElement[bool]:
    """Say of a job that an attempt of it has not ended, as far as anybody has told."""
    unended = select(AttemptRow.id).where(AttemptRow.job_id == JobRow.id, AttemptRow.state.in_(_OPEN))
    return unended.correlate(JobRow).exists()


def open_attempts(session: Session, campaign_id: int) -> int:
    """Return how many attempts of a campaign have not ended, as far as anybody has told."""
    query = select(func.count()).select_from(AttemptRow).join(JobRow, JobRow.id == AttemptRow.job_id)
    of_campaign = (JobRow.campaign_id == campaign_id, AttemptRow.state.in_(_OPEN), AttemptRow.lease_id.is_not(None))
    return session.scalar(query.where(*of_campaign)) or 0


def waits(stages: Collection[StageProgress]) -> bool:
    """Whether nothing is left of the stages that were planned but what is held."""
    held = sum(stage.counts.get(JobState.HELD, 0) for stage in stages)
    return 0 < held == sum(stage.total - stage.counts.get(JobState.DONE, 0) for stage in stages)


def refuse_paused(name: str, steering: Steering) -> None:
    """Refuse what a paused campaign cannot do.

    Raises
    ------
    RequestRefused
        Where it is paused.
    """
    if steering.is_paused:
        raise RequestRefused(f"campaign {name!r} is {steering}", remedy=f"have it go on with 'nightmill resume {name}'")


def refuse_cancelled(name: str, steering: Steering) -> None:
    """Refuse what a cancelled campaign cannot do.

    Raises
    ------
    RequestRefused
        Where it is cancelled.
    """
    if steering.course is Course.CANCELLED:
        raise RequestRefused(f"campaign {name!r} is {steering}", remedy=f"take it up with 'nightmill rerun {name}'")
