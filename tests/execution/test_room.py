"""A job waits for room in the scratch that others are to give back, and fails at once where nobody is."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightmill.execution import room
from nightmill.execution.room import PREFIX
from nightmill.execution.worker import Worker
from nightmill.model.fate import Fate
from nightmill.model.journal import Entry, Staged
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder
from nightmill.model.pipeline import Resources
from tests.execution.failing import must_fail
from tests.support.mounts import small_disk
from tests.support.orders import Bench, output, shell

SIZE = 600_000


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.02)


@pytest.fixture
def disk(bench: Bench) -> Iterator[Path]:
    """Let the scratch have room for one job of the tests, and not for two."""
    with small_disk(bench.scratch, size="1m") as disk:
        yield disk


def order_of(bench: Bench, number: int, size: int = SIZE, script: str = "sleep 0.2") -> JobOrder:
    frame = bench.put(f"{number}.txt", bytes(size), role="frame", type="text")
    made = output("made", f"made{number}.txt")
    step = shell("make", f"{script}; echo made > made{number}.txt", made, inputs=(frame.name,))
    return bench.order(step, inputs=(frame,), unit=f"exposure={number}")


@pytest.mark.req("REQ-0036")
def test_jobs_without_room_wait_for_those_that_have_it(bench: Bench, disk: Path) -> None:
    orders = [order_of(bench, number) for number in range(4)]
    least = [shutil.disk_usage(disk).free]

    def look(entry: Entry) -> None:
        if isinstance(entry, Staged):
            least.append(shutil.disk_usage(disk).free)

    with (
        Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers, listener=look) as worker,
        ThreadPoolExecutor(4) as pool,
    ):
        reports = [report for some in pool.map(lambda order: list(worker.run([order])), orders) for report in some]
    assert [report.fate for report in reports] == [Fate.PUBLISHED] * 4
    assert min(least) > 2**20 - 2 * SIZE, "no two had their inputs there"
    assert list(disk.iterdir()) == []
    logs = [(bench.root / "stores/backbone" / order.log_path).read_text() for order in orders]
    waits = [log for log in logs if log.startswith(f"== waiting for {SIZE} bytes: the scratch {disk} has ")]
    assert len(waits) == 3
    assert all(" promised to " in log.splitlines()[0] for log in waits)


def test_what_a_dead_process_was_promised_is_free(bench: Bench, disk: Path) -> None:
    (disk / f"{PREFIX}of-a-dead-one").write_text(f"{SIZE:020d}")
    assert bench.run_one(order_of(bench, 1, script=":")).fate is Fate.PUBLISHED
    assert list(disk.iterdir()) == []


def test_where_nobody_is_to_give_room_back_the_job_fails_before_a_byte_is_moved(bench: Bench, disk: Path) -> None:
    order = order_of(bench, 1, size=2 * SIZE)
    report = must_fail(bench, order, Fate.NO_SPACE, f"the scratch {disk} has 10", log=False)
    assert "bytes free, and the job's inputs have 1200000; make room, or give the site a larger" in report.evidence


def test_what_a_stage_asks_for_beside_its_inputs_stays_promised_while_it_runs(bench: Bench, disk: Path) -> None:
    asking = Resources(scratch_bytes=900_000)
    first = order_of(bench, 1, size=100_000, script=f"cat {disk}/{PREFIX}*").model_copy(update={"resources": asking})
    assert bench.run_one(first).fate is Fate.PUBLISHED
    assert f"{800_000:020d}" in (bench.root / "stores/backbone" / first.log_path).read_text()


def test_who_waits_ends_when_everything_is_to_end(bench: Bench, disk: Path) -> None:
    orders = [order_of(bench, number, script="sleep 60") for number in (1, 2)]

    def until_one_waits(worker: Worker) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if any(log.read_text().startswith("== waiting") for log in disk.glob("*/log")):
                break
            time.sleep(0.02)
        worker.stop("the tests end")

    with (
        Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers) as worker,
        ThreadPoolExecutor(3) as pool,
    ):
        pool.submit(until_one_waits, worker)
        reports = [report for some in pool.map(lambda order: list(worker.run([order])), orders) for report in some]
    assert [report.fate for report in reports] == [Fate.CANCELLED] * 2
    [waited] = [report.evidence for report in reports if "waited for room" in report.evidence]
    assert waited.startswith(f"the job waited for room, as the scratch {disk} has ")
    assert waited.endswith("and was not begun: the tests end")


def test_a_small_job_is_promised_nothing(bench: Bench) -> None:
    bench.scratch.mkdir()
    order = order_of(bench, 1, size=10, script=f"ls -a {bench.scratch}")
    assert bench.run_one(order.model_copy(update={"resources": Resources(scratch_bytes=1000)})).fate is Fate.PUBLISHED
    assert PREFIX not in (bench.root / "stores/backbone" / order.log_path).read_text()
