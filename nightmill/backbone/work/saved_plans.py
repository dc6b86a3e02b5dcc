"""The numbers of campaigns, and the plans that were kept for later with the numbers that stand in them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session, aliased

from nightmill.backbone.among import among
from nightmill.backbone.as_of import on_record
from nightmill.backbone.schema import CampaignRow, SavedPlanRow
from nightmill.errors import RequestRefused, UnknownName

SHOWN: Final = 12
"""So many digits of a digest are shown where it need not be told from others."""


def number_of(session: Session, name: str, *, as_of: datetime | None = None) -> int:
    """Return the number that stands in the names of a campaign's files: its own, else the one that it would get.

    What a saved plan of another campaign has is not given away.

    Parameters
    ----------
    as_of
        The number that it had at a time, or would have got then.
    """
    submitted, saved = on_record(CampaignRow.submitted_at, as_of), on_record(SavedPlanRow.at, as_of)
    own = session.scalar(select(CampaignRow.id).where(CampaignRow.name == name, submitted))
    if own is not None:
        return own
    taken = aliased(CampaignRow)
    free = ~select(taken.id).where(taken.id == SavedPlanRow.number, on_record(taken.submitted_at, as_of)).exists()
    kept = session.scalar(select(func.max(SavedPlanRow.number)).where(SavedPlanRow.campaign == name, free, saved))
    if kept is not None:
        return kept
    highest = session.execute(
        select(
            select(func.max(CampaignRow.id)).where(submitted).scalar_subquery(),
            select(func.max(SavedPlanRow.number)).where(saved).scalar_subquery(),
        )
    ).one()
    return max(each or 0 for each in highest) + 1


def lock_numbers(session: Session) -> None:
    """Let no other transaction give a number until this one ends; SQLite has one writer at a time anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE saved_plan IN SHARE ROW EXCLUSIVE MODE"))


def raise_sequence(session: Session) -> None:
    """Let PostgreSQL's own sequence of numbers be above those of the campaigns that were given theirs."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT setval(pg_get_serial_sequence('campaign', 'id'), (SELECT max(id) FROM campaign))"))


def save(session: Session, row: SavedPlanRow) -> bool:
    """Keep a plan; return whether it is new.

    Parameters
    ----------
    session
        A writing one, which has locked the numbers.
    """
    if not unknown(session, [row.sha256]):
        return False
    session.add(row)
    session.flush()
    return True


def saved_plans(session: Session) -> list[tuple[SavedPlanRow, bool]]:
    """Return all saved plans, the newest first, and whether the campaign of each is on record with its number."""
    is_there = select(CampaignRow.id).where(
        CampaignRow.id == SavedPlanRow.number, CampaignRow.name == SavedPlanRow.campaign
    )
    query = select(SavedPlanRow, is_there.exists()).order_by(SavedPlanRow.at.desc(), SavedPlanRow.id.desc())
    return [(row, submitted) for row, submitted in session.execute(query)]


def remove(session: Session, sha256: str) -> None:
    """Forget a saved plan, if it is there; the number that it kept is free where its campaign is not on record."""
    session.execute(delete(SavedPlanRow).where(SavedPlanRow.sha256 == sha256))


def saved_plan(session: Session, prefix: str) -> SavedPlanRow:
    """Return a saved plan by its digest, or the beginning of that.

    Raises
    ------
    UnknownName
        Where there is none.
    RequestRefused
        Where several begin so.
    """
    query = select(SavedPlanRow).order_by(SavedPlanRow.id.desc())
    found = list(session.scalars(query.where(SavedPlanRow.sha256.startswith(prefix, autoescape=True)).limit(10)))
    if not prefix or not found:
        known = [row.sha256[:SHOWN] for row in session.scalars(query.limit(100))]
        raise UnknownName("saved plan", prefix, known, remedy="'nightmill plan CAMPAIGN.yaml --save' keeps one")
    if len(found) > 1:
        told = ", ".join(f"{row.sha256[:SHOWN]} ({row.campaign})" for row in found)
        raise RequestRefused(f"several saved plans begin with {prefix!r}: {told}", remedy="give more of its digits")
    return found[0]


def unknown(session: Session, digests: Collection[str]) -> set[str]:
    """Return those of some digests of which there is no saved plan on record."""
    query = select(SavedPlanRow.sha256).where(among(SavedPlanRow.sha256, digests))
    return set(digests) - set(session.scalars(query))
