"""A campaign on a real Slurm to which everything happens that can happen to one."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import AttemptRow, FileRow, JobRow
from nightmill.model.order import JobOrder
from nightmill.operations.audit import PARTS, Ground
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.turns import take_turn
from nightmill.testing.engines import until
from tests.support.forks import forked
from tests.support.observatory import Observatory
from tests.support.slurm import Slurm as Cluster

ENGINE = """
engines:
  farm: {kind: slurm, partition: short, look_seconds: 0.25, export: [SLURM_CONF]}
"""
RETRIES = "{out_of_memory: {tries: 1, memory_factor: 20}, node_failed: {tries: 1}, wall_limit: {tries: 1}}"


def carry_out(work: SliceWork) -> None:
    """Carry out a slice with a dispatch for each job."""

    def run(orders: list[JobOrder]) -> None:
        work.record(list(work.place.run(orders)))

    with ThreadPoolExecutor(8) as pool:
        while chunks := work.adopted or [[order] for order in work.issue(8)]:
            work.adopted = []
            list(pool.map(run, chunks))


def die(directory: Path, environment: dict[str, str]) -> None:
    """Begin a slice, and end by SIGKILL once the step of each of its jobs has begun."""
    os.environ.update(environment)
    with Observatory(directory).open() as site, SliceWork(site, "night1", "science", 0) as work:
        threading.Thread(target=carry_out, args=(work,), daemon=True).start()
        until(lambda: len(begun(directory)) == 4, "four steps begin")
        os.kill(os.getpid(), signal.SIGKILL)


def begun(directory: Path) -> list[str]:
    notes = directory / "notes"
    return notes.read_text().split() if notes.exists() else []


@pytest.mark.req("X28", "F25")
def test_a_campaign_that_everything_happens_to_is_whole(cluster: Cluster, tmp_path: Path) -> None:
    """Its driver is killed, its node fails while nobody looks, a job takes too much memory, another too much time."""
    if not cluster.limits_memory:
        pytest.skip("the kernel here has no memory controller that Slurm can use")
    observatory = Observatory.build(tmp_path / "site")
    directory = observatory.directory
    with (directory / "nightmill.yaml").open("a") as file:
        file.write(ENGINE)
    texts = ["seconds 0", "take 600000000", f"stuck 2 {tmp_path / 'late'}", f"stuck 1 {tmp_path / 'there'}"]
    observatory.observe(1, [f"note {directory / 'notes'}\n{text}\n" for text in texts])
    stage = "overrides.stages.science"
    memory = f"{stage}.resources.memory_bytes=60000000"
    observatory.submit("night1", 1, "execution.engines={science: farm}", f"{stage}.retries={RETRIES}", memory)

    environment = {name: os.environ[name] for name in ("PATH", "SLURM_CONF")}
    assert forked(die, directory, environment) == -signal.SIGKILL
    cluster.node_fails()
    cluster.node_is_back()
    with observatory.open() as site, SliceWork(site, "night1", "science", 0) as work:
        carry_out(work)
    with observatory.open() as site:
        take_turn(site, "night1", "summary")
        with SliceWork(site, "night1", "summary", 0) as work:
            carry_out(work)

    with observatory.open() as site:
        assert [str(each) for find in PARTS.values() for each in find(Ground(site))] == []
        with site.database.reading() as session:
            query = select(JobRow.unit, AttemptRow.fate, AttemptRow.result, AttemptRow.evidence).join(JobRow)
            told = session.execute(query.order_by(JobRow.id, AttemptRow.number)).tuples().all()
            made = session.scalars(select(FileRow.name).where(FileRow.type == "product").order_by(FileRow.name)).all()
    assert [(unit, fate, result) for unit, fate, result, _ in told] == [
        ("exposure=100", "published", True),
        ("exposure=101", "out_of_memory", False),
        ("exposure=101", "published", True),
        ("exposure=102", "node_failed", False),
        ("exposure=102", "wall_limit", False),
        ("exposure=102", "published", True),
        ("exposure=103", "node_failed", False),
        ("exposure=103", "published", True),
        ("night=1", "published", True),
    ]
    evidence = [why for _, _, _, why in told if why]
    words = ("memory", "NODE_FAIL", "TIMEOUT", "NODE_FAIL")
    assert [word for word, why in zip(words, evidence, strict=True) if word not in why] == []
    assert made == [f"0{100 + number}_product_c0001a0{tries}.txt" for number, tries in enumerate((1, 2, 3, 2))]
    assert len(begun(directory)) == 8, "none was done twice"
    assert set(observatory.states("night1").values()) == {"done"}
