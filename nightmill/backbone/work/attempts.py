"""Attempts by their names: how they stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow
from nightmill.backbone.work.ownership import is_own
from nightmill.model.order import AttemptKey
from nightmill.model.states import AttemptState

JobKey = tuple[str, str, str]
"""Campaign, stage, unit."""


@dataclass(frozen=True)
class Standing:
    """How an attempt stands, and the last number that its job gave."""

    state: AttemptState
    fate: str
    last: int


def job_key(attempt: AttemptKey) -> JobKey:
    """Return the job that an attempt is a try at."""
    return attempt.campaign, attempt.stage, attempt.unit


def standings(session: Session, attempts: Iterable[AttemptKey]) -> dict[AttemptKey, Standing]:
    """Return how attempts stand, by one query; those that are not on record are left out."""
    wanted = set(attempts)
    query = (
        select(
            CampaignRow.name, JobRow.stage, JobRow.unit, AttemptRow.number,
            AttemptRow.state, AttemptRow.fate, JobRow.attempts,
        )
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(
            CampaignRow.name.in_({key.campaign for key in wanted}),
            JobRow.stage.in_({key.stage for key in wanted}),
            among(JobRow.unit, {key.unit for key in wanted}),
        )
    )  # fmt: skip
    found = {
        AttemptKey(campaign=campaign, stage=stage, unit=unit, number=number): Standing(
            AttemptState(state), fate or "", last
        )
        for campaign, stage, unit, number, state, fate, last in session.execute(query)
    }
    return {key: standing for key, standing in found.items() if key in wanted}


def jobs_named(session: Session, keys: Iterable[JobKey]) -> dict[JobKey, JobRow]:
    """Return jobs of this site by campaign, stage and unit, by one query; those not on record are left out."""
    wanted = set(keys)
    query = (
        select(CampaignRow.name, JobRow)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(
            is_own(session),
            CampaignRow.name.in_({campaign for campaign, _, _ in wanted}),
            JobRow.stage.in_({stage for _, stage, _ in wanted}),
            among(JobRow.unit, {unit for _, _, unit in wanted}),
        )
    )
    found = {(campaign, row.stage, row.unit): row for campaign, row in session.execute(query)}
    return {key: row for key, row in found.items() if key in wanted}
