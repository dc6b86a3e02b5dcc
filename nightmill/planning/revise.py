"""Revising sealed plans: jobs go on with another bundle, other values or inputs; what ran keeps what it ran with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import JobRow, PlanRow
from nightmill.backbone.work.reruns import keep_details
from nightmill.model.base import canonical_json
from nightmill.model.bundle import SealedBundle
from nightmill.model.states import JobState
from nightmill.planning.sealed import StageCommon

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
        new = _revision(session, plan, {**plan.common, "bundle": bundle.model_dump(mode="json")}, now)
        theirs = (JobRow.plan_id == plan.id) & JobRow.state.in_(REVISED)
        revised += session.scalar(select(func.count()).select_from(JobRow).where(theirs)) or 0
        session.execute(
            update(JobRow).where(theirs).values(plan_id=new.id), execution_options={"synchronize_session": False}
        )
    return revised


def revise_jobs(
    session: Session,
    common: StageCommon,
    details: Mapping[int, Mapping[str, Any] | None],
    *,
    anew: bool = False,
    now: datetime,
) -> int:
    """Give some jobs of a stage a new revision of their plan; what they were planned with stays with their attempts.

    Parameters
    ----------
    session
        A writing one.
    common
        What the jobs share from now on.
    details
        The jobs' IDs, with what differs from job to job where that is otherwise now. Their plan is one and the same.
    anew
        Whether their inputs were chosen anew. The watermark stays: what else came since has its turn.

    Returns
    -------
    int
        Number of the revision.
    """
    [plan] = session.scalars(
        select(PlanRow).where(PlanRow.id.in_(select(JobRow.plan_id).where(among(JobRow.id, details))))
    ).all()
    new = _revision(session, plan, common.model_dump(mode="json"), now, details)
    other = {id_: detail for id_, detail in details.items() if detail is not None}
    keep_details(session, other)
    values: dict[str, Any] = {"plan_id": new.id, **({"stale": False, "renew": False} if anew else {})}
    if new.common["stage"]["resources"] != plan.common["stage"]["resources"]:
        values["memory_bytes"] = None  # what a failure asked for gives way to what is said now
    session.execute(
        update(JobRow).where(among(JobRow.id, details)).values(values), execution_options={"synchronize_session": False}
    )
    if other:
        session.execute(update(JobRow), [{"id": id_, "detail": detail} for id_, detail in other.items()])
    return new.revision


def _revision(
    session: Session,
    plan: PlanRow,
    common: dict[str, Any],
    now: datetime,
    details: Mapping[int, Mapping[str, Any] | None] = MappingProxyType({}),
) -> PlanRow:
    digest = sha256(f"{canonical_json(common)}\nrevises {plan.sha256}".encode())
    for id_, detail in details.items():
        digest.update(f"\n{id_} {canonical_json(detail)}".encode())
    of_stage = (PlanRow.campaign_id == plan.campaign_id, PlanRow.stage == plan.stage)
    row = PlanRow(
        campaign_id=plan.campaign_id,
        stage=plan.stage,
        position=plan.position,
        revision=(session.scalar(select(func.max(PlanRow.revision)).where(*of_stage)) or 0) + 1,
        sha256=digest.hexdigest(),
        watermark=plan.watermark,
        common=common,
        sealed_at=now,
    )
    session.add(row)
    session.flush()
    return row
