"""A Slurm that tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.slurm import Slurm as Cluster
from tests.support.slurm import SlurmUnavailable, running_slurm


@pytest.fixture(scope="session")
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
