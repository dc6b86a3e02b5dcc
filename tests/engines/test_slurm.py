"""A real Slurm keeps every promise of a carrier, and what it tells of ends is what they were."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import pytest

from nightmill.engines.slurm import Slurm, SlurmOptions
from nightmill.errors import EngineAway, RequestRefused
from nightmill.execution.dispatches import send_out
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.fate import Fate
from nightmill.model.order import JobOrder
from nightmill.model.pipeline import Resources
from nightmill.operations.flight.engines import fly
from nightmill.testing.engines import LONG, EngineConformance, Ground, InTheBackground, Opener, until, worker_of
from tests.support.observatory import Observatory
from tests.support.slurm import Slurm as Cluster


def options(**more: object) -> SlurmOptions:
    return SlurmOptions.model_validate({"places": 4, "look_seconds": 0.25, "export": ["SLURM_CONF"], **more})


class TestSlurm(EngineConformance):
    @pytest.fixture
    def opener(self, cluster: Cluster) -> Opener:
        return lambda: Slurm("slurm", options())


def carried_out(ground: Ground, order: JobOrder, **more: object) -> tuple[Fate | None, str]:
    with ground.remote(Slurm("slurm", options(**more))) as (remote, _):
        [report] = list(remote.run([order]))
    return report.fate, report.evidence


def with_memory(order: JobOrder, megabytes: int) -> JobOrder:
    return order.model_copy(update={"resources": Resources(memory_bytes=megabytes << 20)})


@pytest.mark.req("X28", "F25")
def test_a_job_that_takes_more_memory_than_it_asked_for_is_out_of_memory(cluster: Cluster, ground: Ground) -> None:
    if not cluster.limits_memory:
        pytest.skip("the kernel here has no memory controller that Slurm can use")
    python = "import time; x = bytearray(600 << 20); time.sleep(30)"
    alone = with_memory(ground.order(1, f"exec python3 -c '{python}'"), 60)
    fate, evidence = carried_out(ground, alone)
    assert fate is Fate.OUT_OF_MEMORY, evidence

    of_a_shell = with_memory(ground.order(2, f"python3 -c '{python}'; exit $?"), 60)
    fate, evidence = carried_out(ground, of_a_shell)
    assert fate is Fate.OUT_OF_MEMORY, evidence
    assert "step 'write' exited with code 137 as a process of it was killed by the kernel for lack of" in evidence

    fate, evidence = carried_out(ground, ground.order(3, "exit 137"))
    assert fate is Fate.STEP_FAILED, evidence


@pytest.mark.req("X28")
def test_a_job_that_runs_out_of_its_time_is_told_so_by_slurm(cluster: Cluster, ground: Ground) -> None:
    """Slurm counts in minutes, and looks every half."""
    fate, evidence = carried_out(ground, ground.order(1, "sleep 300; echo late > {out}"), partition="short")
    assert fate is Fate.WALL_LIMIT
    assert "on node1: TIMEOUT" in evidence


@pytest.mark.req("X28")
def test_an_administrator_who_cancels_and_a_node_that_fails_are_told_apart(cluster: Cluster, ground: Ground) -> None:
    cancelled, failed = ground.order(1, LONG), ground.order(2, LONG)
    with ground.remote(Slurm("slurm", options())) as (remote, _):
        first = InTheBackground(partial(remote.run, [cancelled]))
        dispatched, _pid = worker_of(ground, cancelled.attempt)
        cluster.call("scancel", "--full", "--signal=KILL", str(dispatched.handle))
        cluster.call("scancel", str(dispatched.handle))
        [report] = first.join()
        assert report.fate is Fate.ENDED_OUTSIDE, report.evidence
        assert "CANCELLED" in report.evidence

        second = InTheBackground(partial(remote.run, [failed]))
        worker_of(ground, failed.attempt)
        try:
            cluster.node_fails()
            [report] = second.join()
        finally:
            cluster.node_is_back()
    assert report.fate is Fate.NODE_FAILED, report.evidence
    assert "NODE_FAIL" in report.evidence


@pytest.mark.req("X28")
def test_a_job_that_makes_room_for_another_is_preempted_and_slurm_begins_it_no_second_time(
    cluster: Cluster, ground: Ground
) -> None:
    """The partition would have it queued again."""
    order = ground.order(1, LONG)
    with ground.remote(Slurm("slurm", options(partition="spare"))) as (remote, _):
        running = InTheBackground(partial(remote.run, [order]))
        dispatched, _pid = worker_of(ground, order.attempt)
        job = cluster.call("sbatch", "--parsable", "-purgent", "--cpus-per-task=4", "-o/dev/null", "--wrap=sleep 1")
        [report] = running.join()
    assert report.fate is Fate.PREEMPTED, report.evidence
    assert f"Slurm job {dispatched.handle} on node1: PREEMPTED" in report.evidence
    assert "while it was running, in step 'write'" in report.evidence
    until(lambda: "COMPLETED" in cluster.call("sacct", "-nXj", job.strip(), "-ostate"), "the other has run")
    assert cluster.call("squeue", "-h", "-j", str(dispatched.handle).partition("_")[0], "-tPENDING,RUNNING") == ""
    assert ground.begun() == {order.attempt: 1}


def with_accelerators(order: JobOrder, count: int, kind: str = "gpu") -> JobOrder:
    return order.model_copy(update={"resources": Resources(accelerators=count, accelerator=kind)})


def test_a_job_is_given_the_accelerators_that_it_asks_for(cluster: Cluster, ground: Ground) -> None:
    order = with_accelerators(ground.order(1, LONG), 2, "gpu:tiny")
    with ground.remote(Slurm("slurm", options())) as (remote, worker):
        running = InTheBackground(partial(remote.run, [order]))
        dispatched, _pid = worker_of(ground, order.attempt)
        assert "gpu:tiny:2" in cluster.call("squeue", "--noheader", "--format=%b", f"--jobs={dispatched.handle}")
        worker.stop("it was seen")
        running.join()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"python": "/opt/none/python"}, "exit code 127: /opt/none/python is not on the node, or cannot be run"),
        ({"python": "/etc/passwd"}, "exit code 126: /etc/passwd is not on the node, or cannot be run"),
        ({"python": "/usr/bin/python3"}, "exit code 1 and said: /usr/bin/python3: Error while finding module"),
    ],
)
def test_a_node_without_what_a_worker_needs_begins_nothing_and_says_what_is_missing(
    cluster: Cluster, ground: Ground, more: dict[str, object], message: str
) -> None:
    with ground.remote(Slurm("farm", options(**more))) as (remote, _):
        assert list(remote.run([ground.order(1), ground.order(2)])) == []
        assert remote.unfit.startswith("engine 'tested' cannot begin jobs: Slurm job ")
        assert message in remote.unfit
        assert " and said: " in remote.unfit
    assert ground.begun() == {}


def test_a_node_that_does_not_see_the_spool_says_so(cluster: Cluster, ground: Ground) -> None:
    """The batch script finds no spool: as where it is not mounted there."""
    own = Slurm("farm", options())
    sent = send_out(ground.spool, [ground.order(1)], ground.profile, engine="farm")
    [handle] = own.submit([sent.dispatch.model_copy(update={"folder": Path("/nowhere/dispatched/x")})])
    until(lambda: own.look([handle])[handle].state == "ended", "its end")
    standing = own.look([handle])[handle]
    assert standing.unfit
    assert standing.evidence.endswith(
        "on node1: FAILED, exit code 66: the node does not see the spool; mount it there, under the same path"
    )


def test_nodes_are_checked_by_name_and_one_that_is_not_there_is_refused(cluster: Cluster) -> None:
    assert Slurm("farm", options()).hosts_to_try() == []
    assert Slurm("farm", options(check=["node*"], partition="long")).hosts_to_try() == ["node1"]
    with pytest.raises(RequestRefused, match="engine 'farm' is to check node 'node7', and partition 'long' has node1"):
        Slurm("farm", options(check=["node7"], partition="long")).hosts_to_try()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"partition": "nosuch"}, "invalid partition specified: nosuch"),
        ({"account": "nosuch"}, "Invalid account"),
        ({"options": ["--nosuch"]}, "unrecognized option '--nosuch'"),
        ({"options": ["--gres=tpu:1"]}, r"Invalid generic resource \(gres\) specification"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_words(
    cluster: Cluster, ground: Ground, more: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestRefused, match=message) as refused:
        carried_out(ground, ground.order(1), **more)
    assert "see partition, account, qos and options of engine 'slurm'" in refused.value.remedy
    assert ground.begun() == {}


def test_a_worker_sees_nothing_of_the_environment_that_it_does_not_need(
    cluster: Cluster, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "secret")
    profile = ground.profile.model_copy(update={"confinement": NodeConfinement(use=Use.OFF)})
    monkeypatch.setattr(Ground, "profile", profile)  # a confined step has another parent, and cannot look at it
    script = "tr '\\0' '\\n' < /proc/$PPID/environ > {out}"
    fate, evidence = carried_out(ground, ground.order(1, script))
    assert fate is Fate.PUBLISHED, evidence
    [made] = (ground.folder / "store").glob("made*.txt")
    assert "SLURM_JOB_ID=" in made.read_text()
    assert "secret" not in made.read_text()


def test_where_slurm_is_away_that_is_said_and_waited_for(cluster: Cluster, ground: Ground, tmp_path: Path) -> None:
    own = Slurm("slurm", options())
    conf = Path(cluster.environment["SLURM_CONF"]).read_text()
    (tmp_path / "slurm.conf").write_text(conf.replace("SlurmctldPort=", "SlurmctldPort=1 #") + "MessageTimeout=2\n")
    before = os.environ["SLURM_CONF"]
    os.environ["SLURM_CONF"] = str(tmp_path / "slurm.conf")
    try:
        with pytest.raises(EngineAway, match="Slurm does not answer"):
            own.look(["1_0"])
    finally:
        os.environ["SLURM_CONF"] = before
    assert own.look(["67000000_0"]) == {}, "nothing is said of what it does not know"


def test_a_host_without_slurm_is_told_what_is_missing(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RequestRefused, match="'squeue' is not here") as refused:
        Slurm("slurm", options()).find(["x"])
    assert "Slurm's commands must be on the PATH of the runner's host" in refused.value.remedy


def test_a_flight_tries_each_node_and_says_why_it_is_kept_waiting(cluster: Cluster, tmp_path: Path) -> None:
    observatory = Observatory.build(tmp_path / "site")
    with (observatory.directory / "nightmill.yaml").open("a") as file:
        more = "partition: long, export: [SLURM_CONF], look_seconds: 0.25"
        file.write(f"engines:\n  farm: {{kind: slurm, {more}, check: ['node*']}}\n")
        file.write("  wrong: {kind: slurm, partition: nosuch, export: [SLURM_CONF]}\n")
    with observatory.open() as site:
        farm, wrong = site.config.engines["farm"], site.config.engines["wrong"]
        found = list(fly(site, farm))
        assert [each.tried.seen for each in found if not each.tried.well] == []
        assert {each.place for each in found} == {"node1"}
        assert [each.tried.part for each in found][-2:] == ["clock", "job"]
        [refused] = fly(site, wrong)
        assert "Slurm refuses: sbatch: error: invalid partition specified: nosuch" in refused.tried.seen
        assert refused.tried.remedy == "see partition, account, qos and options of engine 'wrong'"
        cluster.call("scontrol", "update", "PartitionName=long", "State=DOWN")
        try:
            [late] = fly(site, farm, wait_seconds=8)
        finally:
            cluster.call("scontrol", "update", "PartitionName=long", "State=UP")
        assert late.waited
        assert re.fullmatch(
            r"it was waited for 8 s, in vain: Slurm job \d+_0: PENDING \(PartitionDown\); see its queue, or wait longer"
            r" \(--wait\)",
            late.tried.seen,
        )
        assert cluster.call("squeue", "--noheader", "--states=PENDING") == "", "nothing is left in the queue"
