"""Exclusions in the catalogue: who excluded what, when and why, and what was in force at any time.

Nothing is ever changed: a row says that files must not be inputs, another that this does not hold any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import ExclusionLiftRow, ExclusionRow
from nightmill.clock import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExclusion:
    """What somebody wants to exclude.

    Parameters
    ----------
    expression
        Over files: those that are excluded.
    written
        What was typed for it.
    campaign
        The name of the only campaign that it is about; empty for every one.
    types
        The only file types that it is about; none for every one.
    part
        The part of each file that is excluded; empty for the whole file.
    up_to
        The stage after which it holds; empty for every stage.
    ticket
        Where more is said of it.
    expires_at
        When it ends by itself, if ever.
    """

    expression: str
    written: str
    campaign: str = ""
    types: tuple[str, ...] = ()
    part: str = ""
    up_to: str = ""
    ticket: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion(NewExclusion):
    """An exclusion as it is on record, with who lifted it, if somebody did."""

    number: int
    who: str
    why: str
    at: datetime
    lifted_at: datetime | None = None
    lifted_by: str = ""
    lifted_why: str = ""

    def holds(self, at: datetime) -> bool:
        """Say whether it holds at a time, as far as its own end and its lift go."""
        ends = [end for end in (self.expires_at, self.lifted_at) if end is not None]
        return all(at < end for end in ends)


def exclude(session: Session, new: NewExclusion, *, who: str, why: str, now: datetime) -> int:
    """Put an exclusion on record; return its number."""
    row = ExclusionRow(
        campaign=new.campaign,
        expression=new.expression,
        written=new.written,
        types=list(new.types),
        part=new.part,
        up_to=new.up_to,
        who=who,
        why=why,
        ticket=new.ticket,
        at=now,
        expires_at=new.expires_at,
    )
    session.add(row)
    session.flush()
    return row.id


def lift(session: Session, number: int, *, who: str, why: str, now: datetime) -> None:
    """Say that an exclusion does not hold any more."""
    session.add(ExclusionLiftRow(exclusion_id=number, at=now, who=who, why=why))
    session.flush()


def exclusions(session: Session, *, campaign: str = "", numbers: Sequence[int] = ()) -> list[Exclusion]:
    """Return every exclusion, the first first, whether or not it holds.

    Parameters
    ----------
    campaign
        Only those that are about this campaign, the global ones among them.
    numbers
        Only these.
    """
    conditions: list[ColumnElement[bool]] = []
    if campaign:
        conditions.append(ExclusionRow.campaign.in_(("", campaign)))
    if numbers:
        conditions.append(ExclusionRow.id.in_(numbers))
    return _found(session, *conditions)


def in_force(session: Session, campaign: str, *, as_of: datetime | None = None) -> list[Exclusion]:
    """Return the exclusions that a campaign must heed, the first first: one query.

    Parameters
    ----------
    campaign
        Its name, whether or not it is on record; empty for the global ones alone.
    as_of
        Those that were in force at a time, by the clocks of those who put them on record. By default those that are in
        force now: all that are on record and not lifted, whatever the clocks say, but for those that have expired.
    """
    conditions: list[ColumnElement[bool]] = [ExclusionRow.campaign.in_(("", campaign))]
    if as_of is None:
        now = utc_now()
        conditions.append(ExclusionLiftRow.id.is_(None))
    else:
        now = as_of
        conditions += [ExclusionRow.at <= now, or_(ExclusionLiftRow.at.is_(None), ExclusionLiftRow.at > now)]
    conditions.append(or_(ExclusionRow.expires_at.is_(None), ExclusionRow.expires_at > now))
    return _found(session, *conditions)


def _found(session: Session, *conditions: ColumnElement[bool]) -> list[Exclusion]:
    query = (
        select(ExclusionRow, ExclusionLiftRow.at, ExclusionLiftRow.who, ExclusionLiftRow.why)
        .outerjoin(ExclusionLiftRow, ExclusionLiftRow.exclusion_id == ExclusionRow.id)
        .where(*conditions)
        .order_by(ExclusionRow.id)
    )
    return [
        Exclusion(
            number=row.id,
            campaign=row.campaign,
            expression=row.expression,
            written=row.written,
            types=tuple(row.types),
            part=row.part,
            up_to=row.up_to,
            who=row.who,
            why=row.why,
            ticket=row.ticket,
            at=row.at,
            expires_at=row.expires_at,
            lifted_at=lifted_at,
            lifted_by=lifted_by or "",
            lifted_why=lifted_why or "",
        )
        for row, lifted_at, lifted_by, lifted_why in session.execute(query)
    ]
