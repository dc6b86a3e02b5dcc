"""What commands ask of the conductor: have a campaign conducted, and tell how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.hosting import server, service
from flows.hosting.api import PrefectApi, RunState
from flows.hosting.daemon import DaemonState
from flows.hosting.listener import unusable
from flows.hosting.reconcile import reconcile_campaign, reconcile_site
from nightmill.backbone.campaigns import campaign_named
from nightmill.backbone.slices import slices
from nightmill.errors import ServerAway
from nightmill.operations.site import Site

__all__ = [
    "CampaignRun",
    "RunState",
    "Seen",
    "flow_run_link",
    "flow_run_url",
    "reconcile",
    "require_server",
    "run_state",
    "start_campaign",
]

POOL = "nightmill"
AGAIN = "submitted again"
_FLOW_RUN = "/runs/flow-run/"


@dataclass(frozen=True)
class CampaignRun:
    """The flow run that conducts a campaign."""

    flow_run_id: str
    ui_url: str
    link: str
    """The same for a person: it signs their browser in."""


@dataclass(frozen=True)
class Seen:
    """What Prefect says of campaigns.

    Parameters
    ----------
    states
        Of their flow runs, by ID.
    away
        Why it was not reached; empty where it was.
    """

    states: Mapping[str, RunState] = field(default_factory=dict)
    away: str = ""


def require_server(directory: Path) -> None:
    """Make sure that what is submitted to a site will be carried out.

    Raises
    ------
    ServerAway
        Where its server does not answer, or nothing takes work from it.
    """
    status = service.status(directory)
    if not status.server.healthy:
        raise unusable(server.daemon(service.folder_of(directory)))
    if status.runner is not DaemonState.RUNNING:
        with PrefectApi.of_site(directory) as api:
            if not api.pool_is_served(POOL):
                raise ServerAway(
                    f"no worker serves the work pool {POOL!r} of {directory} (its runner is {status.runner})",
                    remedy="start one with `nightmill server start`",
                )


def reconcile(site: Site, name: str | None, flow_run_ids: Sequence[str]) -> Seen:
    """Make the states of Prefect agree with the backbone, and return those of some flow runs; takes seconds at most.

    Parameters
    ----------
    name
        Of a campaign, or None for all of them.
    """
    directory = site.config.directory
    if not flow_run_ids:
        return Seen()
    try:
        state = server.daemon(service.folder_of(directory)).state()
        if state is not DaemonState.RUNNING:
            return Seen(away=f"its server is {state}")
        with PrefectApi.of_site(directory).in_a_hurry() as api:
            if name is None:
                reconcile_site(site, api)
            else:
                reconcile_campaign(site, api, name)
            return Seen({run.id: run.state for run in api.read_many(flow_run_ids)})
    except ServerAway as error:
        return Seen(away=error.message)


def start_campaign(site: Site, name: str) -> CampaignRun:
    """Have a campaign conducted that is on record in the backbone, once Prefect's states agree with that.

    A campaign has one flow run: one that has ended is carried out again in place. One that is under way goes on, and
    those of its slices are carried out again that have ended and have work left.

    Raises
    ------
    ServerAway
        Where the server does not answer.
    """
    directory = site.config.directory
    with PrefectApi.of_site(directory) as api:
        reconcile_campaign(site, api, name)
        run = api.run_of(
            "campaign/campaign",
            name=name,
            key=f"{directory}:{name}",
            parameters={"campaign": name, "site": str(directory)},
            tags=[name],
        )
        if run.state.ended:
            api.schedule(run.id, AGAIN)
        else:
            with site.database.reading() as session:
                found = slices(session, campaign_named(session, name).id)
            left = [each.flow_run_id for each in found if each.flow_run_id and each.done < each.jobs]
            for slice_run in api.read_many(left):
                if slice_run.state.ended:
                    api.schedule(slice_run.id, AGAIN)
    return CampaignRun(run.id, flow_run_url(directory, run.id), flow_run_link(directory, run.id))


def run_state(directory: Path, flow_run_id: str) -> RunState:
    """Return the state of a flow run.

    Raises
    ------
    ServerAway
        Where the server does not answer, or the flow run was deleted from it.
    """
    with PrefectApi.of_site(directory) as api:
        run = api.read(flow_run_id)
    if run is None:
        raise ServerAway(
            f"the Prefect server of {directory} has no flow run {flow_run_id}",
            remedy="submit the campaign again: it is taken up where it stands",
        )
    return run.state


def flow_run_url(directory: Path, flow_run_id: str) -> str:
    """Return where the UI shows a flow run; empty where this user never started a server for the site."""
    with suppress(ServerAway):
        if record := server.daemon(service.folder_of(directory)).record():
            return f"{record.details['ui_url']}{_FLOW_RUN}{flow_run_id}"
    return ""


def flow_run_link(directory: Path, flow_run_id: str) -> str:
    """Return the same for a person: a link that signs their browser in, and is good for some hours."""
    with suppress(ServerAway):
        return server.link(service.folder_of(directory), f"{_FLOW_RUN}{flow_run_id}")
    return ""
