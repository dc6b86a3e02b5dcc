"""What is deployed, by the runner and by Prefect's own command."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.client.schemas.filters import DeploymentFilter
from prefect.client.schemas.schedules import IntervalSchedule

from flows.hosting import server
from flows.hosting.daemon import clean_environment
from flows.hosting.declared import load_deployments
from flows.hosting.deploy import deploy
from flows.hosting.naming import at_its_time, flow_name
from flows.hosting.service import folder_of
from flows.reconcile import reconcile
from flows.retain import retain
from tests.flows.conftest import DEPLOYMENTS, REPOSITORY, Conductor

INSTALLED = {
    "campaign": ("flows.campaign.campaign", "campaigns"),
    "slice": ("flows.slice.slice_", "slices"),
    "reconcile": ("flows.reconcile.reconcile", "services"),
    "retain": ("flows.retain.retain", "services"),
    "bring-home": ("flows.bring_home.bring_home_", "services"),
}


def _deployed(conductor: Conductor) -> dict[str, tuple[str | None, str | None, object, list[float]]]:
    found = conductor.client.read_deployments(deployment_filter=DeploymentFilter())
    return {
        each.name: (
            each.entrypoint,
            each.work_queue_name,
            each.parameters.get("site"),
            [
                schedule.schedule.interval.total_seconds()
                for schedule in each.schedules
                if isinstance(schedule.schedule, IntervalSchedule)
            ],
        )
        for each in found
    }


def test_the_installed_file_declares_the_flows() -> None:
    declared = load_deployments()
    assert {d.name: (d.entrypoint, d.work_pool.work_queue_name) for d in declared.deployments} == INSTALLED
    assert {name: flow_name(entrypoint) for name, (entrypoint, _) in INSTALLED.items()} == {
        name: name for name in INSTALLED
    }
    assert declared.pools == {"nightmill"}
    assert set(declared.definitions.work_queues) == {"campaigns", "slices", "services"}


def test_a_run_of_a_schedule_is_named_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 1, 10, 3, 15, tzinfo=UTC)
    monkeypatch.setattr("prefect.runtime.flow_run.get_scheduled_start_time", lambda: at)
    assert [name() for name in map(at_its_time, ("reconcile", "retain"))] == [
        "reconcile 2026-01-10 03:15",
        "retain 2026-01-10 03:15",
    ]
    assert all(callable(each.flow_run_name) for each in (reconcile, retain))


def test_deploying_again_changes_nothing(conductor: Conductor) -> None:
    declared = load_deployments(DEPLOYMENTS)
    limits = {"campaigns": 2, "slices": 2, "services": 1}
    before = _deployed(conductor)
    deploy(conductor.client, declared, site=conductor.site, limits=limits)
    assert _deployed(conductor) == before
    assert set(before) == {deployment.name for deployment in declared.deployments}
    assert before["slice"][2] == str(conductor.site)
    services = {each.name for each in conductor.client.read_deployments() if "service" in each.tags}
    assert services == before.keys() & {"reconcile", "retain"}, "so that the UI can leave them out"
    queues = conductor.client.read_work_queues(work_pool_name="nightmill")
    assert "default" not in {queue.name for queue in queues}, "nothing would use it"
    for queue, limit in limits.items():
        found = conductor.client.read_work_queue_by_name(queue, work_pool_name="nightmill")
        assert found.concurrency_limit == limit


def test_prefects_own_command_deploys_the_installed_file(conductor: Conductor) -> None:
    environment = clean_environment(server.api_environment(folder_of(conductor.site)))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "prefect",
            "--no-prompt",
            "deploy",
            "--prefect-file",
            "deployments/prefect.yaml",
            "--all",
        ],
        cwd=REPOSITORY,
        env={**environment, "NIGHTMILL_SITE": str(conductor.site), "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    deployed = _deployed(conductor)
    for name, (entrypoint, queue) in INSTALLED.items():
        assert deployed[name][:3] == (entrypoint, queue, str(conductor.site))
    [declared] = [declared for declared in load_deployments().deployments if declared.name == "reconcile"]
    assert deployed["reconcile"][3] == [schedule.interval for schedule in declared.schedules] != []
    for deployment in conductor.client.read_deployments():  # or it would run while other tests do
        for schedule in deployment.schedules:
            conductor.client.delete_deployment_schedule(deployment.id, schedule.id)


def test_an_ordinary_worker_serves_the_same_pool(conductor: Conductor, tmp_path: Path) -> None:
    environment = clean_environment(server.api_environment(folder_of(conductor.site)))
    queue = conductor.client.create_work_queue("elsewhere", work_pool_name="nightmill")
    note = conductor.client.read_deployment_by_name("note/note")
    run = conductor.client.create_flow_run_from_deployment(
        note.id, parameters={"file": str(tmp_path / "note")}, work_queue_name=queue.name
    )
    argv = ["-m", "prefect", "worker", "start", "--pool", "nightmill", "--work-queue", "elsewhere", "--run-once"]
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert conductor.wait(run.id, "Completed").name == "Completed"
    assert "done" in (tmp_path / "note").read_text()
