"""Leases: which process may carry out the attempts that it issued.

One row a process. A lease needs no renewal: its owner is alive or dead, which the owner's host can tell at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import AttemptRow, ExecutionRow, JobRow, LeaseRow
from nightmill.backbone.sites import this_site
from nightmill.model.fate import Fate
from nightmill.model.journal import Owner
from nightmill.model.order import AttemptKey
from nightmill.model.states import AttemptState, JobState


@dataclass(frozen=True)
class Holder:
    """A process that took a lease, and when."""

    owner: Owner
    since: datetime


def take(session: Session, owner: Owner, *, flow_run_id: str | None, now: datetime) -> int:
    """Give a process a lease of its own and return the lease's ID."""
    row = LeaseRow(
        site_id=this_site(session),
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


def release(
    session: Session, lease_id: int, *, now: datetime, begun: Collection[AttemptKey] = (), why: str = ""
) -> None:
    """End a lease; nothing can be issued under it any more, and what was not begun under it may be issued again.

    Parameters
    ----------
    begun
        Attempts that a journal tells of and not the end of: left open, for the journal to tell that. The lease then
        ends by a drain, when its process is dead.
    why
        Why its process ended before it had begun what it issued; empty where nobody knows.
    """
    give_up_unknown(session, lease_id, known=begun, now=now, why=why or "its slice had ended")
    if not begun:
        session.execute(update(LeaseRow).where(LeaseRow.id == lease_id).values(released_at=now))


def give_up_unknown(session: Session, lease_id: int, *, known: Collection[AttemptKey], now: datetime, why: str) -> None:
    """End the open attempts under a lease but those that are known, as never begun."""
    units = {(attempt.unit, attempt.number) for attempt in known}
    given_up = [row for row in _open(session, [lease_id]) if (row.unit, row.number) not in units]
    _end(session, given_up, Fate.CANCELLED, f"it was not begun: {why}", now)


def holders(session: Session, *, slice_id: int | None = None, campaign_id: int | None = None) -> dict[int, Owner]:
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
    if campaign_id is not None:
        query = query.where(AttemptRow.job_id.in_(select(JobRow.id).where(JobRow.campaign_id == campaign_id)))
    return {row.id: holder(row).owner for row in session.scalars(query)}


def unreleased(session: Session) -> dict[int, Holder]:
    """Return who holds each lease of this site that was not released, by the lease's ID."""
    own = (LeaseRow.site_id == this_site(session), LeaseRow.released_at.is_(None))
    return {row.id: holder(row) for row in session.scalars(select(LeaseRow).where(*own))}


def holder(row: LeaseRow) -> Holder:
    """Return the process that took a lease."""
    owner = Owner(host=row.host, boot_id=row.boot_id, pid=row.pid, started_at=row.started_at)
    return Holder(owner, row.taken_at)


def give_up(session: Session, lease_ids: Sequence[int], *, now: datetime, keep: Collection[int] = ()) -> int:
    """End leases of dead processes; return how many attempts were open under them, which end as lost.

    The job of one that never began is ready to be issued again; one that tells its end after all is recorded with it.

    Parameters
    ----------
    keep
        Attempts that stay open, and their leases with them.
    """
    found = _open(session, lease_ids)
    lost = [row for row in found if row.id not in keep]
    _end(session, lost, Fate.LOST, "its process died before the attempt began to tell anything", now)
    kept = {row.lease_id for row in found if row.id in keep}
    ended = [lease_id for lease_id in lease_ids if lease_id not in kept]
    session.execute(update(LeaseRow).where(among(LeaseRow.id, ended)).values(released_at=now))
    return len(lost)


def hand_over(session: Session, attempt_ids: Collection[int], lease_id: int) -> None:
    """Put attempts under another lease: that of the process which follows them from now on."""
    session.execute(update(AttemptRow).where(among(AttemptRow.id, attempt_ids)).values(lease_id=lease_id))


def _open(session: Session, lease_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return the attempts under some leases that have not ended: IDs, jobs, leases, numbers, states, units."""
    open_states = [state.value for state in AttemptState if not state.ended]
    query = (
        select(AttemptRow.id, AttemptRow.job_id, AttemptRow.lease_id, AttemptRow.number, AttemptRow.state, JobRow.unit)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(among(AttemptRow.lease_id, lease_ids), AttemptRow.state.in_(open_states))
        .order_by(AttemptRow.id)
        .with_for_update(of=AttemptRow)
    )
    return session.execute(query).all()


def _end(session: Session, attempts: Sequence[Row[Any]], fate: Fate, evidence: str, now: datetime) -> None:
    """End attempts with whatever ran in them, and give their jobs the state that follows."""
    if not attempts:
        return
    end = {"state": fate.attempt_state.value, "fate": fate.value, "ended_at": now, "evidence": evidence}
    session.execute(update(AttemptRow), [{"id": row.id, **end} for row in attempts])
    ran = among(ExecutionRow.attempt_id, [row.id for row in attempts])
    session.execute(update(ExecutionRow).where(ran, ExecutionRow.ended_at.is_(None)).values(state="lost"))
    begun = {row.job_id for row in attempts if row.state != AttemptState.ISSUED.value}
    never = {row.job_id for row in attempts} - begun
    for state, jobs in ((fate.job_state, begun), (JobState.READY, never)):
        active = among(JobRow.id, jobs) & (JobRow.state == JobState.ACTIVE.value)
        session.execute(update(JobRow).where(active).values(state=state.value))
