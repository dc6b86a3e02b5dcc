"""One Prefect server and one warm runner for all tests of this folder: the only place that starts them."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun, State, TaskRun

from flows.hosting import service
from flows.hosting.access import read_secret
from flows.hosting.children import ChildRecord
from flows.hosting.conductor import PrefectConductor
from nightmill.backbone.database import Database
from nightmill.config.server import ServerConfig
from nightmill.config.site import load_site
from nightmill.model.conducting import RunState
from nightmill.operations.site import Site
from tests.support import prefect_database
from tests.support.observatory import Observatory

T = TypeVar("T")
BUSY = 10
"""How much slower a busy machine may be. A wait ends when there is something to see: its length costs nothing."""
_numbers = itertools.count(1)
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

    def run_state(self, run: str) -> RunState:
        return conductor_at(self.site).state(run)

    def wait(self, run: UUID, *names: str, seconds: float = 60.0) -> State[object]:
        """Wait until a run has a state of one of these names."""
        return until(lambda: state if (state := self.state(run)).name in names else None, seconds, f"{names}")


def conductor_at(directory: Path) -> PrefectConductor:
    """Return the conductor of a site whose database nobody asks."""
    config = load_site(directory, need_types=False)
    return PrefectConductor(Site(config, Database(config.database_url)))


def until(look: Callable[[], T | None], seconds: float, wanted: str) -> T:
    """Look again and again until there is something to see: so long on an idle machine, and longer on a busy one."""
    deadline = time.monotonic() + BUSY * seconds
    while True:
        if seen := look():
            return seen
        assert time.monotonic() < deadline, f"waited {seconds} s for {wanted}"
        time.sleep(0.05)


def written(file: Path) -> str:
    return file.read_text() if file.exists() else ""


@pytest.fixture(scope="package")
def conductor(tmp_path_factory: pytest.TempPathFactory, prefect_template: Path) -> Iterator[Conductor]:
    observatory = Observatory.build(tmp_path_factory.mktemp("conducted"))
    site = observatory.directory
    prefect_database.give(site, prefect_template)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        try:
            started = service.start(site, ServerConfig(), deployments=DEPLOYMENTS)
            secret = read_secret(service.folder_of(site))
            with SyncPrefectClient(started.server.api_url, auth_string=secret) as client:
                yield Conductor(observatory, client)
        finally:
            service.stop(site)


@dataclass
class Campaign:
    """A campaign over a night of its own."""

    conductor: Conductor
    name: str
    notes: Path
    flag: Path
    """Makes the steps succeed that wait for it."""

    def start(self, *settings: str) -> str:
        self.conductor.observatory.submit(self.name, int(self.name[1:]), *settings)
        with self.conductor.observatory.open() as site:
            return PrefectConductor(site).start(self.name).flow_run_id

    def wait(self, seconds: float = 90.0) -> RunState:
        """Wait until its flow run has ended."""
        return until(lambda: state if (state := self.state()).ended else None, seconds, f"the end of {self.name}")

    def state(self) -> RunState:
        return self.conductor.run_state(str(self.run().id))

    def run(self) -> FlowRun:
        [run] = self._runs(self.name)
        return run

    def slice(self, stage: str = "science") -> FlowRun:
        [run] = until(lambda: self._runs(f"{self.name} {stage} #0"), 30, f"the slice of {stage}")
        return run

    def _runs(self, name: str) -> list[FlowRun]:
        runs: list[FlowRun] = self.conductor.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name]))
        )
        return runs

    def task_runs(self, run: FlowRun) -> dict[str, list[TaskRun]]:
        found: dict[str, list[TaskRun]] = {}
        for task_run in self.conductor.client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        ):
            found.setdefault(task_run.name, []).append(task_run)
        return found

    def states(self) -> dict[str, str]:
        return self.conductor.observatory.states(self.name)

    def done(self) -> int:
        return Counter(self.states().values())["done"]

    def exposure(self, number: int) -> str:
        return f"science/exposure={100 * int(self.name[1:]) + number}"

    def times_run(self) -> dict[str, int]:
        """How often the step of each exposure ran, by exposure."""
        return Counter(line[:4] for line in written(self.notes).splitlines())


Observe = Callable[..., Campaign]


@pytest.fixture
def observe(conductor: Conductor, tmp_path: Path) -> Observe:
    """Make a campaign over exposures whose steps do what these texts say; ``FLAG`` stands for its flag."""
    conductor.start()  # where a test before this one has failed halfway

    def make(*texts: str) -> Campaign:
        night = next(_numbers)
        campaign = Campaign(conductor, f"n{night}", tmp_path / "notes", tmp_path / "flag")
        lines = [f"note {campaign.notes}\n{text.replace('FLAG', str(campaign.flag))}\n" for text in texts]
        conductor.observatory.observe(night, lines)
        return campaign

    return make


def process_of(conductor: Conductor, run: FlowRun) -> int:
    file = service.folder_of(conductor.site) / "runs" / f"{run.id}.json"
    record = ChildRecord.model_validate_json(until(lambda: written(file), 30, f"the process of {run.name}"))
    return until(lambda: record.process, 10, "its process").pid


def steps(campaign: Campaign) -> list[int]:
    """Return the processes that carry out a step on an exposure of the campaign."""
    first = f"../inputs/raw{campaign.name[1:]}0"
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(item.startswith(first) for item in process.info["cmdline"] or [])
    ]
