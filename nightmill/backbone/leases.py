"""Leases: which process may carry out the attempts that it issued.

One row a process. A lease needs no renewal: its owner is alive or dead, which the owner's host can tell at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import AttemptRow, ExecutionRow, JobRow, LeaseRow
from nightmill.model.fate import AttemptState, Fate, JobState
from nightmill.model.journal import Owner


@dataclass(frozen=True)
class Holder:
    """A process that took a lease, and when."""

    owner: Owner
    since: datetime


def take(session: Session, owner: Owner, *, flow_run_id: str | None, now: datetime) -> int:
    """Give a process a lease of its own and return the lease's ID."""
    row = LeaseRow(
        host=owner.host,
        boot_id=owner.boot_id,
        pid=owner.pid,
        started_at=owner.started_at,
        flow_run_id=flow_run_id,
        taken_at=now,
    )
    session.add(row)
    session.flush()
    return row.id


def release(session: Session, lease_id: int, *, now: datetime, cancelled: str = "") -> None:
    """End a lease; nothing can be issued under it any more, and no attempt under it is still open.

    Parameters
    ----------
    cancelled
        Why its process ended before it had carried out what it issued; empty where nobody knows.
    """
    if cancelled:
        give_up(session, [lease_id], now=now, fate=Fate.CANCELLED, evidence=f"it was not begun: {cancelled}")
    else:
        give_up(session, [lease_id], now=now, evidence="its slice ended before the attempt told its end")


def holders(session: Session, *, slice_id: int | None = None) -> dict[int, Owner]:
    """Return the owner of each lease under which an attempt is open, by the lease's ID."""
    open_states = [state.value for state in AttemptState if not state.ended]
    query = (
        select(LeaseRow)
        .distinct()
        .join(AttemptRow, AttemptRow.lease_id == LeaseRow.id)
        .where(AttemptRow.state.in_(open_states))
    )
    if slice_id is not None:
        query = query.join(JobRow, JobRow.id == AttemptRow.job_id).where(JobRow.slice_id == slice_id)
    return {row.id: holder(row).owner for row in session.scalars(query)}


def unreleased(session: Session) -> dict[int, Holder]:
    """Return who holds each lease that was not released, by the lease's ID."""
    return {row.id: holder(row) for row in session.scalars(select(LeaseRow).where(LeaseRow.released_at.is_(None)))}


def holder(row: LeaseRow) -> Holder:
    """Return the process that took a lease."""
    owner = Owner(host=row.host, boot_id=row.boot_id, pid=row.pid, started_at=row.started_at)
    return Holder(owner, row.taken_at)


def give_up(
    session: Session,
    lease_ids: Sequence[int],
    *,
    now: datetime,
    fate: Fate = Fate.LOST,
    evidence: str = "its process died before the attempt began to tell anything",
    keep: Collection[int] = (),
) -> int:
    """End leases; return how many open attempts ended with them, as lost or as cancelled, and their jobs accordingly.

    One that tells its end after all is recorded with it.

    Parameters
    ----------
    keep
        Attempts that stay open, and their leases with them.
    """
    open_states = [state.value for state in AttemptState if not state.ended]
    query = (
        select(AttemptRow.id, AttemptRow.job_id, AttemptRow.lease_id)
        .where(AttemptRow.lease_id.in_(lease_ids), AttemptRow.state.in_(open_states))
        .with_for_update()
    )
    found = session.execute(query).all()
    lost = [(attempt_id, job_id) for attempt_id, job_id, _lease in found if attempt_id not in keep]
    kept = {lease_id for attempt_id, _job, lease_id in found if attempt_id in keep}
    if lost:
        end = {"state": fate.attempt_state.value, "fate": fate.value, "ended_at": now, "evidence": evidence}
        session.execute(update(AttemptRow), [{"id": attempt_id, **end} for attempt_id, _ in lost])
        session.execute(
            update(JobRow)
            .where(among(JobRow.id, [job_id for _, job_id in lost]), JobRow.state == JobState.ACTIVE.value)
            .values(state=fate.job_state.value)
        )
        of_lost = among(ExecutionRow.attempt_id, [attempt_id for attempt_id, _ in lost])
        session.execute(update(ExecutionRow).where(of_lost, ExecutionRow.state == "running").values(state="lost"))
    ended = [lease_id for lease_id in lease_ids if lease_id not in kept]
    session.execute(update(LeaseRow).where(among(LeaseRow.id, ended)).values(released_at=now))
    return len(lost)
