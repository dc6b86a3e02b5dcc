"""Names of flow runs that nobody asked for, in place of those that Prefect makes up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run

NAMING_SECONDS: Final = 5.0
"""How often it is looked for runs that a schedule has made; the server makes some every few minutes."""
AUTO_SCHEDULED: Final = "auto-scheduled"
"""The tag that Prefect gives to what its schedules make."""


def name_at(name: str, at: datetime) -> str:
    """Return the name of a run of a schedule by its time in UTC, as ``reconcile 2026-01-10 03:15``."""
    return f"{name} {at:%Y-%m-%d %H:%M}"


def flow_name(entrypoint: str) -> str:
    """Return the name of a flow by its entry point: ``bring-home`` for ``flows.bring_home.bring_home_``."""
    return entrypoint.rpartition(".")[2].rstrip("_").replace("_", "-")


def at_its_time(name: str) -> Callable[[], str]:
    """Return what names a run of a schedule when it begins, as :func:`name_at` does."""
    return lambda: name_at(name, flow_run.get_scheduled_start_time())


@dataclass
class Upcoming:
    """The runs that schedules have made and that have not begun.

    Prefect's scheduler invents a name for each, and no setting, deployment or schedule says another.

    Parameters
    ----------
    client
        Of the server.
    deployments
        The entry points of the deployments whose runs are named, by ID.
    """

    client: SyncPrefectClient
    deployments: Mapping[UUID, str]
    _next: float = 0.0

    def name(self) -> None:
        """Give those that have another name the one that they begin with; seldom, however often it is called.

        Nothing but the name is changed, so it does not matter whether a run begins meanwhile. One that was deleted, or
        that a busy server does not change, is passed over.

        Raises
        ------
        httpx.HTTPError
            Where the server is away.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + NAMING_SECONDS
        waiting = {
            "deployment_id": {"any_": list(self.deployments)},
            "state": {"type": {"any_": [StateType.SCHEDULED]}},
            "tags": {"all_": [AUTO_SCHEDULED]},
        }
        for run in self.client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(waiting)):
            if run.deployment_id is None or run.expected_start_time is None or run.run_count:
                continue  # what begins again has the name that it began with
            flow = flow_name(self.deployments[run.deployment_id])
            if run.name != (name := name_at(flow, run.expected_start_time)):
                with suppress(httpx.HTTPStatusError):
                    self.client.update_flow_run(run.id, name=name)
