"""Campaigns conducted by Prefect: what the UI shows, retries, crashes, and that both sides agree afterwards."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.states import Cancelling, Completed, Crashed, Failed, Running, Scheduled

from flows import client as commands
from flows import service
from flows.api import PrefectApi, RunState
from flows.daemon import DaemonState
from flows.reconciliation import reconcile_site
from flows.runner import ChildRecord
from nightmill.cli._standing import show_status
from nightmill.errors import ServerAway
from tests.flows.conftest import Conductor, until, written
from tests.flows.observatory import Observatory

_numbers = itertools.count(1)


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
            return commands.start_campaign(site, self.name).flow_run_id

    def wait(self, seconds: float = 90.0) -> RunState:
        """Wait until its flow run has ended."""
        return until(lambda: state if (state := self.state()).ended else None, seconds, f"the end of {self.name}")

    def state(self) -> RunState:
        return commands.run_state(self.conductor.site, str(self.run().id))

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


def _process_of(conductor: Conductor, run: FlowRun) -> int:
    file = service.folder_of(conductor.site) / "runs" / f"{run.id}.json"
    record = ChildRecord.model_validate_json(until(lambda: written(file), 30, f"the process of {run.name}"))
    return until(lambda: record.process, 10, "its process").pid


def test_the_ui_shows_campaign_slices_and_jobs_by_name(observe: Observe) -> None:
    campaign = observe("", "", "")
    began = time.monotonic()
    campaign.start("execution.jobs_per_task=1")
    until(lambda: written(campaign.notes), 15, "the first job")
    print(f"submit to first job: {time.monotonic() - began:.1f} s")
    ended = campaign.wait()
    assert (ended.type, ended.message) == ("COMPLETED", "4 jobs done")
    for stage, jobs in (("science", [campaign.exposure(n) for n in range(3)]), ("summary", ["summary/night=1"])):
        run = campaign.slice(stage)
        assert run.state is not None
        assert run.state.name == "Completed"
        task_runs = campaign.task_runs(run)
        assert sorted(task_runs) == sorted(job.replace("night=1", f"night={campaign.name[1:]}") for job in jobs)
        assert {task_run.state_name for runs in task_runs.values() for task_run in runs} == {"Completed"}
    assert sorted(campaign.task_runs(campaign.run())) == [f"{campaign.name} {s} #0" for s in ("science", "summary")]


def test_progress_table_and_summary_are_artifacts(observe: Observe, conductor: Conductor) -> None:
    campaign = observe("", "unless FLAG")
    campaign.start()
    campaign.wait()
    artifacts = conductor.client.read_artifacts(artifact_filter=ArtifactFilter())
    by_key = {artifact.key: artifact for artifact in artifacts if artifact.key}
    table = by_key[f"jobs-{campaign.name}-science-0"]
    assert "no star in the field" in str(table.data)
    assert str(table.data).index("failed") < str(table.data).index("done"), "failed jobs come first"
    assert "| science | 2 | 1 | 1 | 0 |" in str(by_key[f"campaign-{campaign.name}"].data)
    progress = [a for a in artifacts if a.type == "progress" and a.flow_run_id == campaign.slice().id]
    assert [artifact.data for artifact in progress] == [50.0]


@pytest.mark.parametrize("jobs_per_task", [1, 10])
@pytest.mark.req("REQ-0012", "REQ-0043")
def test_a_failed_job_shows_by_name_and_reason_and_is_retried_from_the_ui(
    observe: Observe, conductor: Conductor, jobs_per_task: int
) -> None:
    campaign = observe("", "unless FLAG", "")
    campaign.start(f"execution.jobs_per_task={jobs_per_task}", "execution.threads=1")
    ended = campaign.wait()
    assert ended.type == "FAILED"
    assert "1 of 3 jobs not done" in ended.message
    assert "stage 'summary' needs 3 jobs of stage 'science'" in ended.message
    reason = f"detect: step_failed: step 'detect' exited with code 3: no star in the field, says {campaign.flag}"
    run = campaign.slice()
    assert run.state is not None
    assert run.state.message == f"1 of 3 jobs not done: {campaign.exposure(1)}: {reason}"
    task_runs = campaign.task_runs(run)
    [task_run] = task_runs[campaign.exposure(1)]
    assert task_run.state is not None
    assert (task_run.state.name, task_run.state.message) == ("Failed", reason)
    of_task_run = {"logs": {"task_run_id": {"any_": [str(task_run.id)]}}}
    logs = conductor.client.request("POST", "/logs/filter", json=of_task_run)
    assert [log["message"].count(reason) for log in logs.json()] == [1], "told once"
    alone, together = {campaign.exposure(n) for n in range(3)}, f"3 jobs: {campaign.exposure(0)} to "
    assert task_runs.keys() >= alone if jobs_per_task == 1 else any(name.startswith(together) for name in task_runs)
    jobs = conductor.observatory.jobs(campaign.name)
    assert [(jobs[campaign.exposure(n)].state, jobs[campaign.exposure(n)].attempts) for n in range(3)] == [
        ("done", 1),
        ("failed", 1),
        ("done", 1),
    ]

    campaign.flag.touch()
    conductor.client.set_flow_run_state(run.id, Scheduled(message="Retry from the UI"), force=True)
    until(lambda: campaign.done() == 4, 60, "the retry, and the stage after it")
    conductor.wait(run.id, "Completed")
    assert campaign.wait().message == "4 jobs done"
    until(lambda: campaign.state().type == "COMPLETED", 30, "the campaign to agree")
    assert sorted(campaign.times_run().values()) == [1, 1, 2], "what was published is not run again"


def test_a_stage_that_a_partly_successful_retry_makes_possible_is_carried_out(
    observe: Observe, conductor: Conductor
) -> None:
    campaign = observe("unless FLAG", "unless FLAG-never")
    campaign.start("pipeline.stages.summary.when=any")
    assert "stage 'summary' needs 1 jobs" in campaign.wait().message
    campaign.flag.touch()
    conductor.client.set_flow_run_state(campaign.slice().id, Scheduled(message="Retry from the UI"), force=True)
    summary = f"summary/night={campaign.name[1:]}"
    until(lambda: campaign.states().get(summary) == "done", 60, "the stage after it")
    assert campaign.states()[campaign.exposure(1)] == "failed"
    until(lambda: campaign.state().type == "FAILED", 30, "the campaign to end again")


@pytest.mark.req("F25")
def test_a_job_that_was_killed_for_no_reason_is_tried_again(observe: Observe, tmp_path: Path) -> None:
    campaign = observe("", f"killed-once {tmp_path / 'killed'}")
    campaign.start("execution.jobs_per_task=1")
    assert campaign.wait().type == "COMPLETED"
    task_runs = campaign.task_runs(campaign.slice())
    [first] = task_runs[campaign.exposure(1)]
    [second] = task_runs[f"{campaign.exposure(1)} (attempt 2)"]
    assert first.state is not None
    assert "step_killed: step 'detect' was ended by SIGKILL" in (first.state.message or "")
    assert second.state_name == "Completed"
    assert sorted(campaign.times_run().values()) == [1, 2]


def test_a_killed_slice_is_taken_up_where_it_was(observe: Observe, conductor: Conductor) -> None:
    campaign = observe("", "", "seconds 600", "seconds 600")
    campaign.start("execution.jobs_per_task=1", "execution.threads=2")
    until(lambda: campaign.done() == 2 and len(campaign.times_run()) == 4, 30, "two jobs done, two under way")
    assert len(_steps(campaign)) == 2
    os.kill(_process_of(conductor, campaign.slice()), signal.SIGKILL)
    ended = campaign.wait()
    assert ended.type == "FAILED"
    assert "2 of 4 jobs not done" in ended.message
    assert "signal 9" in (conductor.state(campaign.slice().id).message or "")
    assert Counter(campaign.states().values()) == {"done": 2, "failed": 2}
    jobs = conductor.observatory.jobs(campaign.name)
    assert {line.fate for line in jobs.values() if line.state == "failed"} == {"lost"}
    until(lambda: not _steps(campaign), 10, "the end of the steps of the killed slice")


def _steps(campaign: Campaign) -> list[int]:
    """Return the processes that carry out a step on an exposure of the campaign."""
    first = f"../inputs/raw{campaign.name[1:]}0"
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(item.startswith(first) for item in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


@pytest.mark.parametrize("what", ["runner", "server", "both"])
def test_kills_in_mid_campaign_lose_nothing(observe: Observe, conductor: Conductor, what: str) -> None:
    campaign = observe("", "seconds 3", "seconds 3", "seconds 3")
    campaign.start("execution.jobs_per_task=1", "execution.threads=1")
    until(lambda: campaign.done() >= 1, 30, "the first job")
    status = service.status(conductor.site)
    slice_pid = _process_of(conductor, campaign.slice())
    campaign_pid = _process_of(conductor, campaign.run())
    if what != "server":
        for pid in (status.runner_pid, slice_pid, campaign_pid):
            os.kill(pid, signal.SIGKILL)
        until(lambda: service.status(conductor.site).runner is DaemonState.DEAD, 10, "the end of the runner")
    if what != "runner":
        os.kill(status.server.pid, signal.SIGKILL)
        until(lambda: not service.status(conductor.site).server.pid, 10, "the end of the server")
        with pytest.raises(ServerAway, match="is dead; start it with `nightmill server start`"):
            commands.require_server(conductor.site)
    conductor.start()
    if what != "server":
        assert campaign.wait().type == "CRASHED"
        conductor.wait(campaign.slice().id, "Crashed")
        campaign.start("execution.jobs_per_task=1", "execution.threads=1")
    until(lambda: campaign.state().type == "COMPLETED", 90, "the campaign to go on to its end")
    assert set(campaign.states().values()) == {"done"}
    assert campaign.done() == 5
    for stage in ("science", "summary"):
        conductor.wait(campaign.slice(stage).id, "Completed")
    again = 1 if what != "server" else 0
    assert sum(campaign.times_run().values()) <= 4 + again, "only the job that was under way ran twice"


@pytest.mark.parametrize("by", ["status", "submit"])
def test_processes_that_died_unseen_are_found(
    observe: Observe, conductor: Conductor, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    """As those of an ordinary worker that died with them: no runner knows of them, and their flow runs stay Running."""
    campaign = observe("until FLAG")
    campaign.start()
    until(lambda: len(campaign.times_run()) == 1, 30, "the job to begin")
    runs = [campaign.run(), campaign.slice()]
    pids = [_process_of(conductor, run) for run in runs]
    for pid in (service.status(conductor.site).runner_pid, *pids):
        os.kill(pid, signal.SIGKILL)
    until(lambda: service.status(conductor.site).runner is DaemonState.DEAD, 10, "the end of the runner")
    for run in runs:
        (service.folder_of(conductor.site) / "runs" / f"{run.id}.json").unlink()
    conductor.start()
    assert [conductor.state(run.id).name for run in runs] == ["Running", "Running"]
    if by == "status":
        with conductor.observatory.open() as site:
            show_status(site, campaign.name, watch=False, as_json=True)
        assert json.loads(capsys.readouterr().out)[0]["flow_run_state"] == "CRASHED"
        told = f"its process ({pids[1]} on {os.uname().nodename}) is dead"
        assert conductor.state(runs[1].id).message == told
    campaign.flag.touch()
    campaign.start()
    until(lambda: campaign.state().type == "COMPLETED", 60, "the campaign to go on")
    assert campaign.done() == 2


def test_a_rerun_takes_effect_while_the_campaign_is_under_way(observe: Observe, conductor: Conductor) -> None:
    campaign = observe("unless FLAG", "seconds 8")
    campaign.start("execution.jobs_per_task=1", "execution.threads=2")
    until(lambda: campaign.states()[campaign.exposure(0)] == "failed", 30, "the failure")
    campaign.flag.touch()
    campaign.start("execution.jobs_per_task=1", "execution.threads=2")
    assert campaign.wait().message == "3 jobs done"
    assert [times for _, times in sorted(campaign.times_run().items())] == [2, 1]


def test_a_rerun_takes_up_slices_that_ended_before_their_campaign(observe: Observe, conductor: Conductor) -> None:
    campaign = observe("unless FLAG")
    campaign.start()
    campaign.wait()
    conductor.client.set_flow_run_state(campaign.run().id, Running(), force=True)
    campaign.flag.touch()
    campaign.start()
    conductor.wait(campaign.slice().id, "Completed")
    assert campaign.states()[campaign.exposure(0)] == "done"
    conductor.client.set_flow_run_state(campaign.run().id, Failed(), force=True)  # or it keeps a place in its queue


def test_two_conductors_of_one_campaign_run_no_job_twice(observe: Observe, conductor: Conductor) -> None:
    campaign = observe(*["seconds 0.5"] * 6)
    campaign.start("execution.jobs_per_task=1", "execution.threads=2")
    run = campaign.slice()
    twin = conductor.submit("slice/slice", campaign=campaign.name, stage="science", number=0, site=str(conductor.site))
    assert campaign.wait().type == "COMPLETED"
    assert conductor.wait(twin, "Completed").message == "6 jobs done"
    assert conductor.state(run.id).name == "Completed"
    assert set(campaign.times_run().values()) == {1}


@pytest.mark.parametrize(("what", "ends"), [("campaign", "Cancelled"), ("runner", "Crashed")])
def test_what_is_told_to_end_says_so_and_goes_on_later(
    observe: Observe, conductor: Conductor, what: str, ends: str
) -> None:
    campaign = observe("", "until FLAG", "until FLAG", "until FLAG")
    campaign.start("execution.jobs_per_task=1", "execution.threads=2")
    until(lambda: campaign.done() == 1 and len(campaign.times_run()) == 3, 30, "one job done, two under way")
    if what == "campaign":
        conductor.client.set_flow_run_state(campaign.run().id, Cancelling())
    else:
        os.kill(service.status(conductor.site).runner_pid, signal.SIGTERM)
        until(lambda: service.status(conductor.site).runner is DaemonState.DEAD, 30, "the end of the runner")
    conductor.wait(campaign.run().id, ends)
    run = campaign.slice()
    conductor.wait(run.id, ends)
    assert not _steps(campaign)
    jobs = conductor.observatory.jobs(campaign.name)
    for name in (campaign.exposure(1), campaign.exposure(2)):
        assert (jobs[name].state, jobs[name].fate) == ("ready", "cancelled")
        assert jobs[name].evidence.startswith("step 'detect' was ended: its flow run was told to end: it was cancel")
    assert jobs[campaign.exposure(3)].state in ("ready", "planned"), "it had not begun"
    under_way = [campaign.exposure(1), campaign.exposure(2)]
    until(
        lambda: {each.state_name for name in under_way for each in campaign.task_runs(run)[name]} == {"Cancelled"},
        20,
        "the server to record the task runs",
    )

    conductor.start()
    campaign.flag.touch()
    campaign.start("execution.jobs_per_task=1", "execution.threads=2")
    until(lambda: campaign.state().type == "COMPLETED", 90, "the campaign to go on to its end")
    assert campaign.done() == 5
    assert [times for _, times in sorted(campaign.times_run().items())] == [1, 2, 2, 1]


def test_reconciliation_corrects_states_that_contradict_the_backbone(observe: Observe, conductor: Conductor) -> None:
    campaign = observe("")
    campaign.start()
    campaign.wait()
    run, slice_run = campaign.run(), campaign.slice()
    conductor.client.set_flow_run_state(slice_run.id, Crashed(message="a lie"), force=True)
    conductor.client.set_flow_run_state(run.id, Running(), force=True)
    with conductor.observatory.open() as site, PrefectApi.of_site(conductor.site) as api:
        corrections = {each.flow_run_id: each for each in reconcile_site(site, api)}
        assert corrections[str(slice_run.id)].message == "1 jobs done, as the backbone says"
        assert str(run.id) not in corrections, "it may have been taken up again a moment ago"
    assert conductor.state(slice_run.id).name == "Completed"
    scheduled = conductor.submit("reconcile/reconcile", site=str(conductor.site))
    conductor.wait(scheduled, "Completed")
    conductor.client.set_flow_run_state(run.id, Completed(), force=True)  # or it keeps a place in its queue


def test_commands_say_what_to_do_where_no_server_is(tmp_path: Path) -> None:
    with pytest.raises(ServerAway, match="is stopped; start it with `nightmill server start`"):
        commands.require_server(tmp_path)
    with Observatory.build(tmp_path / "site").open() as site, pytest.raises(ServerAway, match="nightmill server start"):
        commands.start_campaign(site, "night1")
    assert commands.flow_run_url(tmp_path, "x") == ""


@pytest.mark.parametrize("retried", ["slice", "campaign"])
@pytest.mark.parametrize("least", [1, 2])
def test_a_late_success_reaches_stages_that_did_not_wait_for_it(
    observe: Observe, conductor: Conductor, retried: str, least: int
) -> None:
    campaign = observe("", "unless FLAG")
    campaign.start("pipeline.stages.summary.when=any", f"pipeline.stages.summary.inputs.products.min={least}")
    assert campaign.wait().type == "FAILED"
    summary = f"summary/night={campaign.name[1:]}"
    assert campaign.states().get(summary) == ("done" if least == 1 else None)

    campaign.flag.touch()
    run = campaign.slice() if retried == "slice" else campaign.run()
    conductor.client.set_flow_run_state(run.id, Scheduled(message="Retry from the UI"), force=True)
    until(lambda: campaign.done() == 3, 60, "the retry, and the summary")
    job = until(
        lambda: each if (each := conductor.observatory.jobs(campaign.name)[summary]).stale or least == 2 else None,
        30,
        "stale",
    )
    assert (job.state, job.stale) == ("done", least == 1)
    until(lambda: campaign.state().type == "COMPLETED", 30, "the campaign to agree")
