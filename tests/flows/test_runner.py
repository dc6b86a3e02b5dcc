"""The warm runner: flow runs in forked children, and what becomes of those that end without telling."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Paused, Pending, Running, Scheduled

from flows.hosting import service
from flows.hosting.children import Child, ChildRecord, state_after
from flows.hosting.daemon import DaemonState
from nightmill.execution.owner import this_process
from tests.flows.conftest import Conductor, until, written


def _pid(file: Path) -> int:
    """Return the PID that a flow run wrote into a file."""
    return int(until(lambda: written(file), 30, f"a PID in {file}").split()[0])


def _kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)


def test_a_run_is_carried_out_in_a_fork_of_the_runner(conductor: Conductor, tmp_path: Path) -> None:
    run = conductor.submit("note/note", file=str(tmp_path / "note"), seconds=2)
    process = psutil.Process(_pid(tmp_path / "note"))
    assert process.ppid() == service.status(conductor.site).runner_pid
    assert process.cmdline() == psutil.Process(process.ppid()).cmdline(), "an interpreter of its own takes seconds"
    conductor.wait(run, "Completed")
    assert written(tmp_path / "note").split() == [str(process.pid), "done"]


def test_the_heartbeat_of_the_engine_is_off(conductor: Conductor, tmp_path: Path) -> None:
    run = conductor.submit("heartbeat/heartbeat", file=str(tmp_path / "heartbeat"))
    conductor.wait(run, "Completed")
    assert written(tmp_path / "heartbeat") == "None", "it would hold up the end of each flow run for a second"


def test_it_shows_as_a_worker_of_its_pool(conductor: Conductor) -> None:
    workers = conductor.client.read_workers_for_work_pool("nightmill")
    assert any(worker.name.startswith(conductor.site.name) for worker in workers)
    assert conductor.client.read_work_pool("nightmill").status == "READY"


def test_a_killed_run_is_crashed_and_says_by_what(conductor: Conductor, tmp_path: Path) -> None:
    run = conductor.submit("note/note", file=str(tmp_path / "note"), seconds=600)
    pid = _pid(tmp_path / "note")
    _kill(pid)
    state = conductor.wait(run, "Crashed", seconds=10)
    assert state.message == f"process {pid} on {os.uname().nodename} was killed by signal 9 (Killed)"


def test_a_run_whose_process_ends_early_is_crashed_with_its_exit_code(conductor: Conductor) -> None:
    run = conductor.submit("vanish/vanish", code=3)
    state = conductor.wait(run, "Crashed", seconds=20)
    assert state.message is not None
    assert state.message.endswith("ended with exit code 3 before its flow run had a final state")


def test_a_cancelled_run_ends_with_all_its_processes(conductor: Conductor, tmp_path: Path) -> None:
    run = conductor.submit("with-child/with-child", file=str(tmp_path / "child"))
    child = psutil.Process(_pid(tmp_path / "child"))
    conductor.wait(run, "Running")
    conductor.client.set_flow_run_state(run, Cancelling())
    conductor.wait(run, "Cancelled")
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5, "the end of the grandchild")


def test_campaigns_do_not_take_the_places_of_their_slices(conductor: Conductor, tmp_path: Path) -> None:
    files = [tmp_path / f"campaign{number}" for number in range(3)]
    runs = [conductor.submit("waits-for-slices/waits-for-slices", file=str(file)) for file in files]
    for run, file in zip(runs, files, strict=True):
        conductor.wait(run, "Completed")
        assert written(file) == "all done\n"


def test_slices_wait_for_a_place(conductor: Conductor, tmp_path: Path) -> None:
    files = [tmp_path / f"slice{number}" for number in range(3)]
    runs = [conductor.submit("note/note", file=str(file), seconds=600) for file in files]
    first = [_pid(file) for file in files[:2]]
    time.sleep(2)
    assert written(files[2]) == ""
    assert conductor.state(runs[2]).name == "Scheduled"
    for pid in first:
        _kill(pid)
    third = _pid(files[2])
    _kill(third)
    for run in runs:
        conductor.wait(run, "Crashed")


def test_runs_outlive_their_runner_and_the_next_one_looks_after_them(conductor: Conductor, tmp_path: Path) -> None:
    lives = conductor.submit("note/note", file=str(tmp_path / "lives"), seconds=8)
    dies = conductor.submit("note/note", file=str(tmp_path / "dies"), seconds=600)
    pids = [_pid(tmp_path / name) for name in ("lives", "dies")]
    _kill(service.status(conductor.site).runner_pid)
    until(lambda: service.status(conductor.site).runner is DaemonState.DEAD, 5, "the end of the runner")
    assert service.status(conductor.site).flow_runs == 2
    _kill(pids[1])
    assert conductor.start().healthy
    state = conductor.wait(dies, "Crashed", seconds=10)
    assert state.message == f"process {pids[1]} on {os.uname().nodename} ended while its runner was away"
    conductor.wait(lives, "Completed", seconds=30)
    until(lambda: service.status(conductor.site).flow_runs == 0, 5, "the runner to forget both")


def test_a_claim_of_a_runner_that_was_killed_is_given_back(conductor: Conductor, tmp_path: Path) -> None:
    _kill(service.status(conductor.site).runner_pid, signal.SIGHUP)
    until(lambda: service.status(conductor.site).runner is DaemonState.DEAD, 5, "the end of the runner")
    run = conductor.submit("note/note", file=str(tmp_path / "note"))
    conductor.client.set_flow_run_state(run, Pending())
    record = ChildRecord(flow_run_id=run, flow_run_name="claimed", queue="slices")
    (service.folder_of(conductor.site) / "runs" / f"{run}.json").write_text(record.model_dump_json())
    conductor.start()
    conductor.wait(run, "Completed")


def test_a_restart_of_the_server_harms_no_run(conductor: Conductor, tmp_path: Path) -> None:
    before = service.status(conductor.site)
    run = conductor.submit("note/note", file=str(tmp_path / "before"), seconds=3)
    _pid(tmp_path / "before")
    _kill(before.server.pid)
    until(lambda: not service.status(conductor.site).server.healthy, 5, "the end of the server")
    time.sleep(3)
    after = conductor.start()
    assert after.server.api_url == before.server.api_url
    assert after.runner_pid == before.runner_pid
    conductor.wait(run, "Completed")
    later = conductor.submit("note/note", file=str(tmp_path / "after"))
    conductor.wait(later, "Completed")


def test_stopping_ends_the_runs_and_says_so(conductor: Conductor, tmp_path: Path) -> None:
    run = conductor.submit("note/note", file=str(tmp_path / "note"), seconds=600)
    pid = _pid(tmp_path / "note")
    _kill(service.status(conductor.site).runner_pid, signal.SIGTERM)
    state = conductor.wait(run, "Crashed")
    assert state.message == "Execution was aborted by a termination signal."
    until(lambda: service.status(conductor.site).runner is DaemonState.DEAD, 5, "the end of the runner")
    assert not psutil.pid_exists(pid)
    assert conductor.start().healthy


def test_no_run_is_left_unfinished(conductor: Conductor) -> None:
    """Of all that the tests above submitted."""
    runs = conductor.client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": conductor.submitted}})
    )
    assert [run.name for run in runs if run.state is None or not run.state.is_final()] == []


# ------------------------------------------------------------------------------------ the rule by itself


def _child(exit_code: int | None, *, forked: bool = True, mine: bool = True, cancelled: bool = False) -> Child:
    process = this_process() if forked else None
    record = ChildRecord(flow_run_id=uuid4(), flow_run_name="x", queue="slices", process=process)
    return Child(record, mine=mine, exit_code=exit_code, ended=True, cancelled=cancelled)


@pytest.mark.parametrize("told", [Completed(), Failed(), Crashed(), Paused(), Scheduled(), Cancelled()])
def test_what_a_process_told_itself_is_left(told: State[object]) -> None:
    assert state_after(_child(0), told) is None
    assert state_after(_child(1), told) is None


def test_a_process_that_gave_way_changes_nothing() -> None:
    assert state_after(_child(0), Running()) is None


@pytest.mark.parametrize("state", [Pending(), Running()])
def test_an_unfinished_run_without_a_process_is_crashed(state: State[object]) -> None:
    for child in (_child(1), _child(-9), _child(None, mine=False)):
        after = state_after(child, state)
        assert after is not None
        assert after.name == "Crashed"


def test_a_claim_that_was_never_forked_is_given_back() -> None:
    after = state_after(_child(None, forked=False, mine=False), Pending())
    assert after is not None
    assert after.name == "Scheduled"
    assert state_after(_child(None, forked=False, mine=False), Running()) is None


@pytest.mark.parametrize("state", [Cancelling(), Crashed(), Running()])
def test_a_cancelled_run_is_cancelled_whatever_its_process_made_of_the_signal(state: State[object]) -> None:
    after = state_after(_child(-15, cancelled=True), state)
    assert after is not None
    assert after.name == "Cancelled"


def test_a_run_that_was_complete_before_it_was_cancelled_stays_so() -> None:
    assert state_after(_child(0, cancelled=True), Completed()) is None
