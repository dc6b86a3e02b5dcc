"""Plans are compared: what a campaign would do, with another campaign file, one that ran, or a plan that was saved."""

from __future__ import annotations

from pathlib import Path

from nightmill.backbone.work import campaigns
from nightmill.config.campaign import load_campaign
from nightmill.errors import UnknownName
from nightmill.operations.preview import preview
from nightmill.operations.saved_plans import find, saved_text
from nightmill.operations.site import Site
from nightmill.planning.digest import PlanLines, sealed_text, text_of


def plan_to_compare(site: Site, other: str) -> PlanLines:
    """Return the plan that a name stands for.

    Parameters
    ----------
    other
        A campaign file, which is planned as it stands; a campaign on record, as it was sealed; or the digest of a saved
        plan.

    Raises
    ------
    UnknownName
        Where it is none of these.
    ConfigError
        Where it is a campaign file, and that is wrong.
    PlanRefused
        Where that cannot be planned.
    """
    path = Path(other)
    if path.is_file():
        plan = preview(site, load_campaign(path, defaults=site.config.defaults))
        plan.require()
        return text_of(plan, f"as {path.name} says it")
    with site.database.reading() as session:
        if campaigns.exists(session, other):
            return sealed_text(session, campaigns.campaign_named(session, other))
        known = [row.name for row in campaigns.campaigns(session, latest=1000)]
    try:
        return saved_text(site, find(site, other))
    except UnknownName as error:
        raise UnknownName(
            "campaign file, campaign on record or saved plan",
            other,
            known,
            remedy="see 'nightmill status' for the campaigns",
        ) from error
