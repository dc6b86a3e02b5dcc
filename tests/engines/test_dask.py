"""Workers of a Dask cluster keep every promise of a carrier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from nightmill.engines.dask import Dask, DaskOptions
from nightmill.testing.engines import EngineConformance, Opener


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Give the address of a cluster of two workers, which is not of the carrier's own."""
    local: Any = LocalCluster  # which has no types
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.scheduler.worker-saturation": 1.0}),
        local(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
    ):
        yield cluster.scheduler_address


class TestDask(EngineConformance):
    @pytest.fixture
    def opener(self, cluster: str) -> Opener:
        return lambda: Dask("dask", DaskOptions(address=cluster))
