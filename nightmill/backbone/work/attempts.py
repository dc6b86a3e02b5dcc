"""Attempts by their names: how they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
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


def number_from(session: Session, campaign_id: int, given: Mapping[str, Mapping[str, int]]) -> None:
    """Let no job of a campaign give a number to an attempt that was given before it was on record here.

    Parameters
    ----------
    given
        The highest numbers that were given, by stage and unit.
    """
    of_job = (JobRow.campaign_id == campaign_id, JobRow.stage == bindparam("of_stage"))
    below = (JobRow.unit == bindparam("of_unit"), JobRow.attempts < bindparam("number"))
    rows = [
        {"of_stage": stage, "of_unit": unit, "number": number}
        for stage, units in given.items()
        for unit, number in units.items()
    ]
    if rows:
        statement = update(JobRow.__table__).where(*of_job, *below).values(attempts=bindparam("number"))  # type: ignore[arg-type]
        session.execute(statement, rows)
