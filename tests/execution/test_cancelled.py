"""Everything is told to end: what runs is ended and says so, what ran to its end is published, nothing more begins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from nightmill.execution.bundles import BundleCache
from nightmill.execution.context import JobContext
from nightmill.execution.jobs import run_jobs
from nightmill.execution.journal import JournalWriter, journals, read_journal
from nightmill.execution.launch import watch as process_module
from nightmill.execution.proc import started_at
from nightmill.execution.recover import finish_dead
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, Entry, Publishing, StepBegan, StepEnded
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState, JobState
from tests.support.orders import Bench, output, python, rights_of, shell

WHY = "its flow run was told to end"
FIRST = output("first", "first.txt")


def run_until(bench: Bench, tell: Callable[[Entry], bool], *orders: JobOrder) -> list[JobReport]:
    """Carry out orders that are told to end as soon as one of their entries fits."""
    context: JobContext

    def hear(entry: Entry) -> None:
        if tell(entry):
            context.stopping = WHY

    with JournalWriter(bench.spool, listener=hear) as journal:
        context = JobContext(bench.stagers, bench.scratch, journal, BundleCache(bench.root / "cache"))
        return list(run_jobs(orders, context))


@pytest.mark.parametrize(
    "script",
    ["echo half > first.txt; exec sleep 600", "trap 'echo 1 > first.txt; exit 0' TERM; while :; do sleep 0.05; done"],
    ids=["killed", "exit code 0"],
)
def test_a_step_that_runs_is_ended_and_nothing_but_the_log_published(bench: Bench, script: str) -> None:
    order = bench.order(shell("fit", f"echo begun; {script}", FIRST))
    [report] = run_until(bench, lambda entry: isinstance(entry, StepBegan), order)
    assert (report.state, report.fate, report.failed_step) == (AttemptState.CANCELLED, Fate.CANCELLED, "fit")
    assert report.evidence.startswith(f"step 'fit' was ended: {WHY}")
    assert [file.name for file in report.published] == bench.stored() == [order.log_name]
    [began] = [entry for entry in bench.entries() if isinstance(entry, StepBegan)]
    assert started_at(began.pid) is None
    assert bench.leftovers() == []


def test_a_step_that_does_not_listen_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 0.2)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    order = bench.order(python("fit", code, FIRST))
    with JournalWriter(bench.spool) as journal:
        context = JobContext(bench.stagers, bench.scratch, journal, BundleCache(bench.root / "cache"))

        def tell() -> None:
            while not any("\ndeaf" in log.read_text() for log in bench.scratch.glob("*/log")):
                time.sleep(0.02)
            context.stopping = WHY

        teller = threading.Thread(target=tell)
        teller.start()
        [report] = run_jobs([order], context)
        teller.join()
    assert report.fate is Fate.CANCELLED
    [ended] = [entry for entry in bench.entries() if isinstance(entry, StepEnded)]
    assert ended.signal == 9


def test_no_further_step_and_no_further_job_begins(bench: Bench) -> None:
    orders = [
        bench.order(shell("one", "echo 1 > first.txt", FIRST), shell("two", ":"), unit=f"exposure={number}")
        for number in (1, 2)
    ]
    reports = run_until(bench, lambda entry: isinstance(entry, StepEnded), *orders)
    assert [(report.attempt, report.fate) for report in reports] == [(orders[0].attempt, Fate.CANCELLED)]
    assert reports[0].evidence == f"step 'two' was not begun: {WHY}"
    assert bench.stored() == [orders[0].log_name]
    assert len([entry for entry in bench.entries() if isinstance(entry, StepBegan)]) == 1


def test_what_ran_to_its_end_is_published(bench: Bench) -> None:
    order = bench.order(shell("one", "echo 1 > first.txt", FIRST))
    [report] = run_until(bench, lambda entry: isinstance(entry, StepEnded), order)
    assert report.fate is Fate.PUBLISHED


def test_killed_before_it_could_tell_its_end_it_is_still_cancelled(bench: Bench) -> None:
    order = bench.order(shell("fit", "exec sleep 600", FIRST))
    run_until(bench, lambda entry: isinstance(entry, StepBegan), order)
    [path] = journals(bench.spool)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    journal = read_journal(path)
    assert isinstance(journal.entries[-1], Publishing)
    [end] = finish_dead(journal, bench.stagers, rights_of(journal)).ends
    assert isinstance(end, Done)
    assert (end.state, end.fate, end.adopted) == (AttemptState.CANCELLED, Fate.CANCELLED, True)


def test_each_fate_says_what_becomes_of_attempt_and_job() -> None:
    told = {fate: (fate.attempt_state, fate.job_state) for fate in Fate}
    assert told.pop(Fate.PUBLISHED) == (AttemptState.PUBLISHED, JobState.DONE)
    assert told.pop(Fate.CANCELLED) == (AttemptState.CANCELLED, JobState.READY)
    for gone in (Fate.LOST, Fate.NODE_FAILED, Fate.PREEMPTED):
        assert told.pop(gone) == (AttemptState.LOST, JobState.FAILED)
    assert set(told.values()) == {(AttemptState.FAILED, JobState.FAILED)}
