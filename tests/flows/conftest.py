"""One Prefect server and one warm runner for all tests of this folder: the only place that starts them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State

from flows import service
from nightmill.config.site import ServerConfig
from tests.flows.observatory import Observatory

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[2]
DEPLOYMENTS = Path(__file__).with_name("prefect.yaml")


@dataclass
class Conductor:
    """A site that is conducted, and what tests ask of it."""

    observatory: Observatory
    client: SyncPrefectClient
    submitted: list[UUID] = field(default_factory=list)

    @property
    def site(self) -> Path:
        return self.observatory.directory

    def start(self) -> service.ServiceStatus:
        return service.start(self.site, ServerConfig(), deployments=DEPLOYMENTS)

    def submit(self, name: str, **parameters: object) -> UUID:
        deployment = self.client.read_deployment_by_name(name)
        run: FlowRun = self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        self.submitted.append(run.id)
        return run.id

    def state(self, run: UUID) -> State[object]:
        state = self.client.read_flow_run(run).state
        assert state is not None
        return state

    def wait(self, run: UUID, *names: str, seconds: float = 60.0) -> State[object]:
        """Wait until a run has a state of one of these names."""
        return until(lambda: state if (state := self.state(run)).name in names else None, seconds, f"{names}")


def until(look: Callable[[], T | None], seconds: float, wanted: str) -> T:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + seconds
    while True:
        if seen := look():
            return seen
        assert time.monotonic() < deadline, f"waited {seconds} s for {wanted}"
        time.sleep(0.05)


def written(file: Path) -> str:
    return file.read_text() if file.exists() else ""


@pytest.fixture(scope="session")
def conductor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conductor]:
    observatory = Observatory.build(tmp_path_factory.mktemp("conducted"))
    site = observatory.directory
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        try:
            started = service.start(site, ServerConfig(), deployments=DEPLOYMENTS)
            with SyncPrefectClient(started.server.api_url) as client:
                yield Conductor(observatory, client)
        finally:
            service.stop(site)
