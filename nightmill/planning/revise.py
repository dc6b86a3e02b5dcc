"""Revising sealed plans: what is not done goes on with another bundle; what is done keeps the one that it ran."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.schema import JobRow, PlanRow
from nightmill.model.base import canonical_json
from nightmill.model.bundle import SealedBundle
from nightmill.model.states import JobState

REVISED: Final = tuple(state for state in JobState if state is not JobState.DONE)
"""Jobs whose next attempt runs the new bundle; one that is under way ends with the bundle that it has."""


def revise(session: Session, campaign_id: int, bundle: SealedBundle, *, now: datetime) -> int:
    """Give every job of a campaign that is not done a new revision of its plan, with another bundle.

    Stages that are planned later take the bundle of the newest plan, so one is added also where every job is done.

    Parameters
    ----------
    session
        A writing one.

    Returns
    -------
    int
        How many jobs were revised.
    """
    of_campaign = JobRow.campaign_id == campaign_id
    ids = set(session.scalars(select(JobRow.plan_id).where(of_campaign, JobRow.state.in_(REVISED)).distinct()))
    if not ids:
        newest = session.scalar(select(func.max(PlanRow.id)).where(PlanRow.campaign_id == campaign_id))
        ids = {newest} if newest is not None else set()
    revised = 0
    plans = session.scalars(select(PlanRow).where(PlanRow.id.in_(ids)).order_by(PlanRow.position, PlanRow.id))
    for plan in plans.all():
        new = _revision(session, plan, bundle, now)
        theirs = (JobRow.plan_id == plan.id) & JobRow.state.in_(REVISED)
        revised += session.scalar(select(func.count()).select_from(JobRow).where(theirs)) or 0
        session.execute(
            update(JobRow).where(theirs).values(plan_id=new.id), execution_options={"synchronize_session": False}
        )
    return revised


def _revision(session: Session, plan: PlanRow, bundle: SealedBundle, now: datetime) -> PlanRow:
    common = {**plan.common, "bundle": bundle.model_dump(mode="json")}
    of_stage = (PlanRow.campaign_id == plan.campaign_id, PlanRow.stage == plan.stage)
    row = PlanRow(
        campaign_id=plan.campaign_id,
        stage=plan.stage,
        position=plan.position,
        revision=(session.scalar(select(func.max(PlanRow.revision)).where(*of_stage)) or 0) + 1,
        sha256=sha256(f"{canonical_json(common)}\nrevises {plan.sha256}".encode()).hexdigest(),
        watermark=plan.watermark,
        common=common,
        sealed_at=now,
    )
    session.add(row)
    session.flush()
    return row
