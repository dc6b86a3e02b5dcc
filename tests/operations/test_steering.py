"""Pause, resume, cancel and priority: the word in the database is followed by whoever carries out jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import AuditRow
from nightmill.errors import RequestRefused
from nightmill.execution import recover
from nightmill.execution.slots import Slots
from nightmill.operations import drain as spool
from nightmill.operations import follower, slice_work, steering
from nightmill.operations.carrying import Here
from nightmill.operations.rerun import rerun
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.steering import cancel, pause, prioritise, resume
from stagers.local import LocalStager
from tests.flows.conftest import until
from tests.operations.test_slices import Slice, carry_out

WHY = "clouds"


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "FOLLOW_SECONDS", 0.05)
    monkeypatch.setattr(steering, "POLL_SECONDS", 0.02)


@contextmanager
def at_work(work: SliceWork, slice_: Slice, *, running: int = 1) -> Iterator[list[str]]:
    """Carry out the jobs of a slice in a thread, from when so many steps run; give how they ended."""
    ends: list[str] = []

    def run() -> None:
        with work:
            ends.extend(str(report.state) for report in carry_out(work, together=2))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        notes = slice_.folder / "notes"
        until(lambda: notes.exists() and len(notes.read_text().split()) >= running, 30, "the steps")
        until(lambda: ("running", "running") in slice_.executions(), 30, "the row of a step")
        yield ends
    finally:
        thread.join()


def scratch(site: Site) -> list[Path]:
    return [*site.config.scratch.glob("*")] if site.config.scratch.exists() else []


def test_a_paused_campaign_begins_no_job_and_goes_on_where_it_stood(database_url: str, tmp_path: Path) -> None:
    slice_ = Slice.of(tmp_path, database_url, *["seconds 0"] * 3)
    with slice_.observatory.open() as site:
        with slice_.work(site) as work:
            [first] = work.issue(1)
            paused = pause(site, "night1", why=WHY, who="mara")
            assert (paused.changed, paused.active, str(paused.steering)) == (True, 1, "paused by mara: clouds")
            assert work.issue(5) == []
            work.record(list(work.worker.run([first])))
            assert work.halted == "campaign 'night1' is paused by mara: clouds"
            assert work.take_cores([]) is not None, "there is room: nobody has to wait"
            assert (work.jobs().done, work.jobs().total) == (1, 3)
        again = pause(site, "night1", why="wind", who="otto")
        assert (again.changed, str(again.steering)) == (False, "paused by mara: clouds")
        assert rerun(site, "night1").paused == "paused by mara: clouds"
        with pytest.raises(
            RequestRefused, match="is paused by mara: clouds; have it go on with 'nightmill resume night1'"
        ):
            slice_.observatory.submit("night1", 1, "execution.threads=1")
        assert str(resume(site, "night1", why="clear", who="otto").steering) == "going on by otto: clear"
        assert resume(site, "night1", why="clear", who="mara").changed is False
        with slice_.work(site) as work:
            list(carry_out(work))
            assert work.jobs().done == 3
        with site.database.reading() as session:
            acts = select(AuditRow.verb, AuditRow.who, AuditRow.why, AuditRow.detail).order_by(AuditRow.id)
            told = [tuple(row) for row in session.execute(acts) if row.verb != "submit"]
    assert [each for each in told if each[0] != "rerun"] == [
        ("pause", "mara", "clouds", {"now": False}),
        ("resume", "otto", "clear", {}),
    ]
    assert set(slice_.times_run().values()) == {1}


def test_what_runs_is_ended_at_once_where_a_pause_says_so(database_url: str, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    slice_ = Slice.of(tmp_path, database_url, f"until {flag}", "seconds 0")
    with slice_.observatory.open() as site:
        with at_work(slice_.work(site), slice_) as ends:
            pause(site, "night1", why=WHY, who="mara")
            stopped = pause(site, "night1", why="now", who="otto", now=True)
            assert (stopped.active, stopped.unreached) == (0, ())
            assert scratch(site) == []
        assert ends == ["cancelled"]
        assert slice_.attempts() == [
            ("ready", "cancelled", "step 'detect' was ended: campaign 'night1' is paused by otto: now"),
            ("ready", "cancelled", "it was not begun: campaign 'night1' is paused by otto: now"),
        ]
        resume(site, "night1", why="clear")
        flag.touch()
        with slice_.work(site) as work:
            assert [str(report.state) for report in carry_out(work)] == ["published"] * 2


def test_a_cancelled_campaign_is_ended_when_the_word_returns_and_a_rerun_takes_it_up(
    database_url: str, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    slice_ = Slice.of(tmp_path, database_url, "seconds 0", f"until {flag}", "seconds 0")
    with slice_.observatory.open() as site:
        with at_work(slice_.work(site), slice_, running=2):
            done = cancel(site, "night1", why=WHY, who="mara")
            assert (done.changed, done.jobs, done.active, done.unreached) == (True, 2, 0, ())
            assert scratch(site) == []
            assert [(job, attempt) for job, attempt, _ in slice_.attempts()] == [
                ("done", "published"),
                ("cancelled", "cancelled"),
            ]
        assert set(slice_.observatory.states("night1").values()) == {"done", "cancelled"}
        assert slice_.attempts()[1][2] == "step 'detect' was ended: campaign 'night1' is cancelled by mara: clouds"
        assert cancel(site, "night1", why="again").changed is False
        for refused in (resume, pause):
            with pytest.raises(
                RequestRefused, match="is cancelled by mara: clouds; take it up with 'nightmill rerun night1'"
            ):
                refused(site, "night1", why="no")
        with pytest.raises(RequestRefused, match="take it up with 'nightmill rerun night1'"):
            slice_.observatory.submit("night1", 1, "execution.threads=1")
        flag.touch()
        assert rerun(site, "night1").left is None
        assert set(slice_.observatory.states("night1").values()) == {"done", "ready"}
        with slice_.work(site) as work:
            assert [str(report.state) for report in carry_out(work)] == ["published"] * 2
            assert work.jobs().done == 3


def test_what_is_being_published_when_its_campaign_is_cancelled_counts(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slice_ = Slice.of(tmp_path, database_url, "seconds 0", "seconds 0")
    begun, go_on = threading.Event(), threading.Event()
    reveal = LocalStager.reveal

    def slow(*arguments: object, **options: object) -> None:
        begun.set()
        assert go_on.wait(60)
        reveal(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalStager, "reveal", slow)
    with slice_.observatory.open() as site:
        work = slice_.work(site)

        def run() -> None:
            with work:
                list(carry_out(work))

        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(60)
        early = cancel(site, "night1", why=WHY, who="mara", patience_seconds=0.0)
        assert (early.jobs, early.active) == (2, 1)
        [told] = early.unreached
        assert "has not ended what it runs: it does when it sees the word" in told
        go_on.set()
        assert cancel(site, "night1", why=WHY).active == 0
        thread.join()
    assert slice_.attempts() == [("done", "published", "")]
    assert sorted(slice_.observatory.states("night1").values()) == ["cancelled", "done"]


def test_what_a_killed_process_left_is_ended_by_the_word_that_comes_after_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slice_ = Slice.of(tmp_path, database_url, "seconds 0", "seconds 0")
    with slice_.observatory.open() as site:
        work = slice_.work(site)
        work.__enter__()
        work.issue(2)
        early = cancel(site, "night1", why=WHY, who="mara", patience_seconds=0.0)  # killed before it has seen an end
        assert early.active == 2
        for module in (recover, spool):
            monkeypatch.setattr(module, "lives", lambda *_: False)
        for module in (steering, slice_work):
            monkeypatch.setattr(module, "is_alive", lambda *_: False)
        assert cancel(site, "night1", why=WHY).active == 0
        work._follower.stop()
        work.worker.close()
        assert {(job, attempt) for job, attempt, _ in slice_.attempts()} == {("cancelled", "lost")}
        rerun(site, "night1")
        monkeypatch.undo()
        with slice_.work(site) as again:
            list(carry_out(again))
            assert again.jobs().done == 2


def slots_of(work: SliceWork) -> Slots:
    assert isinstance(work.place, Here)
    return work.place._slots


def test_jobs_that_wait_for_cores_give_up_when_their_campaign_is_paused(tmp_path: Path) -> None:
    slice_ = Slice.of(tmp_path, "", "seconds 0")
    with slice_.observatory.open() as site, slice_.work(site) as work, slice_.work(site) as other:
        taken = [slots_of(other).take(1) for _ in range(other.host.cores)]
        waiting: list[object] = [0]
        thread = threading.Thread(target=lambda: waiting.append(work.take_cores([])))
        thread.start()
        pause(site, "night1", why=WHY)
        thread.join()
        assert waiting == [0, None]
        for each in taken:
            assert each is not None
            each.close()


@pytest.mark.req("REQ-0016")
def test_of_two_campaigns_that_wait_for_one_core_the_more_urgent_gets_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slice_ = Slice.of(tmp_path, database_url, "seconds 0")
    observatory = slice_.observatory
    observatory.submit("urgent", 1, "execution.priority=5")
    order: list[str] = []
    with observatory.open() as site, slice_.work(site) as late, SliceWork(site, "urgent", "science", 0) as soon:
        works = {"night1": late, "urgent": soon}
        for work in works.values():
            assert isinstance(work.place, Here)
            work.place._slots = Slots(slots_of(work).folder, 1)

        def take(name: str) -> None:
            cores = works[name].take_cores([])
            assert cores is not None
            with cores:
                order.append(name)

        def both() -> list[str]:
            order.clear()
            held = slots_of(late).take(1)
            assert held is not None
            threads = {name: threading.Thread(target=take, args=[name]) for name in works}
            for name, thread in threads.items():  # the less urgent comes first, and has its turn
                thread.start()
                own = works[name].steering.priority
                until(lambda own=own: slots_of(late)._waits_above(own - 1), 60, "it to wait")  # type: ignore[misc]
            held.close()
            for thread in threads.values():
                thread.join()
            return list(order)

        until(lambda: soon.steering.priority == 5, 60, "the slice to hear how urgent it is")
        assert both() == ["urgent", "night1"]
        changed = prioritise(site, "night1", 10, why="the telescope waits for it")
        assert (changed.changed, changed.steering.priority) == (True, 10)
        until(lambda: late.steering.priority == 10, 60, "the slice to hear of it")
        assert both() == ["night1", "urgent"]
        assert prioritise(site, "night1", 10, why="again").changed is False
    observatory.submit("urgent", 1, "execution.priority=5")
    with observatory.open() as site:
        assert prioritise(site, "urgent", 5, why="look").changed is False


def test_an_act_without_a_reason_is_refused(tmp_path: Path) -> None:
    slice_ = Slice.of(tmp_path, "", "seconds 0")
    with slice_.observatory.open() as site:
        for act in (pause, resume, cancel):
            with pytest.raises(RequestRefused, match="--why is empty; say why, in words"):
                act(site, "night1", why=" ")
