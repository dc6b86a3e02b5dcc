"""Files of far stores are moved some at a time, with what an attempt promises kept, and told of while it takes long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from nightmill.errors import StoreError, StoreFull
from nightmill.execution import pace
from nightmill.execution.at_once import AT_ONCE
from nightmill.execution.journal import journals, read_journal
from nightmill.execution.recover import finish_dead
from nightmill.execution.worker import Worker
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, NotStaged, Publishing, Staged
from nightmill.model.node import NodeProfile
from nightmill.model.order import Copy, JobOrder
from nightmill.model.states import AttemptState
from nightmill.model.store import Store
from tests.execution.failing import must_fail
from tests.support.busy import BusyStager
from tests.support.orders import Bench, output, rights_of, shell

FILES = 8
NAMES = [f"made{number}.txt" for number in range(FILES)]


class FarStager(BusyStager):
    """A folder that counts as far, as its URL says; some of what is asked of it fails."""

    def __init__(self, store: Store, seconds: float = 0.03) -> None:
        super().__init__(store, seconds)
        self.broken: dict[str, BaseException] = {}
        self.together = threading.Barrier(1)

    def fetch(self, path: str, target: Path) -> int:
        size = super().fetch(path, target)
        self._fail(f"fetch {path}")
        return size

    def upload(self, source: Path, path: str, *, attempt: str, durable: bool = True) -> None:
        super().upload(source, path, attempt=attempt, durable=durable)
        self._fail(f"upload {path}")

    def reveal(self, path: str, *, attempt: str) -> None:
        with self._counted():
            if f"reveal {path}" not in self.broken:
                super().reveal(path, attempt=attempt)
            self._fail(f"reveal {path}")

    def _fail(self, what: str) -> None:
        if what in self.broken:
            self.together.wait(60)
            raise self.broken[what]


@pytest.fixture
def far(bench: Bench) -> FarStager:
    """Give the backbone, which is far."""
    store = bench.stores["backbone"] = Store(name="backbone", url=f"far://{bench.root}/stores/backbone")
    stager = bench.stagers["backbone"] = FarStager(store)
    return stager


def order_of(bench: Bench, number: int = 1) -> JobOrder:
    """Make an order with several inputs and outputs."""
    inputs = tuple(bench.put(f"{n}.txt", b"counts", role=f"in{n}", type="text") for n in range(FILES))
    outputs = [output(f"out{n}", name) for n, name in enumerate(NAMES)]
    return bench.order(shell("make", f"echo made | tee {' '.join(NAMES)}", *outputs), inputs=inputs, number=number)


def run(bench: Bench, order: JobOrder, **limits: int) -> list[type]:
    """Carry out an order that is published, and return the kinds of the entries of its journal."""
    profile = NodeProfile(scratch=bench.scratch, spool=bench.spool, transfers=limits)
    with Worker(profile, bench.stagers) as worker:
        [report] = worker.run([order])
    assert report.state is AttemptState.PUBLISHED, report.evidence
    assert [file.name for file in report.published] == [*NAMES, order.log_name]
    assert bench.leftovers() == []
    return [type(entry) for entry in bench.entries()]


def test_files_of_a_far_store_are_moved_some_at_a_time(bench: Bench, far: FarStager) -> None:
    kinds = run(bench, order_of(bench))
    assert far.most == AT_ONCE
    assert kinds[-2:] == [Publishing, Done]
    [staged] = [entry for entry in bench.entries() if isinstance(entry, Staged)]
    assert (staged.files, staged.size_bytes, staged.passed_over) == (FILES, 6 * FILES, ())


def test_a_limit_of_the_store_holds_all_the_same(bench: Bench, far: FarStager) -> None:
    far.seconds = 0.005
    far.reveal = super(FarStager, far).reveal  # type: ignore[method-assign]  # names are given without a place
    run(bench, order_of(bench), backbone=2)
    assert far.most == 2


def test_files_of_a_folder_are_moved_one_after_another(bench: Bench) -> None:
    stager = bench.stagers["backbone"] = BusyStager(bench.stores["backbone"], 0.001)
    run(bench, order_of(bench))
    assert stager.most == 1


def test_the_first_that_fails_ends_the_rest_and_all_that_failed_are_told(bench: Bench, far: FarStager) -> None:
    order = order_of(bench)
    far.together = threading.Barrier(2)
    far.broken = {f"fetch raw/{n}.txt": StoreError(f"no answer for {n}") for n in (1, 2)}
    report = must_fail(
        bench, order, Fate.STORE_ERROR, "input in1 (text) 1.txt cannot be staged: no answer for 1", log=False
    )
    assert "; and input in2 (text) 2.txt cannot be staged: no answer for 2" in report.evidence
    [entry] = [entry for entry in bench.entries() if isinstance(entry, NotStaged)]
    assert [told.name for told in entry.passed_over] == ["1.txt", "2.txt"]
    assert far.transfers <= 2 * AT_ONCE, "those that were not begun were left"
    assert far.now == 0


def test_another_copy_is_taken_beside_the_others(bench: Bench, far: FarStager) -> None:
    order = order_of(bench)
    (bench.add_store("tape") / "copy.txt").write_bytes(b"counts")
    inputs = [file.model_copy(update={"also": (Copy(store="tape", path="copy.txt"),)}) for file in order.inputs]
    far.broken = {f"fetch raw/{n}.txt": StoreError(f"no answer for {n}") for n in (1, 6)}
    run(bench, order.model_copy(update={"inputs": tuple(inputs), "stores": bench.stores}))
    [staged] = [entry for entry in bench.entries() if isinstance(entry, Staged)]
    assert [told.name for told in staged.passed_over] == ["1.txt", "6.txt"], "in the order of the inputs"


def test_a_job_that_is_to_end_begins_no_other_file(bench: Bench, far: FarStager) -> None:
    order, fetch = order_of(bench), far.fetch

    def fetch_and_end(path: str, target: Path) -> int:
        size = fetch(path, target)
        worker.stop("the tests end")
        return size

    far.fetch = fetch_and_end  # type: ignore[method-assign]
    with Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers) as worker:
        [report] = worker.run([order])
    assert (report.fate, report.published) == (Fate.CANCELLED, ())
    assert "was not fetched from store 'backbone': the tests end" in report.evidence
    assert far.transfers <= 2 * AT_ONCE - 1
    assert report.passed_over == (), "nobody doubts a copy that was not waited for"


@pytest.mark.parametrize("what", ["upload", "reveal"])
def test_where_one_output_cannot_be_published_none_is_and_the_log_stays(
    bench: Bench, far: FarStager, what: str
) -> None:
    far.together = threading.Barrier(2)
    far.broken = {
        f"{what} products/made2.txt": StoreFull("no space left for 2"),
        f"{what} products/made3.txt": StoreError("no answer for 3"),
    }
    report = must_fail(bench, order_of(bench), Fate.NO_SPACE, "no space left for 2; and no answer for 3")
    assert far.now == 0
    assert len(report.published) == 1


def test_who_dies_between_the_names_is_finished_by_another(bench: Bench, far: FarStager) -> None:
    far.broken = {"reveal products/made5.txt": SystemExit("killed")}
    with pytest.raises(SystemExit):
        bench.run(order_of(bench))
    assert isinstance(bench.entries()[-1], Publishing)
    assert 0 < len([name for name in bench.stored() if name in NAMES]) < FILES
    far.broken = {}
    journal = read_journal(*journals(bench.spool))
    finished = finish_dead(journal, bench.stagers, rights_of(journal), scratch=bench.scratch)
    assert [end.state for end in finished.ends] == [AttemptState.PUBLISHED]
    assert set(NAMES) < set(bench.stored())
    assert bench.leftovers() == []


def test_jobs_of_a_group_are_published_side_by_side(bench: Bench, far: FarStager) -> None:
    orders = []
    for number in range(3):
        name = f"of{number}.txt"
        step = shell("make", f"echo made > {name}", output("out", name))
        orders.append(bench.order(step, unit=f"exposure={number}"))
    reports = bench.run(*orders)
    assert [report.state for report in reports] == [AttemptState.PUBLISHED] * 3
    intents = [entry for entry in bench.entries() if isinstance(entry, Publishing | Done)]
    assert [entry.attempt for entry in intents if isinstance(entry, Done)] == [order.attempt for order in orders]


# ------------------------------------------------------------------------------------------------- pace


def test_a_long_staging_tells_how_far_it_is(bench: Bench, far: FarStager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TELL_SECONDS", 0.05)
    monkeypatch.setattr(pace, "LEAST_BYTES", 1)
    far.seconds = 0.3
    order = order_of(bench)
    run(bench, order)
    log = (bench.root / "stores/backbone" / order.log_path).read_text()
    first, *_ = told = [line for line in log.splitlines() if line.startswith("== staging: ")]
    assert first == f"== staging: 0 of 0 MB, 0 of {FILES} files, 0.0 MB/s"
    assert any(f"{AT_ONCE} of {FILES} files" in line for line in told)
    time.sleep(0.1)
    assert not [thread for thread in threading.enumerate() if thread.name == "nightmill-pace"]


def test_a_short_one_tells_nothing(bench: Bench, far: FarStager) -> None:
    order = order_of(bench)
    run(bench, order)
    assert "== staging" not in (bench.root / "stores/backbone" / order.log_path).read_text()
