"""Workers of Dask as jobs of a real Slurm: there are as many as needed, they are replaced, and end with their slice."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from nightmill.engines.dask import Dask
from nightmill.engines.dask_clusters import CLUSTERS, DaskOptions, Told
from nightmill.errors import RequestRefused
from nightmill.execution.dispatches import dispatches
from nightmill.model.fate import Fate
from nightmill.testing.engines import LONG, EngineConformance, Ground, InTheBackground, Opener, fates, until, worker_of
from tests.support.slurm import Slurm as Cluster


def options(**more: object) -> DaskOptions:
    of_tests = {"cluster": "slurm", "workers": {"most": 2}, "memory_bytes": 500_000_000, "interface": "lo"}
    return DaskOptions.model_validate({**of_tests, "keep_seconds": 2, "options": ["--export=ALL"], **more})


def jobs(cluster: Cluster) -> list[str]:
    """Return the jobs that are workers, and wait or run."""
    return cluster.call("squeue", "-h", "--name=nightmill-dask", "-tPENDING,RUNNING", "-o%A").split()


class TestDaskOnSlurm:
    """Those promises for which it matters that workers are jobs."""

    test_every_order_is_carried_out_once_in_chunks = EngineConformance.test_every_order_is_carried_out_once_in_chunks
    test_a_killed_worker_loses_its_jobs_and_others_go_on = (
        EngineConformance.test_a_killed_worker_loses_its_jobs_and_others_go_on
    )

    @pytest.fixture
    def opener(self, cluster: Cluster) -> Opener:
        return lambda: Dask("farm", options())


def test_workers_come_as_there_is_work_are_replaced_and_end_with_the_slice(cluster: Cluster, ground: Ground) -> None:
    """An administrator cancels the job of one: what it had is lost and told, and what waits is done by others."""
    long, others = [ground.order(1, LONG)], [ground.order(number) for number in (2, 3)]
    with ground.remote(Dask("farm", options())) as (remote, _):
        until(lambda: jobs(cluster) == [], "those of another test have ended")
        running = InTheBackground(partial(remote.run, long))
        worker_of(ground, long[0].attempt)
        [job] = jobs(cluster)
        [known] = (ground.spool / CLUSTERS).iterdir()
        assert known.stat().st_mode & 0o077 == 0
        cluster.call("scancel", job)
        [lost] = running.join()
        assert fates(remote.run(others)) == dict.fromkeys(["exposure=2", "exposure=3"], Fate.PUBLISHED)
        assert job not in jobs(cluster)
    assert lost.fate is Fate.LOST
    assert "Dask" in lost.evidence
    until(lambda: jobs(cluster) == [], "the jobs of its workers end")
    until(
        lambda: sorted(path.name for path in known.iterdir()) == ["lock", "log", "options.json"],
        "nothing lets anybody in any more",
    )


def test_a_cluster_whose_keeper_is_killed_ends_and_the_next_one_goes_on(cluster: Cluster, ground: Ground) -> None:
    """Nobody can ask its scheduler any more: the worker itself tells that it lost it, and its job ends."""
    orders = [ground.order(1, LONG)]
    with ground.remote(Dask("farm", options())) as (remote, _):
        running = InTheBackground(partial(remote.run, orders))
        dispatched, _pid = worker_of(ground, orders[0].attempt)
        [known] = (ground.spool / CLUSTERS).iterdir()
        keeper = Told.model_validate_json((known / "told.json").read_text()).owner
        os.kill(keeper.pid, signal.SIGKILL)
        [lost] = running.join()
        assert fates(remote.run([ground.order(2)])) == {"exposure=2": Fate.PUBLISHED}
        [ended] = [each.ending for each in dispatches(ground.spool) if each.name == dispatched.name]
    assert lost.fate is Fate.LOST
    assert ended is not None
    assert "ended itself: it lost its scheduler, or was told to" in lost.evidence
    until(lambda: jobs(cluster) == [], "the jobs of both end")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"queue": "nosuch"}, "invalid partition specified: nosuch"),
        ({"account": "nosuch"}, "Invalid account"),
        ({"options": ["--nosuch"]}, "Slurm refuses: .*nosuch"),
    ],
)
def test_what_slurm_refuses_is_told_before_anything_waits(
    cluster: Cluster, ground: Ground, more: dict[str, object], message: str
) -> None:
    with (
        ground.remote(Dask("farm", options(**more))) as (remote, _),
        pytest.raises(RequestRefused, match=message) as refused,
    ):
        list(remote.run([ground.order(1)]))
    assert "see queue, account and options of engine 'farm'" in refused.value.remedy
    assert ground.begun() == {}
