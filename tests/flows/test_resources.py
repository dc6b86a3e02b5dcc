"""What stages say of their resources, obeyed by the slices of a campaign under Prefect."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from uuid import UUID

from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.states import Cancelling
from sqlalchemy import select

from flows.hosting.conductor import PrefectConductor
from nightmill.backbone.schema import AttemptRow, ExecutionRow, JobRow
from nightmill.backbone.work.campaigns import campaign_named
from nightmill.backbone.work.slices import slices
from nightmill.execution.host import this_host
from nightmill.execution.slots import Slots
from nightmill.operations.carrying import SLOTS
from tests.flows.conftest import Conductor, conductor_at, until

HOST = this_host()


def _start(conductor: Conductor, name: str, night: int, *settings: str) -> str:
    conductor.start()
    conductor.observatory.submit(name, night, "pipeline.stages.science.resources.cores=1000", *settings)
    with conductor.observatory.open() as site:
        return PrefectConductor(site).start(name).flow_run_id


def _end(conductor: Conductor, flow_run_id: str) -> tuple[str, str]:
    def state() -> tuple[str, str] | None:
        found = conductor_at(conductor.site).state(flow_run_id)
        return (found.type, found.message) if found.ended else None

    return until(state, 120, "the end of the campaign")


def test_jobs_of_two_slices_that_want_all_cores_run_one_after_another(conductor: Conductor) -> None:
    conductor.observatory.observe(61, ["seconds 0.3\n"] * 5)
    run = _start(conductor, "n61", 61, "execution.jobs_per_slice=2")
    assert _end(conductor, run)[0] == "COMPLETED"
    with conductor.observatory.open() as site, site.database.reading() as session:
        campaign_id = campaign_named(session, "n61").id
        run_ids = [each.flow_run_id for each in slices(session, campaign_id, stage="science")]
        ran = select(ExecutionRow.began_at, ExecutionRow.ended_at).join(AttemptRow).join(JobRow)
        ran = ran.where(JobRow.campaign_id == campaign_id, JobRow.stage == "science")
        times = sorted((began_at, ended_at) for began_at, ended_at in session.execute(ran) if ended_at)
    assert len(run_ids) == 3
    assert len(times) == 5
    assert all(ended_at <= began_at for (_, ended_at), (began_at, _) in pairwise(times))
    told = f"A job asks for 1000 cores, and host {HOST.name} has {HOST.cores}: each runs alone there, on all of them"
    of_slice = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(run_ids[0])]))
    until(lambda: told in {log.message for log in conductor.client.read_logs(of_slice)}, 30, "the warning")


def test_a_stage_that_wants_more_memory_than_the_host_has_is_refused_before_any_job(conductor: Conductor) -> None:
    conductor.observatory.observe(62, ["seconds 0\n"] * 3)
    run = _start(conductor, "n62", 62, f"pipeline.stages.science.resources.memory_bytes={10**18}")
    state, message = _end(conductor, run)
    assert state == "FAILED"
    told = f"stage 'science': a job of the stage asks for {10**18} bytes of memory, and host {HOST.name} has "
    assert message.startswith(f"3 of 3 jobs not done; {told}")
    assert message.count("lower memory_bytes in the stage's resources, or run its slices on a larger host") == 1
    assert set(conductor.observatory.states("n62").values()) == {"planned"}


def test_a_slice_whose_jobs_all_find_no_room_is_halted_and_says_so(conductor: Conductor) -> None:
    conductor.observatory.observe(64, ["seconds 0\n"] * 12)
    settings = [f"pipeline.stages.science.resources.scratch_bytes={10**18}", "execution.threads=1"]
    run = _start(conductor, "n64", 64, *settings)
    state, message = _end(conductor, run)
    assert state == "FAILED"
    assert "12 of 12 jobs not done; stage 'science' was halted: 3 jobs in a row ended with no_space on host" in message
    assert "jobs were left for later: rerun when that is mended" in message
    states = Counter(conductor.observatory.states("n64").values())
    assert states["failed"] + states["ready"] + states["planned"] == 12
    assert states["failed"] in range(3, 9), "a few may have begun meanwhile"


def test_a_slice_that_waits_for_cores_ends_when_it_is_told_to(conductor: Conductor) -> None:
    conductor.observatory.observe(63, ["seconds 0\n"])
    with conductor.observatory.open() as site:
        taken = Slots(site.config.spool / SLOTS / HOST.name, HOST.cores).take(HOST.cores)
    assert taken is not None
    with taken:
        run = _start(conductor, "n63", 63)
        until(lambda: "active" in conductor.observatory.states("n63").values(), 60, "a job that was issued")
        conductor.client.set_flow_run_state(UUID(run), Cancelling())
        conductor.wait(UUID(run), "Cancelled")
        ready = {"science/exposure=6300": "ready"}
        until(lambda: conductor.observatory.states("n63") == ready, 30, "the end of its slice")
