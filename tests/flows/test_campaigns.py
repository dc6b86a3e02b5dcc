"""Campaigns conducted by Prefect: what the UI shows, retries and reruns."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prefect.client.schemas.filters import ArtifactFilter
from prefect.states import Failed, Running, Scheduled

from flows.hosting.conductor import PrefectConductor
from nightmill.errors import ServerAway
from tests.flows.conftest import Conductor, Observe, until, written
from tests.support.observatory import Observatory


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
    summary = str(by_key[f"campaign-{campaign.name}"].data)
    assert "| science | 2 | 1 | 1 | 0 |" in summary
    assert "- known: of 1 run of steps 0 confined" in summary
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
    logs = until(lambda: conductor.client.request("POST", "/logs/filter", json=of_task_run).json(), 30, "its log")
    assert [log["message"].count(reason) for log in logs] == [1], "told once"
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
    assert campaign.wait().message == "4 jobs done; carried out 2 times"
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


def test_commands_say_what_to_do_where_no_server_is(tmp_path: Path) -> None:
    with Observatory.build(tmp_path / "site").open() as site:
        conductor = PrefectConductor(site)
        with pytest.raises(ServerAway, match="is stopped; start it with `nightmill server start`"):
            conductor.require()
        with pytest.raises(ServerAway, match="nightmill server start"):
            conductor.start("night1")
        assert conductor.url("x") == ""


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
