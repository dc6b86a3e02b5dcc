"""The conductor of a site: its Prefect server, as commands ask it. Nothing here imports Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.hosting import server, service
from flows.hosting.api import PrefectApi
from flows.hosting.daemon import DaemonState
from flows.hosting.halted import AWAITING_HOST
from flows.hosting.listener import unusable
from flows.hosting.reconcile import reconcile_campaign, reconcile_site, release
from flows.hosting.runners import POOL
from nightmill.backbone.work.campaigns import own_campaign
from nightmill.backbone.work.conducting import conducts_campaign
from nightmill.backbone.work.slices import slices
from nightmill.errors import ServerAway
from nightmill.model.conducting import CampaignRun, RunState, Seen
from nightmill.operations.site import Site

AGAIN: Final = "submitted again"
_FLOW_RUN: Final = "/runs/flow-run/"


@dataclass(frozen=True)
class PrefectConductor:
    """The port :class:`nightmill.model.ports.Conductor`, for the Prefect server of a site."""

    site: Site

    @property
    def directory(self) -> Path:
        """The folder of the site."""
        return self.site.config.directory

    def require(self) -> None:
        """Make sure that what is submitted will be carried out."""
        status = service.status(self.directory)
        if not status.server.healthy:
            raise unusable(server.daemon(service.folder_of(self.directory)))
        if status.runner is not DaemonState.RUNNING:
            with PrefectApi.of_site(self.directory) as api:
                if not api.pool_is_served(POOL):
                    raise ServerAway(
                        f"no worker serves the work pool {POOL!r} of {self.directory} (its runner is {status.runner})",
                        remedy="start one with `nightmill server start`",
                    )

    def start(self, campaign: str) -> CampaignRun:
        """Have a campaign conducted."""
        with PrefectApi.of_site(self.directory) as api:
            reconcile_campaign(self.site, api, campaign)
            run = api.run_of(
                "campaign/campaign",
                name=campaign,
                key=f"{self.directory}:{campaign}",
                parameters={"campaign": campaign, "site": str(self.directory)},
                tags=[campaign],
            )
            self.site.database.write(
                lambda session: conducts_campaign(session, own_campaign(session, campaign).id, run.id)
            )
            if run.state.ended:
                api.schedule(run.id, AGAIN)
            else:
                with self.site.database.reading() as session:
                    found = slices(session, own_campaign(session, campaign).id)
                left = [each.flow_run_id for each in found if each.flow_run_id and each.done < each.jobs]
                for slice_run in api.read_many(left):
                    if slice_run.state.ended or slice_run.state.name == AWAITING_HOST:
                        api.schedule(slice_run.id, AGAIN)
        return CampaignRun(run.id, self.url(run.id), self.link(run.id))

    def reconcile(self, campaign: str | None, flow_run_ids: Sequence[str]) -> Seen:
        """Make the states of Prefect agree with the backbone, where its server answers at once."""
        if not flow_run_ids:
            return Seen()
        try:
            state = server.daemon(service.folder_of(self.directory)).state()
            if state is not DaemonState.RUNNING:
                return Seen(away=f"its server is {state}")
            with PrefectApi.of_site(self.directory).in_a_hurry() as api:
                if campaign is None:
                    reconcile_site(self.site, api)
                else:
                    reconcile_campaign(self.site, api, campaign)
                    release(self.site, api, campaign)
                states = {run.id: run.state for run in api.read_many(flow_run_ids)}
                return Seen(states, gone=frozenset(flow_run_ids) - states.keys())
        except ServerAway as error:
            return Seen(away=error.message)

    def state(self, flow_run_id: str) -> RunState:
        """Return the state of a flow run."""
        with PrefectApi.of_site(self.directory) as api:
            run = api.read(flow_run_id)
        if run is None:
            raise ServerAway(
                f"the Prefect server of {self.directory} has no flow run {flow_run_id}",
                remedy="submit the campaign again: it is taken up where it stands",
            )
        return run.state

    def url(self, flow_run_id: str) -> str:
        """Return where the UI shows a flow run."""
        with suppress(ServerAway):
            if record := server.daemon(service.folder_of(self.directory)).record():
                return f"{record.details['ui_url']}{_FLOW_RUN}{flow_run_id}"
        return ""

    def link(self, flow_run_id: str) -> str:
        """Return where the UI shows a flow run, with a ticket that signs a browser in."""
        with suppress(ServerAway):
            return server.link(service.folder_of(self.directory), f"{_FLOW_RUN}{flow_run_id}")
        return ""
