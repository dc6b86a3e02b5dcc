"""A real HTCondor keeps every promise of a carrier, and what it tells of ends is what they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nightmill.engines.dask import Dask
from nightmill.engines.dask_clusters import DaskOptions
from nightmill.engines.htcondor import HTCondor, HTCondorOptions
from nightmill.errors import EngineAway, RequestRefused
from nightmill.model.fate import Fate
from nightmill.testing.engines import LONG, EngineConformance, Ground, InTheBackground, Opener, worker_of
from tests.support.htcondor import HTCondor as Pool
from tests.support.htcondor import HTCondorUnavailable, running_htcondor
from tests.support.servers import given


@pytest.fixture(scope="module")
def running() -> Iterator[Pool]:
    with given(running_htcondor(), HTCondorUnavailable) as pool:
        yield pool


@pytest.fixture
def pool(running: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setenv("CONDOR_CONFIG", running.environment["CONDOR_CONFIG"])
    return running


def options(**more: object) -> HTCondorOptions:
    return HTCondorOptions.model_validate({"places": 4, "look_seconds": 0.5, **more})


class TestHTCondor(EngineConformance):
    @pytest.fixture
    def opener(self, pool: Pool) -> Opener:
        return lambda: HTCondor("pool", options())


class TestDaskOnHTCondor:
    """Workers of Dask as jobs of the pool."""

    ground = EngineConformance.ground
    test_every_order_is_carried_out_once_in_chunks = EngineConformance.test_every_order_is_carried_out_once_in_chunks

    @pytest.fixture
    def opener(self, pool: Pool) -> Opener:
        own = {"cluster": "htcondor", "workers": {"most": 2}, "memory_bytes": 500_000_000, "keep_seconds": 2}
        return lambda: Dask("farm", DaskOptions.model_validate(own))


@pytest.mark.parametrize(
    ("command", "fate", "said"),
    [
        (("condor_vacate_job", "-fast"), Fate.ENDED_OUTSIDE, ": evicted (1004): User requested the job to vacate"),
        (("condor_hold",), Fate.ENDED_OUTSIDE, ": held (1): via condor_hold (by user "),
        (("condor_rm",), Fate.ENDED_OUTSIDE, ": removed, via condor_rm (by user "),
    ],
)
def test_who_takes_a_job_away_is_told_and_it_never_starts_again(
    pool: Pool, ground: Ground, command: tuple[str, ...], fate: Fate, said: str
) -> None:
    order = ground.order(1, LONG)
    with ground.remote(HTCondor("pool", options())) as (remote, _):
        running = InTheBackground(partial(remote.run, [order]))
        dispatched, _pid = worker_of(ground, order.attempt)
        pool.call(*command, str(dispatched.handle))
        [report] = running.join()
    assert report.fate is fate, report.evidence
    assert f"HTCondor job {dispatched.handle} on " in report.evidence
    assert said in report.evidence
    assert pool.call("condor_q", "-af", "ClusterId") == ""
    assert ground.begun() == {order.attempt: 1}


def test_a_job_that_runs_out_of_its_time_is_told_so(pool: Pool, ground: Ground) -> None:
    order = ground.order(1, LONG)
    quick = tuple(step.model_copy(update={"wall_seconds": 3.0}) for step in order.steps)
    short = order.model_copy(update={"steps": quick})
    with ground.remote(HTCondor("pool", options(wall_margin_seconds=0, options=["allowed_execute_duration = 1"]))) as (
        remote,
        _,
    ):
        [report] = remote.run([short])
    assert report.fate is Fate.WALL_LIMIT, report.evidence


def test_what_htcondor_refuses_is_told_in_its_words(pool: Pool, ground: Ground) -> None:
    with (
        ground.remote(HTCondor("pool", options(account="a b"))) as (remote, _),
        pytest.raises(RequestRefused, match=r"HTCondor refuses: .*Invalid accounting_group: a b") as refused,
    ):
        list(remote.run([ground.order(1)]))
    assert "see account and options of engine 'pool'" in refused.value.remedy
    assert ground.begun() == {}


def test_where_htcondor_is_away_that_is_said(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(os.environ["CONDOR_CONFIG"]).read_text()
    (tmp_path / "config").write_text(text.replace(f"LOCAL_DIR = {pool.folder}", f"LOCAL_DIR = {tmp_path}"))
    monkeypatch.setenv("CONDOR_CONFIG", str(tmp_path / "config"))
    with pytest.raises(EngineAway, match="HTCondor does not answer: "):
        HTCondor("pool", options()).look(["1.0"])


def test_a_host_without_htcondor_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RequestRefused, match="'condor_q' is not here") as refused:
        HTCondor("pool", options()).find(["x"])
    assert "HTCondor's commands must be on the PATH of the runner's host" in refused.value.remedy
