"""The engine of threads, and the gate before the server's queue, by themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from contextvars import ContextVar
from typing import Any, cast
from uuid import uuid4

import pytest

from nightmill.engines.threads import ThreadsEngine
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport
from tasks import backpressure
from tasks.backpressure import Backpressure

WHERE: ContextVar[str] = ContextVar("WHERE", default="nowhere")


def _orders(count: int) -> list[JobOrder]:
    return cast("list[JobOrder]", list(range(count)))  # the engine never looks into one


def _same(orders: Sequence[JobOrder]) -> list[JobReport]:
    return cast("list[JobReport]", list(orders))


def test_every_order_is_carried_out_in_chunks_by_so_many_threads() -> None:
    sizes: list[int] = []
    most = 0

    def carry_out(orders: Sequence[JobOrder]) -> list[JobReport]:
        nonlocal most
        sizes.append(len(orders))
        most = max(most, threading.active_count())
        time.sleep(0.01)
        return _same(orders)

    before = threading.active_count()
    engine = ThreadsEngine(carry_out, threads=3, chunk_size=lambda: 4)
    assert sorted(cast("list[int]", list(engine.run(_orders(22))))) == list(range(22))
    assert sorted(sizes) == [2, 4, 4, 4, 4, 4]
    assert most <= before + 3


def test_orders_are_taken_only_when_a_thread_is_free() -> None:
    taken: list[int] = []

    def endless() -> Any:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    with closing(ThreadsEngine(_same, threads=2).run(endless())) as running:
        next(running)
        assert len(taken) <= 4


def test_chunks_see_the_context_of_the_caller() -> None:
    seen = []

    def carry_out(orders: Sequence[JobOrder]) -> list[JobReport]:
        seen.append(WHERE.get())
        return _same(orders)

    token = WHERE.set("in a flow run")
    try:
        list(ThreadsEngine(carry_out, threads=2).run(_orders(3)))
    finally:
        WHERE.reset(token)
    assert seen == ["in a flow run"] * 3


def test_a_failure_interrupts_what_runs_and_begins_nothing_more() -> None:
    told = threading.Event()
    begun: list[int] = []

    def carry_out(orders: Sequence[JobOrder]) -> list[JobReport]:
        begun.extend(cast("Sequence[int]", orders))
        if begun[0] in cast("Sequence[int]", orders):
            raise OSError("no database")
        assert told.wait(10)
        return _same(orders)

    engine = ThreadsEngine(carry_out, threads=2, interrupt=lambda _: told.set())
    with pytest.raises(OSError, match="no database"):
        list(engine.run(_orders(50)))
    assert told.is_set()
    assert len(begun) <= 3


class _Server:
    """Counts the task runs that it has recorded: a few more each time that it is asked."""

    def __init__(self, speed: int, already: int = 0) -> None:
        self.recorded, self.speed, self.asked = already, speed, 0

    def request(self, *_: object, **__: object) -> _Server:
        self.asked += 1
        self.recorded += self.speed if self.asked > 1 else 0
        return self

    def json(self) -> int:
        return self.recorded


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(backpressure, "PATIENCE_SECONDS", 0.05)


def test_task_runs_wait_while_too_many_are_not_recorded() -> None:
    server = _Server(speed=10, already=70)
    gate = Backpressure(cast("Any", server), uuid4(), most=5)
    for number in range(1, 40):
        gate.enter()
        assert 70 + number - server.recorded <= 5
    assert gate.drain() <= 0


def test_a_server_that_records_nothing_stops_no_campaign(caplog: pytest.LogCaptureFixture) -> None:
    server = _Server(speed=0)
    gate = Backpressure(cast("Any", server), uuid4(), most=2)
    gate.enter(10)
    asked = server.asked
    gate.enter(10)
    assert gate.drain() == 20
    assert server.asked == asked, "its patience ends once"


class Later:
    """A source that has one order, and another as soon as it is wanted again."""

    def __init__(self) -> None:
        self.left = _orders(2)
        self.wanted = threading.Event()

    def __iter__(self) -> Later:
        return self

    def __next__(self) -> JobOrder:
        if not self.left or (len(self.left) == 1 and not self.wanted.is_set()):
            raise StopIteration
        return self.left.pop(0)


def test_a_source_that_may_have_more_later_is_asked_again_while_a_chunk_runs() -> None:
    source, second = Later(), threading.Event()

    def carry_out(orders: Sequence[JobOrder]) -> list[JobReport]:
        if cast("list[int]", orders) == [1]:
            second.set()
        else:
            source.wanted.set()
            assert second.wait(30), "the other order began while this one went on"
        return _same(orders)

    engine = ThreadsEngine(carry_out, threads=2, pause_seconds=lambda: 0.01)
    assert sorted(cast("list[int]", list(engine.run(source)))) == [0, 1]
