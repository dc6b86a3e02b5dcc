"""Of which site a campaign is: that alone carries it out, records it and mends it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import CampaignRow, SiteRow
from nightmill.backbone.sites import this_site
from nightmill.errors import RequestRefused


def is_own(session: Session) -> ColumnElement[bool]:
    """Say of a campaign that it is of this site."""
    return CampaignRow.site_id == this_site(session)


def require_own(session: Session, row: CampaignRow) -> None:
    """Refuse a campaign of another site.

    Raises
    ------
    RequestRefused
        Where it is one.
    """
    for name, site in of_other_sites(session, [row.name]).items():
        raise RequestRefused(
            f"campaign {name!r} is of site {site!r}, which shares this catalogue",
            remedy=f"do it at site {site!r}; give a campaign of this site another name",
        )


def of_other_sites(session: Session, names: Collection[str]) -> dict[str, str]:
    """Return those of some campaigns that are of another site, each with the name of that."""
    query = select(CampaignRow.name, SiteRow.name).join(SiteRow, SiteRow.id == CampaignRow.site_id)
    found = session.execute(query.where(~is_own(session), CampaignRow.name.in_(names)))
    return {campaign: site for campaign, site in found}
