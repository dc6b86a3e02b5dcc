"""A real Slurm keeps every promise of a carrier, and what it tells of ends is what they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nightmill.engines.slurm import Slurm, SlurmOptions
from nightmill.errors import EngineAway, RequestRefused
from nightmill.model.fate import Fate
from nightmill.model.order import JobOrder
from nightmill.model.pipeline import Resources
from nightmill.testing.engines import LONG, EngineConformance, Ground, InTheBackground, Opener, worker_of
from tests.support.slurm import Slurm as Cluster
from tests.support.slurm import SlurmUnavailable, running_slurm


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    try:
        with running_slurm() as cluster:
            yield cluster
    except SlurmUnavailable as unavailable:
        pytest.skip(str(unavailable))


@pytest.fixture
def cluster(running: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, running.environment[name])
    return running


def options(**more: object) -> SlurmOptions:
    return SlurmOptions.model_validate({"places": 4, "look_seconds": 0.25, "export": ["SLURM_CONF"], **more})


class TestSlurm(EngineConformance):
    @pytest.fixture
    def opener(self, cluster: Cluster) -> Opener:
        return lambda: Slurm("slurm", options())


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    (tmp_path / "store").mkdir()
    return Ground(tmp_path)


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
    order = with_memory(ground.order(1, f"exec python3 -c '{python}'"), 60)
    fate, evidence = carried_out(ground, order)
    assert fate is Fate.OUT_OF_MEMORY, evidence


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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"partition": "nosuch"}, "invalid partition specified: nosuch"),
        ({"account": "nosuch"}, "Invalid account"),
        ({"options": ["--nosuch"]}, "unrecognized option '--nosuch'"),
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
