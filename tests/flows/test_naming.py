"""Runs of a schedule have names of ours from their making, not the ones that Prefect invents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Running, Scheduled

from flows.hosting import service
from flows.hosting.naming import NAMING_SECONDS, Upcoming, name_at
from tests.flows.conftest import Conductor, until, written

INVENTED = re.compile(r"[a-z]+(-[a-z]+)+")
AT = (datetime.now(UTC) + timedelta(hours=12)).replace(microsecond=0)
"""When the runs are due: or they would begin while other tests run."""
NAMES = {name_at("reconcile", AT + timedelta(days=day)) for day in range(3)}
WAITING = {"state": {"type": {"any_": ["SCHEDULED"]}}, "tags": {"all_": ["auto-scheduled"]}}


@pytest.fixture
def schedule(conductor: Conductor) -> Iterator[tuple[UUID, UUID]]:
    """Give `reconcile` a schedule, and return the IDs of both."""
    conductor.start()
    deployment = conductor.client.read_deployment_by_name("reconcile/reconcile").id
    daily = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(days=1), anchor_date=AT))
    [made] = conductor.client.create_deployment_schedules(deployment, [daily])
    try:
        _schedule(conductor, deployment)
        yield deployment, made.id
    finally:
        conductor.client.delete_deployment_schedule(deployment, made.id)


def _schedule(conductor: Conductor, deployment: UUID) -> None:
    """Do what the server's scheduler does once a minute."""
    ahead = {"start_time": datetime.now(UTC).isoformat(), "min_runs": 3, "max_runs": 3}
    conductor.client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment}, json=ahead)


def _runs(conductor: Conductor, **filtered: object) -> list[FlowRun]:
    ours = {"name": {"any_": ["campaign", "slice", "reconcile"]}}
    found: list[FlowRun] = conductor.client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(filtered), deployment_filter=DeploymentFilter.model_validate(ours)
    )
    return found


def _upcoming(conductor: Conductor) -> set[str]:
    return {run.name for run in _runs(conductor, **WAITING)}


def test_no_run_of_a_site_has_an_invented_name_and_a_paused_schedule_makes_none(
    conductor: Conductor, schedule: tuple[UUID, UUID]
) -> None:
    log = service.folder_of(conductor.site) / "runner.log"
    before = len(written(log))
    until(lambda: _upcoming(conductor) == NAMES, 2 * NAMING_SECONDS, f"the names {NAMES}")
    assert [run.name for run in _runs(conductor) if INVENTED.fullmatch(run.name)] == []
    conductor.client.update_deployment_schedule(*schedule, active=False)
    until(lambda: not _upcoming(conductor), 10, "the runs to go with their schedule")
    conductor.client.update_deployment_schedule(*schedule, active=True)
    _schedule(conductor, schedule[0])
    until(lambda: _upcoming(conductor) == NAMES, 2 * NAMING_SECONDS, f"the names {NAMES} again")
    assert "away" not in written(log)[before:]


def test_a_run_that_is_deleted_meanwhile_or_begins_again_is_left(
    conductor: Conductor, schedule: tuple[UUID, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = conductor.client
    until(lambda: _upcoming(conductor) == NAMES, 2 * NAMING_SECONDS, f"the names {NAMES}")
    begun, deleted, named = (run.id for run in sorted(_runs(conductor, **WAITING), key=lambda run: run.name))
    client.set_flow_run_state(begun, Running(), force=True)
    client.set_flow_run_state(begun, Scheduled(scheduled_time=AT), force=True)
    client.update_flow_run(begun, name="its own")
    for run_id in (deleted, named):
        client.update_flow_run(run_id, name="crouching-lemur")
    read = client.read_flow_runs

    def read_before_it_is_deleted(*, flow_run_filter: FlowRunFilter) -> list[FlowRun]:
        found: list[FlowRun] = read(flow_run_filter=flow_run_filter)
        client.delete_flow_run(deleted)
        return found

    monkeypatch.setattr(client, "read_flow_runs", read_before_it_is_deleted)
    upcoming = Upcoming(client, {schedule[0]: "flows.reconcile.reconcile"})
    upcoming.name()
    upcoming.name()  # too soon: nothing is asked, so that nothing is deleted twice
    assert client.read_flow_run(begun).name == "its own"
    assert client.read_flow_run(named).name in NAMES
    client.delete_flow_run(begun)  # the others go with their schedule
