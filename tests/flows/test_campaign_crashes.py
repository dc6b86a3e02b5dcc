"""Campaigns whose processes are killed, told to end, or doubled: nothing is lost, and both sides agree afterwards."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest
from prefect.states import Cancelling, Completed, Crashed, Running

from flows.hosting import service
from flows.hosting.api import PrefectApi
from flows.hosting.daemon import DaemonState
from flows.hosting.reconcile import reconcile_site
from nightmill.cli.render.standing import show_status
from nightmill.errors import ServerAway
from tests.flows.conftest import Conductor, Observe, conductor_at, process_of, steps, until


def test_a_killed_slice_is_taken_up_where_it_was(observe: Observe, conductor: Conductor) -> None:
    campaign = observe("", "", "seconds 600", "seconds 600")
    campaign.start("execution.jobs_per_task=1", "execution.threads=2")
    until(lambda: campaign.done() == 2 and len(campaign.times_run()) == 4, 30, "two jobs done, two under way")
    assert len(steps(campaign)) == 2
    os.kill(process_of(conductor, campaign.slice()), signal.SIGKILL)
    ended = campaign.wait()
    assert ended.type == "FAILED"
    assert "2 of 4 jobs not done" in ended.message
    assert "signal 9" in (conductor.state(campaign.slice().id).message or "")
    assert Counter(campaign.states().values()) == {"done": 2, "failed": 2}
    jobs = conductor.observatory.jobs(campaign.name)
    assert {line.fate for line in jobs.values() if line.state == "failed"} == {"lost"}
    until(lambda: not steps(campaign), 10, "the end of the steps of the killed slice")


@pytest.mark.parametrize("what", ["runner", "server", "both"])
def test_kills_in_mid_campaign_lose_nothing(observe: Observe, conductor: Conductor, what: str) -> None:
    campaign = observe("", "seconds 3", "seconds 3", "seconds 3")
    campaign.start("execution.jobs_per_task=1", "execution.threads=1")
    until(lambda: campaign.done() >= 1, 30, "the first job")
    status = service.status(conductor.site)
    slice_pid = process_of(conductor, campaign.slice())
    campaign_pid = process_of(conductor, campaign.run())
    if what != "server":
        for pid in (status.runner_pid, slice_pid, campaign_pid):
            os.kill(pid, signal.SIGKILL)
        until(lambda: service.status(conductor.site).runner is DaemonState.DEAD, 10, "the end of the runner")
    if what != "runner":
        os.kill(status.server.pid, signal.SIGKILL)
        until(lambda: not service.status(conductor.site).server.pid, 10, "the end of the server")
        with pytest.raises(ServerAway, match="is dead; start it with `nightmill server start`"):
            conductor_at(conductor.site).require()
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
    pids = [process_of(conductor, run) for run in runs]
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
    assert not steps(campaign)
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
        assert corrections[str(slice_run.id)].message == "1 job done, as the backbone says"
        assert str(run.id) not in corrections, "it may have been taken up again a moment ago"
    assert conductor.state(slice_run.id).name == "Completed"
    scheduled = conductor.submit("reconcile/reconcile", site=str(conductor.site))
    conductor.wait(scheduled, "Completed")
    conductor.client.set_flow_run_state(run.id, Completed(), force=True)  # or it keeps a place in its queue
