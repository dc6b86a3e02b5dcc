"""Sealing: a plan becomes rows that are never changed, from which every order is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import CampaignRow, JobRow, PlanRow, SliceRow
from nightmill.errors import PlanRefused
from nightmill.model.base import canonical_json
from nightmill.model.campaign import Campaign
from nightmill.planning.plan import StagePlan
from nightmill.planning.sealed import detail_of

ROWS: Final = 5_000
"""Rows a statement."""


@dataclass(frozen=True)
class Sealed:
    """What sealing a stage's plan did.

    Parameters
    ----------
    revision
        Of the plan that was added; 0 where there was nothing to add.
    slices
        Numbers of the slices that were added.
    jobs
        How many jobs were added.
    stale
        How many jobs that were sealed before would get other inputs now; those that are stale already included.
    left_out
        Why units were left out: what they wait for and, where the stage had been sealed before, what is wrong with the
        new ones; one sentence each.
    """

    revision: int
    slices: tuple[int, ...]
    jobs: int
    stale: int
    left_out: tuple[str, ...]


def seal(session: Session, campaign: CampaignRow, plan: StagePlan, *, now: datetime) -> Sealed:
    """Seal the plan of a stage.

    Sealing the same plan twice changes nothing. A later plan of the same stage adds the units that are new, as a plan
    of their own; jobs that were sealed before keep their inputs, and are marked stale where these would differ now.

    Parameters
    ----------
    session
        A writing one.
    campaign
        The sealed campaign.
    plan
        As :func:`nightmill.planning.plan.plan_stage` makes it.
    now
        When.

    Raises
    ------
    PlanRefused
        Where the plan has problems and the stage was not sealed before; nothing was written.
    """
    if plan.projected:
        raise ValueError(f"stage {plan.stage.name!r} is projected: plan it again when the stages before it are done")
    session.execute(select(CampaignRow.id).where(CampaignRow.id == campaign.id).with_for_update())
    sealed, stale = _compare(session, campaign.id, plan)
    if plan.problems and not sealed:
        raise PlanRefused(campaign.name, plan.problems)
    left_out = (*plan.waiting, *plan.problems)
    new = [job for job in plan.jobs if job.unit not in sealed]
    if not new:
        return Sealed(0, (), 0, stale, left_out)
    slice_size = Campaign.model_validate(campaign.definition).execution.jobs_per_slice
    details = [detail_of(job, number) for number, job in enumerate(new, start=len(sealed))]
    row = _add_plan(session, campaign.id, plan, details, now)
    slices = _add_slices(session, row, -(-len(new) // slice_size))
    for start in range(0, len(new), ROWS):
        rows = [
            {
                "campaign_id": campaign.id,
                "plan_id": row.id,
                "slice_id": slices[number // slice_size].id,
                "stage": plan.stage.name,
                "unit": new[number].unit,
                "detail": details[number],
            }
            for number in range(start, min(start + ROWS, len(new)))
        ]
        session.execute(insert(JobRow), rows)
    return Sealed(row.revision, tuple([each.number for each in slices]), len(new), stale, left_out)


def _compare(session: Session, campaign_id: int, plan: StagePlan) -> tuple[set[str], int]:
    """Return the units that are sealed already, and mark those that would get other inputs now."""
    planned = {job.unit: job for job in plan.jobs}
    query = select(JobRow.id, JobRow.unit, JobRow.stale, JobRow.detail).where(
        JobRow.campaign_id == campaign_id, JobRow.stage == plan.stage.name
    )
    sealed: set[str] = set()
    changed: dict[bool, list[int]] = {True: [], False: []}
    stale = 0
    for id_, unit, was_stale, detail in session.execute(query.execution_options(yield_per=ROWS)):
        sealed.add(unit)
        job = planned.get(unit)
        is_stale = was_stale if job is None else _file_ids(detail) != _file_ids(detail_of(job, 0))
        stale += is_stale
        if is_stale != was_stale:
            changed[is_stale].append(id_)
    for is_stale, ids in changed.items():
        session.execute(
            update(JobRow).where(among(JobRow.id, ids)).values(stale=is_stale),
            execution_options={"synchronize_session": False},
        )
    return sealed, stale


def _file_ids(detail: Mapping[str, Any]) -> dict[str, list[int]]:
    return {role: ids for role, (_rule, ids) in detail["inputs"].items()}


def _add_plan(
    session: Session, campaign_id: int, plan: StagePlan, details: Sequence[Mapping[str, Any]], now: datetime
) -> PlanRow:
    common = plan.common.model_dump(mode="json")
    digest = sha256(canonical_json(common).encode())
    for detail in details:
        digest.update(f"\n{canonical_json(detail)}".encode())
    of_stage = (PlanRow.campaign_id == campaign_id, PlanRow.stage == plan.stage.name)
    row = PlanRow(
        campaign_id=campaign_id,
        stage=plan.stage.name,
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


def _add_slices(session: Session, plan: PlanRow, count: int) -> list[SliceRow]:
    of_stage = (SliceRow.campaign_id == plan.campaign_id, SliceRow.stage == plan.stage)
    last = session.scalar(select(func.max(SliceRow.number)).where(*of_stage))
    first = 0 if last is None else last + 1
    slices = [
        SliceRow(plan_id=plan.id, campaign_id=plan.campaign_id, stage=plan.stage, number=number)
        for number in range(first, first + count)
    ]
    session.add_all(slices)
    session.flush()
    return slices
