"""What every carrier must do, as tests that a plug-in runs on its own kind of engine.

A plug-in subclasses :class:`EngineConformance` in its tests and says how its engine is opened::

    from nightmill.testing.engines import EngineConformance

    class TestGridCarrier(EngineConformance):
        @pytest.fixture
        def opener(self, grid):
            return lambda: GridCarrier("grid", GridOptions(queue=grid.queue))

The workers of the engine must run on this host, as this user, and see pytest's temporary folder. Each test shows a
promise of :class:`nightmill.model.carrier.Carrier`. Needs pytest.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from nightmill import __version__
from nightmill.clock import utc_now
from nightmill.engines.remote import Remote
from nightmill.engines.threads import ThreadsEngine
from nightmill.execution.concluding import journal_of
from nightmill.execution.dispatches import Dispatched, dispatches, send_out
from nightmill.execution.journal import journals, read_journal, read_whole_journal
from nightmill.execution.stores import open_stagers
from nightmill.execution.worker import Worker
from nightmill.model.campaign import Hosts
from nightmill.model.carrier import Carrier, Spread
from nightmill.model.dispatch import Dispatch, Ending
from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType
from nightmill.model.journal import Started, StepBegan
from nightmill.model.node import NodeProfile
from nightmill.model.order import AttemptKey, JobOrder, OrderOutput, OrderStep
from nightmill.model.report import JobReport
from nightmill.model.store import Store

Opener = Callable[[], Carrier]

PATIENCE_SECONDS = 60.0
LONG = "sleep 60; echo late > {out}"
"""A step that lasts for longer than any test waits."""
SOON = "echo done > {out}"


@dataclass(frozen=True)
class Ground:
    """Where the orders of a test are carried out: a folder with a store, a spool and scratches."""

    folder: Path

    @property
    def spool(self) -> Path:
        """The spool."""
        return self.folder / "spool"

    @property
    def store(self) -> Store:
        """The store that is published to."""
        return Store(name="backbone", url=(self.folder / "store").as_uri())

    @property
    def profile(self) -> NodeProfile:
        """The profile of every host."""
        return NodeProfile(scratch=self.folder / "scratch", spool=self.spool)

    def order(self, number: int, script: str = SOON, *, attempt: int = 1) -> JobOrder:
        """Make an order of one step, a shell script that writes ``{out}``."""
        name = f"made_{number}_a{attempt}.txt"
        output = OrderOutput(role="made", type="text", names=(name,), data_id={}, store="backbone")
        argv = ("sh", "-c", script.format(out=name))
        return JobOrder(
            attempt=AttemptKey(campaign="conformance", stage="make", unit=f"exposure={number}", number=attempt),
            data_id={},
            pipeline="conformance",
            pipeline_version="1",
            stores={"backbone": self.store},
            file_types={"text": FileType(name="text")},
            inputs=(),
            steps=(OrderStep(name="write", argv=argv, outputs=(output,), wall_seconds=600.0),),
            log_name=f"made_{number}_a{attempt}.log",
            log_store="backbone",
            log_directory="logs",
        )

    def stored(self) -> list[str]:
        """Return the files of the store, logs and what was not revealed left out."""
        return sorted(path.name for path in (self.folder / "store").glob("made*.txt"))

    def begun(self) -> Counter[AttemptKey]:
        """Return how often each attempt was begun, by all journals."""
        entries = (entry for path in journals(self.spool) for entry in read_whole_journal(path).entries)
        return Counter(entry.attempt for entry in entries if isinstance(entry, Started))

    @contextmanager
    def remote(
        self, carrier: Carrier, *, hosts: Hosts | None = None, tries: bool = False
    ) -> Iterator[tuple[Remote, Worker]]:
        """Open what drives a carrier, as a slice does."""
        stagers = open_stagers({"backbone": self.store}, {})
        with (
            Worker(self.profile, stagers) as worker,
            Remote(carrier, "tested", worker, stagers, hosts=lambda: hosts or Hosts(), tries=tries) as remote,
        ):
            try:
                yield remote, worker
            except BaseException:
                worker.stop("the test failed")
                raise


def engine(remote: Remote, worker: Worker, chunk: int = 1) -> ThreadsEngine:
    """Return what takes orders as places are free, and carries them out by a carrier."""
    return ThreadsEngine(
        lambda orders: list(remote.run(orders)),
        threads=64,
        chunk_size=lambda: chunk,
        interrupt=lambda error: worker.stop(f"{type(error).__name__}: {error}"),
        places=lambda: remote.places,
    )


def until(what: Callable[[], object], why: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < deadline, f"in vain: {why}"
        time.sleep(0.02)


def fates(reports: Iterable[JobReport]) -> dict[str, Fate | None]:
    """Return the fate of each unit."""
    return {report.attempt.unit: report.fate for report in reports}


class InTheBackground:
    """Carries out orders in a thread: what it got is in ``reports``, once :meth:`join` has returned."""

    def __init__(self, work: Callable[[], Iterable[JobReport]]) -> None:
        self.reports: list[JobReport] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Iterable[JobReport]]) -> None:
        try:
            for report in work():
                self.reports.append(report)
        except BaseException as error:  # noqa: BLE001 - for the thread that joins
            self._failure = error

    def join(self) -> list[JobReport]:
        """Wait for the end, and return the reports."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "it does not come to an end"
        if self._failure is not None:
            raise self._failure
        return self.reports


def worker_of(ground: Ground, attempt: AttemptKey) -> tuple[Dispatched, int]:
    """Wait until a step of an attempt runs, and return its dispatch and the process of its worker."""

    def running() -> list[Dispatched]:
        mine = [each for each in dispatches(ground.spool) if attempt in each.dispatch.attempts]
        told = [(each, path) for each in mine if (path := journal_of(each)) is not None]
        return [
            each
            for each, path in told
            if any(isinstance(entry, StepBegan) and entry.attempt == attempt for entry in read_journal(path).entries)
        ]

    until(running, f"a step of {attempt} begins")
    [dispatched] = running()
    taken = dispatched.taken
    assert taken is not None
    return dispatched, taken.owner.pid


class EngineConformance:
    """The promises of a carrier. Override :meth:`opener`."""

    many = 200  # trivial jobs, which the engine must bear

    @pytest.fixture
    def opener(self) -> Opener:
        """Give a function that opens the same engine at each call."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'opener'")

    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        """Give an empty folder to work in."""
        (tmp_path / "store").mkdir()
        return Ground(tmp_path)

    # ---------------------------------------------------------------------------------- what goes well

    def test_every_order_is_carried_out_once_in_chunks(self, opener: Opener, ground: Ground) -> None:
        """Each job is published and told once, whatever their order, and the worker's end is told by itself."""
        orders = [ground.order(number) for number in range(11)]
        with ground.remote(opener()) as (remote, worker):
            reports = list(engine(remote, worker, 4).run(orders))
        assert fates(reports) == {order.attempt.unit: Fate.PUBLISHED for order in orders}
        assert len(reports) == len(orders)
        assert ground.begun() == Counter(order.attempt for order in orders)
        assert len(ground.stored()) == len(orders)
        assert sorted(len(each.dispatch.attempts) for each in dispatches(ground.spool)) == [3, 4, 4]
        assert {each.ending.fate for each in dispatches(ground.spool) if each.ending} == {None}

    def test_a_failed_job_is_a_report_and_the_others_of_its_chunk_go_on(self, opener: Opener, ground: Ground) -> None:
        """What a job tells of its failure comes as it told it."""
        orders = [ground.order(1), ground.order(2, "echo oh dear; exit 3"), ground.order(3)]
        with ground.remote(opener()) as (remote, _):
            reports = {report.attempt.unit: report for report in remote.run(orders)}
        assert fates(reports.values()) == {
            "exposure=1": Fate.PUBLISHED,
            "exposure=2": Fate.STEP_FAILED,
            "exposure=3": Fate.PUBLISHED,
        }
        assert "oh dear" in reports["exposure=2"].evidence

    def test_orders_are_taken_as_places_are_free(self, opener: Opener, ground: Ground) -> None:
        """An endless source is asked for no more than there are places, and then for one as one has ended."""
        taken: list[int] = []

        def endless() -> Iterator[JobOrder]:
            while True:
                taken.append(len(taken))
                yield ground.order(taken[-1])

        with ground.remote(opener()) as (remote, worker):
            places, running = remote.places, engine(remote, worker).run(endless())
            for ended in range(1, 4):
                next(running)
                assert len(taken) <= 2 * places + ended
            running.close()

    def test_many_trivial_jobs(self, opener: Opener, ground: Ground) -> None:
        """``many`` are carried out in chunks, each once, whose size what a dispatch costs can be asked for."""
        orders = [ground.order(number) for number in range(self.many)]
        with ground.remote(opener()) as (remote, worker):
            assert remote.carrier.dispatch_seconds >= 0
            reports = list(engine(remote, worker, min(250, self.many // 4)).run(orders))
        assert Counter(report.attempt for report in reports) == Counter(order.attempt for order in orders)
        assert ground.begun() == Counter(order.attempt for order in orders)
        assert len(ground.stored()) == len(orders)

    # ------------------------------------------------------------------------------ what is to end

    def test_what_runs_ends_when_told_and_what_waits_never_begins(self, opener: Opener, ground: Ground) -> None:
        """A cancelled job tells so and publishes its log; one that was not begun is not told of."""
        orders = [ground.order(1, LONG), ground.order(2)]
        with ground.remote(opener()) as (remote, worker):
            running = InTheBackground(partial(remote.run, orders))
            worker_of(ground, orders[0].attempt)
            begun = time.monotonic()
            worker.stop("somebody cancelled it")
            [report] = running.join()
            assert list(remote.run([ground.order(3)])) == []
        assert time.monotonic() - begun < PATIENCE_SECONDS / 2
        assert (report.attempt, report.fate) == (orders[0].attempt, Fate.CANCELLED)
        assert "somebody cancelled it" in report.evidence
        assert [file.role for file in report.published] == ["log"]
        assert ground.stored() == []

    def test_hosts_that_may_not_be_used_are_not(self, opener: Opener, ground: Ground) -> None:
        """A dispatch that this host may not carry out is refused, or ends without a job of it begun."""
        order = ground.order(1)
        with ground.remote(opener(), hosts=Hosts(avoid=("*",))) as (remote, worker):
            running = InTheBackground(partial(remote.run, [order]))
            with suppress(Exception):  # how an engine refuses is its own
                time.sleep(2)
                worker.stop("it waits in vain")
                running.join()
        assert ground.stored() == []

    # --------------------------------------------------------------------------------- what goes wrong

    def test_a_killed_worker_loses_its_jobs_and_others_go_on(self, opener: Opener, ground: Ground) -> None:
        """The engine says that the worker is gone; the jobs of its chunk end with that as evidence."""
        victims = [ground.order(1, LONG), ground.order(2)]
        with ground.remote(opener()) as (remote, _):
            running = InTheBackground(partial(remote.run, victims))
            _dispatched, pid = worker_of(ground, victims[0].attempt)
            os.kill(pid, signal.SIGKILL)
            lost = {report.attempt.unit: report for report in running.join()}
            others = list(remote.run([ground.order(3), ground.order(2, attempt=2)]))
        assert fates(lost.values()) == dict.fromkeys(["exposure=1", "exposure=2"], Fate.LOST)
        assert "in step" not in lost["exposure=2"].evidence
        assert lost["exposure=2"].evidence.endswith("; before the attempt began")
        assert "while it was running" in lost["exposure=1"].evidence
        assert lost["exposure=1"].evidence.partition(";")[0], "the engine tells in its own words"
        assert fates(others) == dict.fromkeys(["exposure=3", "exposure=2"], Fate.PUBLISHED)
        assert ground.stored() == ["made_2_a2.txt", "made_3_a1.txt"]

    def test_a_worker_that_was_given_up_and_comes_back_publishes_nothing(self, opener: Opener, ground: Ground) -> None:
        """A node goes silent, its dispatch is said to be over, its job is done elsewhere; then it goes on."""
        slow = ground.order(1, "sleep 1; echo late > {out}")
        with ground.remote(opener()) as (remote, _):
            running = InTheBackground(partial(remote.run, [slow, ground.order(2)]))
            dispatched, pid = worker_of(ground, slow.attempt)
            os.kill(pid, signal.SIGSTOP)
            try:
                said = Ending(at=utc_now(), fate=Fate.NODE_FAILED, evidence="node is silent")
                dispatched.end(said)
                lost = running.join()
                assert fates(lost) == dict.fromkeys(["exposure=1", "exposure=2"], Fate.NODE_FAILED)
                assert "node is silent" in lost[0].evidence
                time.sleep(1.2)
            finally:
                os.kill(pid, signal.SIGCONT)
            again = list(remote.run([ground.order(1, attempt=2), ground.order(2, attempt=2)]))
            time.sleep(2.0)
        assert fates(again) == dict.fromkeys(["exposure=1", "exposure=2"], Fate.PUBLISHED)
        assert ground.stored() == ["made_1_a2.txt", "made_2_a2.txt"]
        assert [path.name for path in (ground.folder / "store").rglob("*a1*") if path.is_file()] == []

    def test_a_worker_of_another_version_begins_nothing_and_says_what_it_has(
        self, opener: Opener, ground: Ground
    ) -> None:
        """No job fails for what a host lacks: why nothing can begin is told with host, interpreter and remedy."""
        order = ground.order(1)
        with ground.remote(opener()) as (remote, _):
            sent = send_out(ground.spool, [order], ground.profile, engine="tested")
            path = sent.folder / "dispatch.json"
            path.write_text(path.read_text().replace(f'"nightmill":"{__version__}"', '"nightmill":"0.0.1"'))
            remote.adopt([sent])
            assert list(remote.run([order])) == []
            assert "cannot begin: " in remote.unfit
            assert f"has nightmill {__version__}, and nightmill 0.0.1 sent it out; install that version" in remote.unfit
        assert ground.begun() == {}

    def test_hosts_that_are_to_be_tried_one_by_one_take_what_is_bound_to_them(
        self, opener: Opener, ground: Ground
    ) -> None:
        """Each host that the engine names takes a dispatch of its own, whose worker tells what it saw there."""
        carrier = opener()
        hosts = [*carrier.hosts_to_try()] if isinstance(carrier, Spread) else []
        carrier.close()
        for number, host in enumerate(hosts, start=1):
            with ground.remote(opener(), hosts=Hosts(use=(host,)), tries=True) as (remote, _):
                [report] = remote.run([ground.order(number)])
            assert report.fate is Fate.PUBLISHED, report.evidence
        for dispatched in dispatches(ground.spool):
            assert dispatched.seen is not None
            assert [part.seen for part in dispatched.seen.parts if not part.well] == []

    # ------------------------------------------------------------------------- who drives it goes away

    def test_what_another_process_sent_out_is_followed_to_its_end(self, opener: Opener, ground: Ground) -> None:
        """A driver that is gone is followed by another: nothing is begun twice, and every end is told."""
        gate = ground.folder / "gate"
        orders = [ground.order(1), ground.order(2, f"while ! test -e {gate}; do sleep 0.05; done; echo done > {{out}}")]
        with ground.remote(opener()) as (remote, _):
            InTheBackground(partial(remote.run, orders))  # nobody hears of it any more
            worker_of(ground, orders[1].attempt)
        with ground.remote(opener()) as (remote, _):
            remote.adopt(dispatches(ground.spool))
            running = InTheBackground(partial(remote.run, orders))
            gate.touch()
            reports = running.join()
        assert fates(reports) == dict.fromkeys(["exposure=1", "exposure=2"], Fate.PUBLISHED)
        assert ground.begun() == Counter(order.attempt for order in orders)

    def test_a_dispatch_that_is_given_to_two_workers_is_carried_out_once(self, opener: Opener, ground: Ground) -> None:
        """Submitted again, as the answer to the first time was lost, it is found or does nothing."""
        order = ground.order(1, "sleep 0.5; echo done > {out}")
        carrier = opener()
        with ground.remote(carrier) as (remote, _):
            running = InTheBackground(partial(remote.run, [order]))
            dispatched, _pid = worker_of(ground, order.attempt)
            other = opener()
            try:
                _again(other, dispatched.dispatch)
                [report] = running.join()
            finally:
                other.close()
            time.sleep(1.0)
        assert report.fate is Fate.PUBLISHED
        assert ground.begun() == Counter([order.attempt])
        assert sha256(b"done\n").hexdigest() in {file.sha256 for file in report.published}


def _again(carrier: Carrier, dispatch: Dispatch) -> Sequence[str]:
    return [*carrier.find([dispatch.name]).values()] or carrier.submit([dispatch])
