"""What a campaign would be, if it were submitted now."""

from __future__ import annotations

from nightmill.backbone.work import campaigns
from nightmill.model.campaign import Campaign
from nightmill.operations.bundle import pack
from nightmill.operations.site import Site
from nightmill.planning.plan import CampaignPlan, plan_campaign


def preview(site: Site, campaign: Campaign) -> CampaignPlan:
    """Plan a campaign as it would be submitted now; writes nothing.

    Raises
    ------
    RequestRefused
        Where the folder of its pipeline cannot be packed.
    """
    bundle = pack(campaign.pipeline, site.config)
    with site.database.reading() as session:
        number = campaigns.number_of(session, campaign.name)
        return plan_campaign(session, campaign, site.config, number, bundle.sealed if bundle else None)
