"""Sealing: a plan becomes rows that are never changed, from which every order is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, case, func, insert, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue import withdrawals
from nightmill.backbone.catalogue.exclusions import in_force
from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow, PlanRow, SliceRow
from nightmill.backbone.work.left_out import leave_out
from nightmill.backbone.work.sign_offs import signed_off
from nightmill.errors import PlanRefused
from nightmill.model.base import canonical_json
from nightmill.model.campaign import Campaign
from nightmill.model.states import Hold, JobState
from nightmill.planning.breakpoints import Barrier
from nightmill.planning.jobs import blocks
from nightmill.planning.planned import StagePlan
from nightmill.planning.revise import revise_jobs
from nightmill.planning.sealed import PlannedJob, commons, detail_of


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
        Why units were left out: what they lack or wait for and, where the stage had been sealed before, what is wrong
        with the new ones; one sentence each.
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
        Where the plan has problems and the stage was not sealed before, or something that it may read was withdrawn or
        excluded since; nothing was written.
    """
    if plan.projected:
        raise ValueError(f"stage {plan.stage.name!r} is projected: plan it again when the stages before it are done")
    session.execute(select(CampaignRow.id).where(CampaignRow.id == campaign.id).with_for_update())
    withdrawals.lock(session, deciding=False)
    of_stage = (JobRow.campaign_id == campaign.id) & (JobRow.stage == plan.stage.name)
    jobs = select(func.count()).select_from(JobRow).where(of_stage)
    before = session.scalar(jobs) or 0
    if plan.problems and not before:
        raise PlanRefused(campaign.name, plan.problems)
    refuse_excluded(session, plan)
    rows = _Rows(session, campaign, plan, before, now)
    for block in blocks(plan.jobs):
        rows.add(_compare(session, of_stage, block, plan, now) if before else block)
    _as_it_was(session, of_stage & JobRow.renew, stale=True)  # it cannot be planned any more
    leave_out(session, campaign.id, plan.stage.name, plan.left_out, watermark=plan.watermark, now=now)
    stale = (session.scalar(jobs.where(JobRow.stale)) or 0) if before else 0
    return rows.end(stale)


def _compare(
    session: Session, of_stage: ColumnElement[bool], block: Sequence[PlannedJob], plan: StagePlan, now: datetime
) -> list[PlannedJob]:
    """Return the jobs that are not sealed yet; give those that are to be planned anew their inputs, mark other ones."""
    planned = {job.unit: job for job in block}
    query = select(JobRow.id, JobRow.unit, JobRow.stale, JobRow.detail, JobRow.renew, JobRow.plan_id)
    changed: dict[bool, list[int]] = {True: [], False: []}
    renewed: dict[int, dict[int, Mapping[str, Any]]] = {}
    same: list[int] = []
    for id_, unit, was_stale, detail, renew, plan_id in session.execute(
        query.where(of_stage, among(JobRow.unit, planned))
    ):
        now_detail = detail_of(planned.pop(unit), detail["number"])
        is_stale = chosen(detail) != chosen(now_detail)
        if renew and is_stale:
            renewed.setdefault(plan_id, {})[id_] = now_detail
        elif renew:
            same.append(id_)
        elif is_stale != was_stale:
            changed[is_stale].append(id_)
    for is_stale, ids in changed.items():
        session.execute(
            update(JobRow).where(among(JobRow.id, ids)).values(stale=is_stale),
            execution_options={"synchronize_session": False},
        )
    _as_it_was(session, among(JobRow.id, same), stale=False)
    for plan_id, (_digest, sealed) in commons(session, renewed).items():
        own = {"parameters": sealed.parameters, "stage": sealed.stage}  # what a rerun changed stays
        revise_jobs(session, plan.common.model_copy(update=own), renewed[plan_id], anew=True, now=now)
    return list(planned.values())


def _as_it_was(session: Session, jobs: ColumnElement[bool], *, stale: bool) -> None:
    """Let jobs that were to be planned anew, and do not get other inputs, keep the result that they have, or run."""
    has_result = select(AttemptRow.id).where(AttemptRow.job_id == JobRow.id, AttemptRow.result).exists()
    state = case((has_result, JobState.DONE.value), else_=JobState.READY.value)
    session.execute(
        update(JobRow).where(jobs).values(renew=False, stale=stale, state=state),
        execution_options={"synchronize_session": False},
    )


def chosen(detail: Mapping[str, Any]) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    """Return the IDs of the files that a job reads, by role, and what of them is excluded."""
    return {role: ids for role, (_rule, ids) in detail["inputs"].items()}, detail.get("excluded", {})


def refuse_excluded(session: Session, plan: StagePlan) -> None:
    """Refuse what was planned before an exclusion was added."""
    name = plan.common.campaign
    if new := [each for each in in_force(session, name) if each.number not in plan.exclusions]:
        told = [f"exclusion {each.number} was added by {each.who} meanwhile: {each.why}; plan again" for each in new]
        raise PlanRefused(name, told)


def refuse_withdrawn(session: Session, plan: StagePlan, jobs: Sequence[PlannedJob]) -> None:
    """Refuse what was planned with files that somebody withdrew, or retyped, before the plan was sealed."""
    names = {file.id: file.name for job in jobs for choice in job.choices for file in choice.files}
    gone = withdrawals.withdrawals(session, names)
    if gone:
        told = [f"{names[id_]} {each[-1]}; plan again" for id_, each in gone.items()]
        raise PlanRefused(plan.common.campaign, told)


def _held(breakpoint: str | None) -> dict[str, str | None]:
    if breakpoint is None:
        return {"state": JobState.PLANNED.value, "held_by": None, "held_why": None}
    return {"state": JobState.HELD.value, "held_by": Hold.BREAKPOINT.value, "held_why": breakpoint}


class _Rows:
    """The rows of a plan that is being sealed: its own with the first job, slices as they fill."""

    def __init__(self, session: Session, campaign: CampaignRow, plan: StagePlan, first: int, now: datetime) -> None:
        self.session = session
        self.plan = plan
        self.now = now
        self.campaign_id = campaign.id
        described = Campaign.model_validate(campaign.definition)
        self.slice_size = described.execution.jobs_per_slice
        signed = signed_off(session, campaign.id) if described.breakpoints else set()
        unsigned = [each for each in described.breakpoints if each.name not in signed]
        self.barrier = Barrier(described, plan.stage.name, unsigned, plan.jobs if not first else ())
        self.first = first
        self.count = 0
        self.row: PlanRow | None = None
        self.slices: list[SliceRow] = []
        self.digest = sha256()

    def add(self, jobs: Sequence[PlannedJob]) -> None:
        """Add jobs to the plan."""
        if not jobs:
            return
        refuse_withdrawn(self.session, self.plan, jobs)
        if self.row is None:
            self.row = self._begin()
        self._add_slices(self.row, -(-(self.count + len(jobs)) // self.slice_size))
        rows = []
        for number, job in enumerate(jobs, start=self.count):
            detail = detail_of(job, self.first + number)
            self.digest.update(f"\n{canonical_json(detail)}".encode())
            rows.append(
                {
                    "campaign_id": self.campaign_id,
                    "plan_id": self.row.id,
                    "slice_id": self.slices[number // self.slice_size].id,
                    "stage": self.plan.stage.name,
                    "unit": job.unit,
                    "detail": detail,
                }
            )
        if self.barrier:
            rows = [{**row, **_held(self.barrier.holds(str(row["unit"])))} for row in rows]
        self.session.execute(insert(JobRow), rows)
        self.count += len(jobs)

    def end(self, stale: int) -> Sealed:
        """Seal what was added."""
        left_out = (*self.plan.lacking, *self.plan.waiting, *self.plan.problems)
        if self.row is None and self.plan.incomplete and not self._is_planned():
            self.row = self._begin()  # every unit of it is left out: that it was planned is on record all the same
        if self.row is None:
            return Sealed(0, (), 0, stale, left_out)
        self.row.sha256 = self.digest.hexdigest()
        return Sealed(self.row.revision, tuple([each.number for each in self.slices]), self.count, stale, left_out)

    @property
    def _of_stage(self) -> ColumnElement[bool]:
        return (PlanRow.campaign_id == self.campaign_id) & (PlanRow.stage == self.plan.stage.name)

    def _is_planned(self) -> bool:
        return self.session.scalar(select(PlanRow.id).where(self._of_stage).limit(1)) is not None

    def _begin(self) -> PlanRow:
        common = self.plan.common.model_dump(mode="json")
        self.digest.update(canonical_json(common).encode())
        row = PlanRow(
            campaign_id=self.campaign_id,
            stage=self.plan.stage.name,
            position=self.plan.position,
            revision=(self.session.scalar(select(func.max(PlanRow.revision)).where(self._of_stage)) or 0) + 1,
            sha256="",  # until the last job was added, in the same transaction
            watermark=self.plan.watermark,
            common=common,
            sealed_at=self.now,
        )
        self.session.add(row)
        self.session.flush()
        return row

    def _add_slices(self, plan: PlanRow, count: int) -> None:
        """Make sure that there are so many slices."""
        of_stage = (SliceRow.campaign_id == plan.campaign_id, SliceRow.stage == plan.stage)
        last = self.session.scalar(select(func.max(SliceRow.number)).where(*of_stage))
        first = 0 if last is None else last + 1
        added = [
            SliceRow(plan_id=plan.id, campaign_id=plan.campaign_id, stage=plan.stage, number=number)
            for number in range(first, first + count - len(self.slices))
        ]
        self.session.add_all(added)
        self.session.flush()
        self.slices.extend(added)
