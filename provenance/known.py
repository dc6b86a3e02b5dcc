"""What the backbone knows of attempts that reports tell of, and of the places of their files."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import (
    AttemptRow,
    CampaignRow,
    DeliveryRow,
    FileRow,
    JobRow,
    LeaseRow,
    ReplicaRow,
    StoreRow,
)
from nightmill.backbone.sites import is_here
from nightmill.backbone.work import leases
from nightmill.backbone.work.ownership import is_own
from nightmill.model.fate import Fate
from nightmill.model.order import AttemptKey
from nightmill.model.states import AttemptState, JobState

Place = tuple[str, str]
"""The name of a store or working area, and a path in it."""


@dataclass(frozen=True)
class Known:
    """An attempt as the backbone has it."""

    attempt_id: int
    job_id: int
    state: AttemptState
    fate: Fate | None
    evidence: str
    order_sha256: str
    """Digest of the order that it was issued with."""
    issuer: leases.Holder | None
    """The process that issued it, under its lease."""
    is_last: bool
    """Whether no later attempt of the job was issued."""
    job_state: JobState
    submitted_by: str
    """Who submitted its campaign."""

    @property
    def given_up(self) -> bool:
        """Whether it was ended for its process, and may still tell its real end."""
        return self.state in (AttemptState.CANCELLED, AttemptState.LOST)


def known(session: Session, attempts: Iterable[AttemptKey], *, to_change: bool = False) -> dict[AttemptKey, Known]:
    """Return what is known of attempts; those that were never issued are left out.

    Parameters
    ----------
    to_change
        Whether attempts and jobs are locked until the transaction ends.
    """
    wanted = [key for key in dict.fromkeys(attempts) if _may_be_known(key)]
    query = (
        select(
            CampaignRow.name, JobRow.stage, JobRow.unit, AttemptRow.number, CampaignRow.submitted_by, JobRow.id,
            JobRow.state, JobRow.attempts, AttemptRow.id, AttemptRow.state, AttemptRow.fate, AttemptRow.evidence,
            AttemptRow.order_sha256, LeaseRow,
        )
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .outerjoin(LeaseRow, LeaseRow.id == AttemptRow.lease_id)
        .where(
            CampaignRow.name.in_({key.campaign for key in wanted}),
            JobRow.stage.in_({key.stage for key in wanted}),
            among(JobRow.unit, {key.unit for key in wanted}),
            AttemptRow.number.in_({key.number for key in wanted}),
        )
        .order_by(AttemptRow.id)
    )  # fmt: skip
    if to_change:
        query = query.with_for_update(of=(AttemptRow, JobRow))
    found = {
        AttemptKey(campaign=campaign, stage=stage, unit=unit, number=number): Known(
            attempt_id=attempt_id,
            job_id=job_id,
            state=AttemptState(state),
            fate=Fate(fate) if fate else None,
            evidence=evidence or "",
            order_sha256=order_sha256,
            issuer=leases.holder(lease) if lease is not None else None,
            is_last=number == last,
            job_state=JobState(job_state),
            submitted_by=submitted_by,
        )
        for (
            campaign, stage, unit, number, submitted_by, job_id, job_state, last,
            attempt_id, state, fate, evidence, order_sha256, lease,
        ) in session.execute(query)
    }  # fmt: skip
    return {key: found[key] for key in wanted if key in found}


def _may_be_known(key: AttemptKey) -> bool:
    """Whether a database can be asked for an attempt at all: a forged key may hold anything."""
    return key.number < 2**31 and "\0" not in str(key)


def holders(session: Session, places: Collection[Place]) -> dict[Place, int | None]:
    """Return which places of this site are registered: each with the attempt whose file it is, or None for none's.

    A file may stand there or not: what counts is that the catalogue says so.
    """
    paths = sorted({path for _store, path in places})
    if not paths:
        return {}
    copies = (
        select(StoreRow.name, ReplicaRow.path, FileRow.attempt_id)
        .select_from(ReplicaRow)
        .join(StoreRow, StoreRow.id == ReplicaRow.store_id)
        .join(FileRow, FileRow.id == ReplicaRow.file_id)
        .where(is_here(session), among(ReplicaRow.path, paths))
    )
    delivered = (
        select(DeliveryRow.area, DeliveryRow.path, DeliveryRow.attempt_id)
        .join(AttemptRow, AttemptRow.id == DeliveryRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(is_own(session), among(DeliveryRow.path, paths))
    )
    rows = [*session.execute(copies).tuples(), *session.execute(delivered).tuples()]
    return {(store, path): attempt_id for store, path, attempt_id in rows if (store, path) in places}
