"""Transfers with a store are limited on a host: whoever waits hears of everything, and nobody waits for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from nightmill.errors import ServiceError
from nightmill.execution import transfers as module
from nightmill.execution.host import this_host
from nightmill.execution.transfers import PLACES, Transfers, limits_file
from nightmill.execution.worker import Worker
from nightmill.model.fate import Fate
from nightmill.model.journal import Entry, Started, StepEnded
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport
from tests.support.busy import BusyStager
from tests.support.orders import Bench, fits_bytes, output, shell

HOST = this_host().name
HOLDER = """
import sys, time
from pathlib import Path
from nightmill.execution.transfers import Transfers
place = Transfers(Path(sys.argv[1]), sys.argv[2], {"backbone": 1}).take("backbone")
print(flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)


def say(spool: Path, **limits: int) -> None:
    path = limits_file(spool)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps({"transfers": limits}))
    path.with_suffix(".new").replace(path)


def take(transfers: Transfers) -> ExitStack:
    place = transfers.take("backbone")
    assert place is not None
    return place


def is_free(transfers: Transfers) -> bool:
    place = transfers.take("backbone", stopping=lambda: True)
    if place is not None:
        place.close()
    return place is not None


def busy(bench: Bench, **limits: int) -> tuple[BusyStager, NodeProfile]:
    stager = bench.stagers["backbone"] = BusyStager(bench.stores["backbone"])
    return stager, NodeProfile(scratch=bench.scratch, spool=bench.spool, transfers=limits)


def order_of(bench: Bench, number: int, files: int = 3) -> JobOrder:
    inputs = tuple(bench.put(f"{number}_{n}.fits", fits_bytes(exposure=n), role=f"in{n}") for n in range(files))
    names = [f"{number}_{n}.txt" for n in range(files)]
    outputs = [output(f"out{n}", name) for n, name in enumerate(names)]
    return bench.order(
        shell("make", f"echo made | tee {' '.join(names)}", *outputs), inputs=inputs, unit=f"exposure={number}"
    )


def later(pool: ThreadPoolExecutor, what: Callable[[], ExitStack | None]) -> Future[ExitStack | None]:
    waiting = pool.submit(what)
    time.sleep(0.2)
    assert not waiting.done()
    return waiting


def test_many_jobs_that_stage_many_files_keep_the_limit_and_end(bench: Bench) -> None:
    stager, profile = busy(bench, backbone=1)
    orders = [order_of(bench, number) for number in range(8)]

    def carry_out(mine: list[JobOrder]) -> list[JobReport]:
        with Worker(profile, bench.stagers) as worker:
            return list(worker.run(mine))

    with ThreadPoolExecutor(2) as pool:
        reports = [each for some in pool.map(carry_out, [orders[:4], orders[4:]], timeout=120) for each in some]
    assert [report.fate for report in reports] == [Fate.PUBLISHED] * 8
    assert stager.most == 1
    assert stager.transfers == 8 * (3 + 2 * 4), "three inputs; three outputs and a log, each written and read again"


def test_without_a_limit_nothing_is_locked_and_the_spool_is_seldom_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 600.0)
    looks: list[Path] = []

    def look(spool: Path) -> module.SaidLimits:
        looks.append(spool)
        return module.SaidLimits()

    monkeypatch.setattr(module, "said_limits", look)
    _stager, profile = busy(bench, quicklook=1)
    with Worker(profile, bench.stagers) as worker:
        assert len(list(worker.run(order_of(bench, number) for number in range(4)))) == 4
    assert not (bench.spool / PLACES).exists()
    assert looks == [bench.spool]


def test_a_process_that_is_killed_frees_its_place(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path, "node1", {"backbone": 1})
    argv = [sys.executable, "-c", HOLDER, str(tmp_path), "node1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "\n"
        assert not is_free(transfers)
        assert is_free(Transfers(tmp_path, "node2", {"backbone": 1})), "another host has places of its own"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert is_free(transfers)


def test_where_a_limit_is_lowered_none_begins_before_fewer_run_than_it_says(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path, "node1", {"backbone": 4})
    places = [take(transfers) for _ in range(4)]
    say(tmp_path, backbone=2)
    time.sleep(0.05)
    with ThreadPoolExecutor(1) as pool:
        waiting = later(pool, lambda: take(transfers))
        places[0].close()  # of the lower places, which alone count from now on, one is free; three are held
        time.sleep(0.1)
        assert not waiting.done()
        places[1].close()
        time.sleep(0.1)
        assert not waiting.done(), "two run, as many as may"
        places[2].close()
        last = waiting.result(10)
        assert last is not None
    assert not is_free(transfers)
    places[3].close()
    assert is_free(transfers)
    last.close()


@pytest.mark.parametrize("said", [2, 0], ids=["raised", "taken away"])
def test_who_waits_hears_of_a_limit_that_is_raised_or_taken_away(tmp_path: Path, said: int) -> None:
    transfers = Transfers(tmp_path, "node1", {"backbone": 1})
    with take(transfers), ThreadPoolExecutor(2) as pool:
        waiting = [later(pool, lambda: take(transfers)), later(pool, lambda: take(transfers))]
        say(tmp_path, backbone=said)
        time.sleep(0.3)
        assert [each.done() for each in waiting].count(True) == (1 if said else 2)
        say(tmp_path, backbone=0)
        for each in waiting:
            assert each.result(10) is not None


def test_a_file_that_is_damaged_or_gone(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path, "node1", {"backbone": 3})
    say(tmp_path, backbone=2)
    assert transfers.most("backbone") == 2
    for content in (b"", b"{", b'{"transfers": {"backbone": -1}}', b'{"others": 1}'):
        limits_file(tmp_path).write_bytes(content)
        time.sleep(0.03)
        assert transfers.most("backbone") == 2, "what it told before holds"
    limits_file(tmp_path).unlink()
    time.sleep(0.03)
    assert transfers.most("backbone") == 3


def test_a_spool_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / PLACES).touch()
    with pytest.raises(ServiceError) as caught:
        Transfers(tmp_path, "node1", {"backbone": 1}).take("backbone")
    assert str(caught.value) == (
        f"the transfers with store 'backbone' cannot be shared out: {tmp_path}/transfers/node1/backbone: Not a"
        " directory; the spool has to be on a file system that can be written and has locks"
    )


@pytest.mark.parametrize(("kind", "logs"), [(Started, 0), (StepEnded, 1)], ids=["stage-in", "upload"])
def test_a_job_that_waits_hears_that_it_is_to_end(bench: Bench, kind: type[Entry], logs: int) -> None:
    _stager, profile = busy(bench, backbone=1)
    others, order, begun = Transfers(bench.spool, HOST, {"backbone": 1}), order_of(bench, 1), threading.Event()
    with ExitStack() as place, ThreadPoolExecutor(1) as pool:

        def hear(entry: Entry) -> None:
            if isinstance(entry, kind) and not begun.is_set():
                place.enter_context(take(others))
                begun.set()

        with Worker(profile, bench.stagers, listener=hear) as worker:
            running = pool.submit(lambda: list(worker.run([order])))
            assert begun.wait(60)
            time.sleep(0.2)
            assert not running.done()
            worker.stop("paused by mara: clouds")
            [report] = running.result(10)
    assert (report.fate, report.evidence) == (
        Fate.CANCELLED,
        "a transfer with store 'backbone' was not begun: paused by mara: clouds",
    )
    assert bench.stored() == [order.log_name] * logs, "what a step said is kept, although no more may run"
    assert bench.leftovers() == []


def test_a_limit_changes_no_order(bench: Bench) -> None:
    before = order_of(bench, 1).model_dump_json()
    bench.add_store("backbone", transfers=2)
    assert order_of(bench, 1).model_dump_json() == before
