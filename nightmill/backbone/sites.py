"""The sites that share a catalogue, and of which of them a session is.

A store, a campaign, a lease and an act are of one site. What asks for "the store of this name" asks here whose.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, case, select, text
from sqlalchemy.orm import Session

from nightmill.backbone.schema import SiteRow, StoreRow
from nightmill.errors import RequestRefused

SITE_ID: Final = "site_id"
"""Key of ``Session.info``."""


def this_site(session: Session) -> int:
    """Return the ID of the site that a session is of.

    That of a database which no site has opened is of the only site that it has.

    Raises
    ------
    RequestRefused
        Where it has several.
    """
    found: int | None = session.info.get(SITE_ID)
    if found is None:
        ids = session.scalars(select(SiteRow.id).limit(2)).all()
        if len(ids) != 1:
            raise RequestRefused(
                "several sites share this catalogue, and nothing says for which of them it was opened",
                remedy="open the site, and use its database",
            )
        found = session.info[SITE_ID] = ids[0]
    return found


def is_here(session: Session) -> ColumnElement[bool]:
    """Say of a store that it is of this site."""
    return StoreRow.site_id == this_site(session)


def store_label(session: Session) -> ColumnElement[str]:
    """Write the name of a store: of another site, as SITE:STORE."""
    return case((is_here(session), StoreRow.name), else_=store_elsewhere())


def store_elsewhere() -> ColumnElement[str]:
    """Write the name of a store as SITE:STORE."""
    site = select(SiteRow.name).where(SiteRow.id == StoreRow.site_id).correlate(StoreRow).scalar_subquery()
    return site + ":" + StoreRow.name


def name_of(session: Session, site_id: int) -> str:
    """Return the name of a site."""
    return session.get_one(SiteRow, site_id).name


def why_outdated(session: Session) -> str:
    """Say why this site must recover before it goes on; empty where it need not."""
    return session.scalar(select(SiteRow.outdated).where(SiteRow.id == this_site(session))) or ""


def site_of(session: Session, *, key: str, name: str) -> SiteRow | None:
    """Return the site with a key or, where that is empty, of a name."""
    return session.scalar(select(SiteRow).where(SiteRow.key == key if key else SiteRow.name == name))


def claim(session: Session, *, key: str, name: str, now: datetime) -> int | str:
    """Put a site on record under its key, or find it there, and give it its name; return its ID.

    What was in the catalogue before there were several sites goes to the first that comes.

    Parameters
    ----------
    session
        A writing one.

    Returns
    -------
    int or str
        The key of another site that has the name, where one has: then nothing was written.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
        session.execute(text("LOCK TABLE site IN SHARE ROW EXCLUSIVE MODE"))
    row = site_of(session, key=key, name=name)
    other = site_of(session, key="", name=name)
    if other is not None and other.key not in (key, None):
        return str(other.key)
    if row is None:
        row = session.scalar(select(SiteRow).where(SiteRow.key.is_(None))) or SiteRow()
        row.key, row.first_seen = key, now
        session.add(row)
    row.name = name
    session.flush()
    return row.id
