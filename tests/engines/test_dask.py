"""Workers of a Dask cluster keep every promise of a carrier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from nightmill.engines.dask import Dask
from nightmill.engines.dask_clusters import DaskOptions, Workers
from nightmill.testing.engines import EngineConformance, Opener


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Give the address of a cluster of two workers, which is not of the carrier's own."""
    local: Any = LocalCluster  # which has no types
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.scheduler.worker-saturation": 1.0}),
        local(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0) as cluster,
    ):
        yield cluster.scheduler_address


class TestDask(EngineConformance):
    @pytest.fixture
    def opener(self, cluster: str) -> Opener:
        return lambda: Dask("dask", DaskOptions(address=cluster))


class TestDaskOfItsOwn:
    """A cluster that is started as it is needed; each test starts one, so that not every promise is tried."""

    ground = EngineConformance.ground
    test_every_order_is_carried_out_once_in_chunks = EngineConformance.test_every_order_is_carried_out_once_in_chunks
    test_a_killed_worker_loses_its_jobs_and_others_go_on = (
        EngineConformance.test_a_killed_worker_loses_its_jobs_and_others_go_on
    )
    test_what_another_process_sent_out_is_followed_to_its_end = (
        EngineConformance.test_what_another_process_sent_out_is_followed_to_its_end
    )

    @pytest.fixture
    def opener(self) -> Opener:
        return lambda: Dask("dask", DaskOptions(workers=Workers(least=0, most=2), keep_seconds=2))
