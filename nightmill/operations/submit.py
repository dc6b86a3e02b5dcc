"""Submitting a campaign."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.stores import store_ids
from nightmill.backbone.work import attempts, campaigns, saved_plans, steering
from nightmill.clock import utc_now
from nightmill.model.bundle import Bundle
from nightmill.model.campaign import Campaign
from nightmill.model.conducting import CampaignRun
from nightmill.model.ports import Conductor
from nightmill.operations import credentials, engines, memory
from nightmill.operations.acts import Act
from nightmill.operations.bundle import keep, pack, provenance_of, register_bundle
from nightmill.operations.costs import seconds_left
from nightmill.operations.drain import drain
from nightmill.operations.edited import Edit, Folder, edit_of
from nightmill.operations.saved_plans import SavedPlan, bring_back, require_same, require_sealed
from nightmill.operations.site import Site
from nightmill.planning.network import network_paths
from nightmill.planning.plan import plan_campaign
from nightmill.planning.planned import CampaignPlan
from nightmill.planning.seal import seal

_LOG: Final = logging.getLogger("nightmill")


@dataclass(frozen=True)
class Submitted:
    """A campaign that stands in the backbone."""

    name: str
    number: int
    resumed: bool
    """Whether it stood there before, with the same definition."""
    run: CampaignRun | None = None
    """The flow run that conducts it, where somebody does."""


def submit(
    site: Site,
    campaign: Campaign,
    *,
    who: str | None = None,
    folder: Folder = Folder.ASK,
    conductor: Conductor | None = None,
    saved: SavedPlan | None = None,
    tell: Callable[[str], None] = _LOG.warning,
) -> Submitted:
    """Put a campaign into the backbone, its first stages sealed; the same campaign again is taken up where it stands.

    The folder of its pipeline is packed, and stands in the store before any row speaks of it.

    Parameters
    ----------
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    folder
        Where it was submitted before and the pipeline's folder was edited since: which state counts.
    conductor
        Who is to conduct it then; by default nobody.
    saved
        The plan that it must be, or must have been: what is sealed is what is compared with it.
    tell
        Called with what the operator should know: a credential that ends before the campaign may, a step
        that depends on a network mount.

    Raises
    ------
    ServerAway
        Where the conductor does not answer; nothing was written where it did not from the beginning.
    PlanRefused
        Where it cannot be planned; nothing was written.
    PlanDiffers
        Where it is not the saved plan; nothing was written.
    RequestRefused
        Where another campaign has its name, it is paused or cancelled, the folder of its pipeline cannot be packed, the
        database was brought back from an older backup, a credential that is required is missing or has ended, or an
        engine that it names failed its last flight check.
    StoreError
        Where the store cannot take the bundle; no row was written.
    """
    act = Act.begin(site, "submit", who=who)
    found = credentials.require(site.config)
    engines.require(site, campaign)
    if conductor is not None:
        conductor.require()
    drain(site)
    memory.require_current(site)
    bring_back(site)
    plan: CampaignPlan | None = None
    given = memory.numbers(site.config.spool, campaign.name)
    with site.database.reading() as session:
        is_there = campaigns.exists(session, campaign.name)
    if is_there:
        if saved is not None:
            require_sealed(site, saved)
        with edit_of(site, campaign.name, folder) as edit:
            number = site.database.write(partial(_take_up, act=act, campaign=campaign, edit=edit))
        resumed = True
    else:
        with TemporaryDirectory(prefix="nightmill-") as temporary:
            number, resumed, plan = _put(site, campaign, act, given, Path(temporary, "bundle.tar"), saved)
    for sentence in credentials.short(found, seconds_left(site, campaign.name, plan) if found else None):
        tell(sentence)
    for sentence in network_paths(campaign.pipeline, site.config):
        tell(sentence)
    run = None if conductor is None else conductor.start(campaign.name)
    return Submitted(campaign.name, number, resumed, run)


def _take_up(session: Session, *, act: Act, campaign: Campaign, edit: Edit | None) -> int:
    """Make a campaign that was submitted before go on where it stands."""
    row = campaigns.seal_campaign(session, campaign, who=act.who, now=utc_now())
    before = steering.locked(session, row.id)
    steering.refuse_paused(campaign.name, before)
    steering.refuse_cancelled(campaign.name, before)
    campaigns.make_ready(session, row.id)
    detail = edit.write(session, row.id, act.who) if edit is not None else {}
    act.note(session, campaign.name, {"resumed": True, **detail})
    return row.id


def _put(
    site: Site, campaign: Campaign, act: Act, given: memory.Numbers, archive: Path, saved: SavedPlan | None
) -> tuple[int, bool, CampaignPlan | None]:
    """Pack, plan and write a campaign; return its number, whether it stood there before, and else its plan."""
    bundle: Bundle | None = None
    while True:
        with site.database.reading() as session:
            resumed = campaigns.exists(session, campaign.name)
        plan = None
        if resumed and saved is not None:
            require_sealed(site, saved)
        if not resumed:
            if not archive.exists():
                bundle = pack(campaign.pipeline, site.config, archive)
            with site.database.reading() as session:
                number = saved_plans.number_of(session, campaign.name)
                plan = plan_campaign(session, campaign, site.config, number, bundle.sealed if bundle else None)
            plan.require()
            if saved is not None:
                require_same(site, plan, saved)
            if bundle is not None:
                keep(site, bundle, archive)
        written = site.database.write(
            partial(_write, act=act, site=site, campaign=campaign, plan=plan, given=given, bundle=bundle, saved=saved)
        )
        if written is not None:
            return written, resumed, plan


def _write(
    session: Session,
    *,
    act: Act,
    site: Site,
    campaign: Campaign,
    plan: CampaignPlan | None,
    given: memory.Numbers,
    bundle: Bundle | None,
    saved: SavedPlan | None,
) -> int | None:
    """Write a campaign and what of its plan can be sealed; None where things changed meanwhile, to try again.

    What was seen must be what is sealed first.
    """
    now = utc_now()
    saved_plans.lock_numbers(session)
    if plan is not None and saved_plans.number_of(session, campaign.name) != plan.number:
        return None
    if plan is not None and saved is not None and campaigns.exists(session, campaign.name):
        return None
    store_ids(session, site.config.stores)
    row = campaigns.seal_campaign(session, campaign, who=act.who, now=now)
    if plan is not None:
        if bundle is not None:
            told = provenance_of(bundle, campaign.pipeline)
            register_bundle(session, bundle.sealed, told, who=act.who, now=now)
        for stage in plan.stages:
            if not stage.projected:
                seal(session, row, stage, now=now)
        attempts.number_from(session, row.id, given.stages)
    campaigns.make_ready(session, row.id)
    act.note(session, campaign.name, {"resumed": plan is None, **({"plan": saved.digest} if saved else {})})
    return row.id
