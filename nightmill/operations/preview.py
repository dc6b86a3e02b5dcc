"""What a campaign would be, if it were submitted now."""

from __future__ import annotations

from collections.abc import Sequence

from nightmill.backbone.catalogue.exclusions import Exclusion
from nightmill.backbone.work.saved_plans import number_of
from nightmill.model.campaign import Campaign
from nightmill.operations.bundle import pack
from nightmill.operations.site import Site
from nightmill.planning.plan import plan_campaign
from nightmill.planning.planned import CampaignPlan


def preview(site: Site, campaign: Campaign, also: Sequence[Exclusion] = ()) -> CampaignPlan:
    """Plan a campaign as it would be submitted now; writes nothing.

    Parameters
    ----------
    also
        Exclusions to heed beside those that are in force.

    Raises
    ------
    RequestRefused
        Where the folder of its pipeline cannot be packed.
    """
    bundle = pack(campaign.pipeline, site.config)
    with site.database.reading() as session:
        number = number_of(session, campaign.name)
        return plan_campaign(session, campaign, site.config, number, bundle.sealed if bundle else None, also)
