"""What commands ask of the conductor: have a campaign conducted, and tell how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows import server, service
from flows.api import PrefectApi, RunState
from flows.daemon import DaemonState
from nightmill.errors import ServerAway

__all__ = ["CampaignRun", "RunState", "flow_run_url", "require_server", "run_state", "start_campaign"]

POOL = "nightmill"


@dataclass(frozen=True)
class CampaignRun:
    """The flow run that conducts a campaign."""

    flow_run_id: str
    ui_url: str


def require_server(directory: Path) -> None:
    """Make sure that what is submitted to a site will be carried out.

    Raises
    ------
    ServerAway
        Where its server does not answer, or nothing takes work from it.
    """
    status = service.status(directory)
    if not status.server.healthy:
        raise ServerAway(
            f"the Prefect server of {directory} is {status.server.state}"
            + (" and does not answer" if status.server.state is DaemonState.RUNNING else ""),
            remedy="start it with `nightmill server start`",
        )
    if status.runner is not DaemonState.RUNNING:
        with PrefectApi.of_site(directory) as api:
            if not api.pool_is_served(POOL):
                raise ServerAway(
                    f"no worker serves the work pool {POOL!r} of {directory} (its runner is {status.runner})",
                    remedy="start one with `nightmill server start`",
                )


def start_campaign(directory: Path, name: str) -> CampaignRun:
    """Have a campaign conducted that is on record in the backbone.

    A campaign has one flow run: one that is under way is left to it, one that has ended is carried out again in place.

    Raises
    ------
    ServerAway
        Where the server does not answer.
    """
    with PrefectApi.of_site(directory) as api:
        run = api.run_of(
            "campaign/campaign",
            name=name,
            key=f"{directory}:{name}",
            parameters={"campaign": name, "site": str(directory)},
            tags=[name],
        )
        if run.state.ended:
            api.schedule(run.id, "submitted again")
    return CampaignRun(run.id, flow_run_url(directory, run.id))


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
    """Return where the UI shows a flow run; empty where no server was ever started for the site."""
    record = server.daemon(service.folder_of(directory)).record()
    return f"{record.details['ui_url']}/runs/flow-run/{flow_run_id}" if record else ""
