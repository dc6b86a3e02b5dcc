"""The part of an audit that asks Prefect: flow runs whose states contradict the backbone; nothing is corrected."""

from __future__ import annotations

from collections.abc import Iterator

from flows.hosting import server, service
from flows.hosting.api import PrefectApi
from flows.hosting.daemon import DaemonState
from flows.hosting.reconcile import disagreements_of_site
from nightmill.errors import ServerAway
from nightmill.operations.audit import Contradiction, Kind
from nightmill.operations.site import Site


def find(site: Site) -> Iterator[Contradiction]:
    """Yield flow runs of the site's campaigns whose states are wrong.

    Raises
    ------
    ServerAway
        Where the server does not run, or does not answer within seconds.
    """
    directory = site.config.directory
    state = server.daemon(service.folder_of(directory)).state()
    if state is not DaemonState.RUNNING:
        raise ServerAway(f"its server is {state}")
    with PrefectApi.of_site(directory).in_a_hurry() as api:
        for run, right in disagreements_of_site(site, api):
            yield Contradiction(
                Kind.FLOW_RUN,
                f"flow run {run.name} ({run.id})",
                f"Prefect says {run.state.type}, and it ought to be {right['type']}: {right['message']}",
                "'nightmill status' makes them agree",
                since=run.state.at,
            )
