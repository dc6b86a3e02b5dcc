"""The few requests to a Prefect server that commands and flows have in common, over its REST interface.

Not Prefect's own client, because importing that takes seconds, and `nightmill submit` should not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx

from flows.hosting import server
from flows.hosting.listener import require_own
from flows.hosting.service import folder_of
from nightmill.errors import ServerAway
from nightmill.model.conducting import RunState

PATIENCE_SECONDS = 120.0
"""Longer than a restart of the server takes."""
BUSY_SECONDS = 20.0
"""How long a server may answer 503: so it does where another request holds the lock of its SQLite database."""
ANSWER_SECONDS = 30.0
HURRY_SECONDS = 3.0
POLL_SECONDS = 0.5
_PAGE = 100
_MANY = 200
"""As many as Prefect gives at a time."""


@dataclass(frozen=True)
class FlowRun:
    """A flow run, as far as nightmill needs to know it."""

    id: str
    name: str
    state: RunState
    parameters: Mapping[str, Any]
    run_count: int = 0
    """How often it was carried out."""


@dataclass(frozen=True)
class Deployed:
    """A deployment, as the server tells of it."""

    id: str
    entrypoint: str
    version: str
    """Of the nightmill that made it; empty where something else did."""
    parameters: Mapping[str, Any]


@dataclass
class PrefectApi:
    """A connection to a Prefect server; use it as a context.

    Parameters
    ----------
    url
        Of its API.
    auth
        ``user:password``, or empty.
    patience_seconds
        How long a request waits for a server that is away.
    busy_seconds
        How long for one that answers that it is busy, at least.
    answer_seconds
        How long for an answer.
    guard
        Is called before each request, and raises where it must not be sent.
    if_refused
        What to do where the server refuses the secret.
    """

    url: str
    auth: str = ""
    patience_seconds: float = 0.0
    busy_seconds: float = BUSY_SECONDS
    answer_seconds: float = ANSWER_SECONDS
    guard: Callable[[], None] = lambda: None
    if_refused: str = "`nightmill server stop`, then start it again"

    @classmethod
    def of_site(cls, site: Path) -> Self:
        """Connect to the server of a site.

        Raises
        ------
        ServerAway
            Where none was started. Each request raises it, too, where the server's own process does not listen any
            more: so that no other is told the secret.
        """
        folder = folder_of(site)
        environment = server.api_environment(folder)
        return cls(
            environment["PREFECT_API_URL"],
            environment.get("PREFECT_API_AUTH_STRING", ""),
            guard=partial(require_own, server.daemon(folder)),
        )

    @classmethod
    def of_flow(cls, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """Connect a flow run's process to the server that it reports to, patiently: a flow outlives a restart of it."""
        auth = os.environ.get("PREFECT_API_AUTH_STRING", "")
        return cls(os.environ["PREFECT_API_URL"], auth, patience_seconds)

    def in_a_hurry(self) -> Self:
        """Return a connection of which a request fails within seconds, rather than to wait."""
        return replace(self, patience_seconds=0.0, busy_seconds=0.0, answer_seconds=HURRY_SECONDS)

    def __enter__(self) -> Self:
        user, _, password = self.auth.partition(":")
        self._http = httpx.Client(
            base_url=self.url, auth=httpx.BasicAuth(user, password) if self.auth else None, timeout=self.answer_seconds
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def run_of(
        self,
        deployment: str,
        *,
        name: str,
        key: str,
        parameters: Mapping[str, Any],
        tags: Sequence[str] = (),
        parent: str = "",
    ) -> FlowRun:
        """Return the flow run of a deployment that has this idempotency key; where none has, schedule one.

        Parameters
        ----------
        deployment
            As ``flow/deployment``.
        name
            Of the flow run, where it is made.
        tags
            By which the UI filters.
        parent
            The flow run below which the UI shows it.
        """
        found = self._request("GET", f"/deployments/name/{deployment}")
        body = {
            "name": name,
            "idempotency_key": key,
            "parameters": dict(parameters),
            "tags": list(tags),
            "state": scheduled(""),
        }
        if parent:
            stands_for_it = {
                "name": name,
                "flow_run_id": parent,
                "task_key": deployment,
                "dynamic_key": key,
                "state": {"type": "PENDING"},
            }
            body["parent_task_run_id"] = self._request("POST", "/task_runs/", stands_for_it)["id"]
        return _flow_run(self._request("POST", f"/deployments/{found['id']}/create_flow_run", body))

    def read(self, run_id: str) -> FlowRun | None:
        """Return a flow run, or None where there is none (any more)."""
        return next(iter(self.read_many([run_id])), None)

    def read_many(self, run_ids: Sequence[str]) -> list[FlowRun]:
        """Return the flow runs of these IDs that exist."""
        found: list[FlowRun] = []
        for start in range(0, len(run_ids), _PAGE):
            any_ = list(run_ids[start : start + _PAGE])
            found += map(_flow_run, self._request("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": any_}}}))
        return found

    def runs_in(self, states: Sequence[str], deployments: Sequence[str]) -> list[FlowRun]:
        """Return the flow runs of some deployments (by their names) that are in a state of one of these types."""
        body = {
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
            "deployments": {"name": {"any_": list(deployments)}},
            "limit": _PAGE,
            "offset": 0,
        }
        found: list[FlowRun] = []
        while page := self._request("POST", "/flow_runs/filter", body):
            found += map(_flow_run, page)
            body["offset"] = len(found)
        return found

    def schedule(self, run_id: str, message: str) -> None:
        """Have a flow run carried out again, in place."""
        self.set_state(run_id, scheduled(message))

    def set_state(self, run_id: str, state: Mapping[str, Any]) -> None:
        """Give a flow run a state, whatever state it has."""
        self._request("POST", f"/flow_runs/{run_id}/set_state", {"state": dict(state), "force": True})

    def remove(self, run_id: str) -> None:
        """Remove a flow run, if it is there."""
        if self.read(run_id) is not None:
            self._request("DELETE", f"/flow_runs/{run_id}")

    def show(self, run_id: str, type: str, data: object, description: str, *, key: str = "") -> None:
        """Show an artifact with a flow run: the one of this type that it has, with new content; else a new one.

        Parameters
        ----------
        type
            ``progress``, ``table`` or ``markdown``; a flow run has at most one of each.
        key
            Under which the UI lists it among those of all flow runs; with none it does not.
        """
        content = {"data": data, "description": description}
        of_run = {"flow_run_id": {"any_": [run_id]}, "type": {"any_": [type]}}
        for found in self._request("POST", "/artifacts/filter", {"artifacts": of_run, "limit": 1}):
            self._request("PATCH", f"/artifacts/{found['id']}", content)
            return
        self._request("POST", "/artifacts/", {**content, "type": type, "flow_run_id": run_id, "key": key or None})

    def deployments_of(self, pool: str) -> dict[str, Deployed]:
        """Return the deployments of a work pool, by their names."""
        body = {"work_pools": {"name": {"any_": [pool]}}}
        return {
            each["name"]: Deployed(each["id"], each["entrypoint"] or "", each["version"] or "", each["parameters"])
            for each in self._request("POST", "/deployments/filter", body)
        }

    def workers_of(self, pool: str) -> dict[str, datetime]:
        """Return when each worker of a work pool was last heard of, by their names."""
        found = self._request("POST", f"/work_pools/{pool}/workers/filter", {"limit": _MANY})
        return {each["name"]: datetime.fromisoformat(each["last_heartbeat_time"]) for each in found}

    def pool_is_served(self, pool: str) -> bool:
        """Whether a worker of a work pool was heard of lately."""
        return bool(self._request("GET", f"/work_pools/{pool}")["status"] == "READY")

    def _request(self, method: str, path: str, body: object = None) -> Any:
        began = time.monotonic()
        while True:
            self.guard()
            remedy = "see how it is with `nightmill server status`"
            try:
                response = self._http.request(method, path, json=body)
                response.raise_for_status()
                return response.json() if response.content else None
            except httpx.HTTPStatusError as error:
                busy = error.response.status_code >= 500
                patience = max(self.patience_seconds, self.busy_seconds) if busy else 0.0
                failure: httpx.HTTPError = error
                told = f"answered {error.response.status_code}: {error.response.text[:200]}"
                if error.response.status_code == httpx.codes.UNAUTHORIZED:
                    told, remedy = "refuses the secret that it was sent", self.if_refused
            except httpx.HTTPError as error:
                patience, failure = self.patience_seconds, error
                told = f"cannot be reached: {error}"
            if time.monotonic() - began >= patience:
                raise ServerAway(
                    f"the Prefect server at {self.url} {told} ({method} {path})", remedy=remedy
                ) from failure
            time.sleep(POLL_SECONDS)


def scheduled(message: str, *, name: str = "Scheduled", seconds: float = 0.0) -> dict[str, Any]:
    """Return the state of a flow run that is to be carried out in so many seconds, as soon as there is room."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return {"type": "SCHEDULED", "name": name, "message": message, "state_details": {"scheduled_time": at.isoformat()}}


def paused(message: str) -> dict[str, Any]:
    """Return the state of a flow run that ended and is to be carried out again: Prefect's own, without its timeout."""
    return {"type": "PAUSED", "name": "Paused", "message": message, "state_details": {"pause_reschedule": True}}


def _flow_run(given: Mapping[str, Any]) -> FlowRun:
    state = given["state"] or {"type": "SCHEDULED", "name": "", "message": "", "timestamp": given["created"]}
    return FlowRun(
        id=given["id"],
        name=given["name"],
        state=RunState(
            state["type"], state["name"], state["message"] or "", datetime.fromisoformat(state["timestamp"])
        ),
        parameters=given["parameters"],
        run_count=given["run_count"],
    )
