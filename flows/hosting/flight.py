"""Prefect in a flight check: a flow run that its runner carries out, and that is removed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from flows.hosting import service
from flows.hosting.api import FlowRun, PrefectApi
from flows.hosting.conductor import PrefectConductor
from flows.hosting.daemon import DaemonState
from nightmill.errors import ServerAway
from nightmill.operations.site import Site

NAME: Final = "flight check"
DEPLOYMENT: Final = "reconcile/reconcile"
"""What is run: it changes nothing that is as it should be, and runs every quarter of an hour anyway."""
SECONDS: Final = 120.0
"""The services of a site take turns: another may be under way."""
POLL_SECONDS: Final = 0.2


def carried_out(site: Site) -> str:
    """Have the runner of a site carry out a flow run, remove that, and say what was seen.

    A run that a killed check left has the same key: it is found, and removed with this one.

    Raises
    ------
    ServerAway
        Where the server or the runner does not answer, or the run does not end well.
    """
    directory = site.config.directory
    status = service.status(directory)
    if not status.server.pid and status.runner is not DaemonState.RUNNING:
        return "does not run; 'nightmill server start' starts it"
    PrefectConductor(site).require()
    with PrefectApi.of_site(directory) as api:
        run = scheduled(api, directory)
        if run.state.ended:  # of a check that was killed
            api.remove(run.id)
            run = scheduled(api, directory)
        deadline = time.monotonic() + SECONDS
        try:
            while (found := api.read(run.id)) is not None and not found.state.ended:
                if time.monotonic() > deadline:
                    raise ServerAway(
                        f"a flow run of {DEPLOYMENT} has not ended after {SECONDS:.0f} s: it is {found.state.name}",
                        remedy="see the runner's log; 'nightmill server stop', then start it again",
                    )
                time.sleep(POLL_SECONDS)
        finally:
            api.remove(run.id)
    if found is not None and found.state.type != "COMPLETED":
        raise ServerAway(
            f"a flow run of {DEPLOYMENT} ended {found.state.name}: {found.state.message}",
            remedy="see what it says, and the runner's log",
        )
    return "the runner carried out a flow run, which was removed"


def scheduled(api: PrefectApi, directory: Path) -> FlowRun:
    """Return the flow run of a check; where there is none, schedule one."""
    return api.run_of(DEPLOYMENT, name=NAME, key=f"flight:{directory}", parameters={"site": str(directory)})
