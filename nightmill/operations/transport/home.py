"""Bringing home what campaigns of other sites made, where they name this site as the home of their outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.copies_elsewhere import copies_elsewhere
from nightmill.backbone.catalogue.transfers import here
from nightmill.backbone.catalogue.withdrawals import withdrawn
from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow, JobRow, ReplicaRow, SiteRow
from nightmill.backbone.sites import name_of, this_site
from nightmill.backbone.work.campaigns import campaign_named
from nightmill.backbone.work.ownership import is_own
from nightmill.errors import RequestRefused
from nightmill.model.campaign import Home
from nightmill.model.partner import among_types
from nightmill.model.states import Purpose
from nightmill.operations.acts import Act
from nightmill.operations.site import Site, read
from nightmill.operations.transport.bring import Wanted, bring

BRING_HOME: Final = "bring-home"
"""The act."""


@dataclass
class BroughtHome:
    """What came home of one campaign, or would."""

    campaign: str
    site: str
    """Where it was made."""
    files: int = 0
    size_bytes: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    """Names of files that did not come, with why."""


def bring_home(
    site: Site,
    campaign: str = "",
    *,
    who: str | None = None,
    dry_run: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> list[BroughtHome]:
    """Bring the results of campaigns of other sites home that name this site as their home, each file once.

    Results alone come: what a failed attempt left, and what a later attempt took the place of, does not.

    Parameters
    ----------
    campaign
        Of this one alone; by default of all.
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    dry_run
        Whether only to say what would come.
    stopping
        Asked now and then whether to give up what has not begun.

    Returns
    -------
    list of BroughtHome
        Those campaigns alone of which something came, would come, or did not.

    Raises
    ------
    UnknownName
        Where there is no such campaign.
    RequestRefused
        Where its outputs do not come home to this site.
    """
    act = Act.begin(site, BRING_HOME, who=who)
    found = []
    for each in site.patiently(lambda: read(site, partial(_campaigns, name=campaign))):
        wanted, failed = site.patiently(partial(read, site, partial(_wanted, site=site, of=each)))
        done = BroughtHome(each.name, each.site, len(wanted), sum(file.size_bytes for file in wanted), failed)
        if wanted and not dry_run:
            _bring(site, wanted, done, act, stopping)
        if done.files or done.failed:
            found.append(done)
    return found


def _bring(site: Site, wanted: list[Wanted], done: BroughtHome, act: Act, stopping: Callable[[], bool]) -> None:
    """Bring files, and say what became of them."""
    brought = bring(site, wanted, Purpose.HOME, stopping=stopping)
    names = {file.id: file.name for file in wanted}
    done.files, done.size_bytes = brought.files, brought.size_bytes
    done.failed = {**done.failed, **{names[id_]: why for id_, why in brought.failed.items()}}
    if done.files:
        detail = {"files": done.files, "size_bytes": done.size_bytes}
        site.patiently(lambda: act.write(done.campaign, lambda _session: None, lambda _: detail))


@dataclass(frozen=True)
class _Campaign:
    id: int
    name: str
    site: str
    home: Home


def _campaigns(session: Session, *, name: str) -> list[_Campaign]:
    """Return the campaigns whose outputs come home to this site."""
    here = name_of(session, this_site(session))
    if name:
        row = campaign_named(session, name)
        home = Home.model_validate(row.definition.get("home", {}))
        if home.site != here or row.site_id == this_site(session):
            told = f"come home to site {home.site!r}" if home.site and home.site != here else "stay where they are made"
            raise RequestRefused(
                f"the outputs of campaign {name!r} {told}", remedy=f"submit it again with --set home.site={here}"
            )
    query = (
        select(CampaignRow.id, CampaignRow.name, SiteRow.name, CampaignRow.definition)
        .join(SiteRow, SiteRow.id == CampaignRow.site_id)
        .where(~is_own(session), CampaignRow.definition["home"]["site"].as_string() == here)
        .order_by(CampaignRow.id)
    )
    if name:
        query = query.where(CampaignRow.name == name)
    return [
        _Campaign(id_, called, site, Home.model_validate(definition["home"]))
        for id_, called, site, definition in session.execute(query)
    ]


def _wanted(session: Session, *, site: Site, of: _Campaign) -> tuple[list[Wanted], dict[str, str]]:
    """Return which results of a campaign are not here yet, and why some of them cannot come."""
    query = (
        select(FileRow.id, FileRow.name, FileRow.type, FileRow.size_bytes, FileRow.sha256)
        .join(AttemptRow, AttemptRow.id == FileRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(JobRow.campaign_id == of.id, AttemptRow.result, ~withdrawn())
        .where(select(ReplicaRow.id).where(ReplicaRow.file_id == FileRow.id).correlate(FileRow).exists())
        .where(~here(session).where(ReplicaRow.file_id == FileRow.id).correlate(FileRow).exists())
        .order_by(FileRow.id)
    )
    rows = [row for row in session.execute(query) if among_types(row.type, of.home.types)]
    partners = site.config.partners
    if rows and of.site not in partners:
        why = (
            f"{len(rows)} files of campaign {of.name!r} are to come home from site {of.site!r}, which is not a partner"
        )
        raise RequestRefused(why, remedy=f"name it under 'partners' in {site.config.directory / 'nightmill.yaml'}")
    copies = copies_elsewhere(session, [row.id for row in rows], partners)
    into = partners[of.site].into if rows else ""
    wanted = [
        Wanted(id_, name, size_bytes, sha256, tuple(copies[id_]), into, of.id)
        for id_, name, _type, size_bytes, sha256 in rows
        if id_ in copies
    ]
    why = f"no store of partner {of.site!r} that nightmill.yaml names has it"
    return wanted, {row.name: why for row in rows if row.id not in copies}
