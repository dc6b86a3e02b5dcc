"""What a host has, and what a job of it gets."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from nightmill.errors import RequestRefused
from nightmill.execution import host as host_module
from nightmill.execution.host import Host, this_host
from nightmill.model.pipeline import Resources

GIB = 1024**3
NODE = Host("node", cores=8, memory_bytes=32 * GIB)


@pytest.mark.parametrize(
    ("wanted", "cores", "share"),
    [
        (Resources(), 1, 1),
        (Resources(cores=3), 3, 3),
        (Resources(cores=100), 8, 8),
        (Resources(memory_bytes=1), 1, 1),
        (Resources(memory_bytes=4 * GIB), 1, 1),
        (Resources(memory_bytes=4 * GIB + 1), 1, 2),
        (Resources(cores=2, memory_bytes=20 * GIB), 2, 5),
        (Resources(cores=6, memory_bytes=20 * GIB), 6, 6),
        (Resources(memory_bytes=32 * GIB), 1, 8),
    ],
)
def test_a_job_takes_the_cores_whose_memory_it_needs(wanted: Resources, cores: int, share: int) -> None:
    assert (NODE.cores_for(wanted), NODE.share_of(wanted)) == (cores, share)


def test_a_host_without_the_memory_is_refused() -> None:
    with pytest.raises(
        RequestRefused,
        match="a job of the stage asks for 34359738369 bytes of memory, and host node has 34359738368; lower memory",
    ):
        NODE.share_of(Resources(memory_bytes=32 * GIB + 1))


def test_this_host() -> None:
    assert this_host().cores == len(os.sched_getaffinity(0))
    assert 0 < this_host().memory_bytes <= psutil.virtual_memory().total


def test_the_affinity_of_the_process_counts() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert this_host().cores == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("own", "outer", "cores", "memory_bytes"),
    [
        (("max 100000", "max"), ("max 100000", "max"), None, None),
        (("100000 100000", "500000000"), ("max 100000", "max"), 1, 500_000_000),
        (("50000 100000", "max"), ("max 100000", "400000000"), 1, 400_000_000),
        (("max 100000", "500000000"), ("100000 100000", "400000000"), 1, 400_000_000),
    ],
)
def test_the_limits_of_every_control_group_count(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own: tuple[str, str],
    outer: tuple[str, str],
    cores: int | None,
    memory_bytes: int | None,
) -> None:
    unlimited = this_host()
    inner = tmp_path / "groups" / "batch.slice" / "job.scope"
    inner.mkdir(parents=True)
    for folder, limits in ((inner, own), (inner.parent, outer)):
        for name, limit in zip(("cpu.max", "memory.max"), limits, strict=True):
            (folder / name).write_text(f"{limit}\n")
    (tmp_path / "group").write_text("4:memory:/elsewhere\n0::/batch.slice/job.scope\n")
    monkeypatch.setattr(host_module, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(host_module, "_OWN_GROUP", tmp_path / "group")
    found = this_host()
    assert found.cores == (cores or unlimited.cores)
    assert found.memory_bytes == (memory_bytes or unlimited.memory_bytes)
