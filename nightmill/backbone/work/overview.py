"""Campaigns at a glance: what their jobs failed of, and where they run; a few rows, however many jobs there are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import AttemptRow, ErrorRuleRow, JobRow
from nightmill.model.base import grouped
from nightmill.model.states import JobState


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed jobs of a stage whose last attempts came to the same end in the same step.

    Parameters
    ----------
    step, fate
        Empty where there is none on record.
    count
        How many they are.
    example
        The unit of one of them.
    error
        The name that the site has for it; empty where it has none.
    """

    stage: str
    step: str
    fate: str
    count: int
    example: str
    error: str = ""


def failures_of(session: Session, campaign_ids: Collection[int]) -> dict[int, list[Failures]]:
    """Return what jobs of campaigns failed of, by the campaign's ID, what is most frequent first: one statement."""
    kinds = (JobRow.campaign_id, JobRow.stage, AttemptRow.failed_step, AttemptRow.fate, ErrorRuleRow.name)
    query = (
        select(*kinds, func.count(), func.min(JobRow.unit))
        .outerjoin(AttemptRow, (AttemptRow.job_id == JobRow.id) & (AttemptRow.number == JobRow.attempts))
        .outerjoin(ErrorRuleRow, ErrorRuleRow.id == AttemptRow.error_id)
        .where(among(JobRow.campaign_id, campaign_ids), JobRow.state == JobState.FAILED)
        .group_by(*kinds)
        .order_by(func.count().desc(), JobRow.stage)
    )
    return grouped(
        (number, Failures(stage, step or "", fate or "", count, example, error or ""))
        for number, stage, step, fate, error, count, example in session.execute(query)
    )


@dataclass(frozen=True, slots=True)
class Accepted:
    """Jobs whose results have a step that exited with an error, which the site accepts.

    Parameters
    ----------
    jobs
        How many they are.
    """

    error: str
    explanation: str
    link: str
    jobs: int


def accepted_in(session: Session, campaign_ids: Collection[int]) -> dict[int, list[Accepted]]:
    """Return what was accepted in jobs of campaigns, by the campaign's ID, the most frequent first: one statement."""
    error = (ErrorRuleRow.name, ErrorRuleRow.explanation, ErrorRuleRow.link)
    query = (
        select(JobRow.campaign_id, *error, func.count())
        .join(AttemptRow, AttemptRow.error_id == ErrorRuleRow.id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(among(JobRow.campaign_id, campaign_ids), AttemptRow.result)
        .group_by(JobRow.campaign_id, *error)
        .order_by(func.count().desc(), ErrorRuleRow.name)
    )
    return grouped((campaign_id, Accepted(*accepted)) for campaign_id, *accepted in session.execute(query))


def hosts_of(session: Session, campaign_ids: Collection[int]) -> dict[str, int]:
    """Return how many jobs of campaigns each host carries out, by its name: one statement."""
    query = (
        select(AttemptRow.host, func.count())
        .join(JobRow, (AttemptRow.job_id == JobRow.id) & (AttemptRow.number == JobRow.attempts))
        .where(among(JobRow.campaign_id, campaign_ids), JobRow.state == JobState.ACTIVE, AttemptRow.host.is_not(None))
        .group_by(AttemptRow.host)
        .order_by(AttemptRow.host)
    )
    return {host: count for host, count in session.execute(query) if host}
