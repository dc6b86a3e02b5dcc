"""A slice in the hands of one process, while what it needs goes away: nothing is lost, run twice, or told wrongly."""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.database import Database, Result
from nightmill.backbone.schema import AttemptRow, ExecutionRow, JobRow
from nightmill.errors import DatabaseAway
from nightmill.execution import recover
from nightmill.execution.journal import JournalWriter, SpoolAway, journals, read_journal
from nightmill.model.report import JobReport, fold
from nightmill.operations import drain as spool
from nightmill.operations import follower, misfortunes
from nightmill.operations.drain import drain
from nightmill.operations.patience import Patience, who_waits
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from provenance import record as record_module
from tests.flows.conftest import until
from tests.support.mounts import fill, small_disk
from tests.support.observatory import Observatory
from tests.support.postgres import StoppableServer

OLD_PATIENCE_SECONDS = 5.0
"""How long a slice once waited for its database."""


@dataclass
class Slice:
    """The slice of a campaign over exposures whose steps do what the texts say, in the hands of this process."""

    observatory: Observatory
    folder: Path
    told: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, url: str, *texts: str) -> Slice:
        observatory = Observatory.build(folder / "site", url)
        observatory.observe(1, [f"note {folder / 'notes'}\n{text}\n" for text in texts])
        observatory.submit("night1", 1, "execution.threads=1")
        return cls(observatory, folder)

    def work(self, site: Site) -> SliceWork:
        patient = replace(site, patience=Patience("slice night1 science #0", 120.0, self.told.append))
        return SliceWork(patient, "night1", "science", 0, tell=self.told.append)

    def times_run(self) -> Counter[str]:
        return Counter((self.folder / "notes").read_text().split())

    def attempts(self) -> list[tuple[str, str, str]]:
        """Return the state of the job, and state and evidence of each attempt, in the order of their issue."""
        with self.observatory.open() as site, site.database.reading() as session:
            rows = select(JobRow.state, AttemptRow.state, AttemptRow.evidence).join(
                AttemptRow, AttemptRow.job_id == JobRow.id
            )
            return [(job, attempt, told or "") for job, attempt, told in session.execute(rows.order_by(AttemptRow.id))]

    def executions(self) -> list[tuple[str, str]]:
        with self.observatory.open() as site, site.database.reading() as session:
            rows = select(AttemptRow.state, ExecutionRow.state).join(AttemptRow).order_by(ExecutionRow.id)
            return list(session.execute(rows).tuples())


def carry_out(work: SliceWork, *, together: int = 1) -> Iterator[JobReport]:
    """Issue, carry out and record, as the flow of a slice does."""
    while orders := work.issue(together):
        for report in work.worker.run(takewhile(lambda _: not work.halted, orders)):
            work.heed(report)
            yield report
            work.record([report])


def test_a_database_that_restarts_in_mid_slice_is_waited_for(own_server: StoppableServer, tmp_path: Path) -> None:
    url = own_server.server.url(own_server.server.create())
    slice_ = Slice.of(tmp_path, url, *["seconds 0"] * 4)
    waiting: list[str] = []

    def come_back() -> None:
        waiting.extend(map(str, who_waits(site.config.spool)))
        own_server.start()

    timer = threading.Timer(OLD_PATIENCE_SECONDS + 3, come_back)
    with slice_.observatory.open() as site, slice_.work(site) as work:
        for number, _report in enumerate(carry_out(work, together=2)):
            if number == 0:  # one job has ended, another was issued
                own_server.stop()
                timer.start()
        jobs = work.jobs()
    timer.join()
    assert (jobs.done, jobs.total) == (4, 4)
    assert set(slice_.times_run().values()) == {1}
    assert [attempt for _, attempt, _ in slice_.attempts()] == ["published"] * 4
    [told] = waiting
    assert told.startswith("slice night1 science #0 (process ")
    assert "waits since 2" in told
    assert "cannot be used now" in told
    assert slice_.told[0].startswith(told)
    assert slice_.told[1].startswith("slice night1 science #0: the database is back after")
    assert who_waits(site.config.spool) == []


class Forgetful(Database):
    """Commits, and once loses the answer."""

    lost = False

    def write(self, work: Callable[[Session], Result]) -> Result:
        """Write, and say that the database went away where attempts were issued."""
        result = super().write(work)
        if isinstance(result, tuple) and result[0] and not self.lost:
            self.lost = True
            raise DatabaseAway("the connection was lost")
        return result


def test_an_issue_whose_answer_was_lost_leaves_no_job_behind(database_url: str, tmp_path: Path) -> None:
    slice_ = Slice.of(tmp_path, database_url, "seconds 0", "seconds 0")
    with slice_.observatory.open() as opened:
        site = replace(opened, database=Forgetful(database_url))
        with site, slice_.work(site) as work:
            assert [report.state for report in carry_out(work, together=2)] == ["published"] * 2
    lost = ("done", "cancelled", "it was not begun: the database went away as it was issued")
    assert slice_.attempts() == [lost, lost, ("done", "published", ""), ("done", "published", "")]


def test_a_follower_that_fails_says_why_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = tmp_path / "flag"
    slice_ = Slice.of(tmp_path, "", f"until {flag}", f"until {flag}")
    monkeypatch.setattr(follower, "FOLLOW_SECONDS", 0.05)
    failures = [ValueError("a broken row")]
    record = record_module.record

    def fail_once(*arguments: object, **options: object) -> object:
        if failures and threading.current_thread().name == "nightmill-follower":
            raise failures.pop()
        return record(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(follower, "record", fail_once)
    with slice_.observatory.open() as site, slice_.work(site) as work:
        job = threading.Thread(target=lambda: list(work.worker.run(work.issue(1))))
        job.start()
        until(lambda: not failures, 30, "the follower to fail")
        until(lambda: bool(work.jobs()) and slice_.told, 30, "the slice to notice")
        until(lambda: slice_.executions() == [("running", "running")], 30, "the follower to go on")
        flag.touch()
        job.join()
        list(carry_out(work))
    [told] = slice_.told
    assert "rows of running jobs were not kept up to date" in told
    assert "ValueError: a broken row" in told
    assert "in fail_once" in told


def test_a_full_store_is_run_into_by_a_few_jobs_and_the_others_stay_ready(tmp_path: Path) -> None:
    (tmp_path / "site" / "stores").mkdir(parents=True)
    with small_disk(tmp_path / "site" / "stores" / "backbone", size="1m") as store:
        slice_ = Slice.of(tmp_path, "", *["seconds 0"] * 12)
        fill(store)
        with slice_.observatory.open() as site, slice_.work(site) as work:
            failed = [report.fate for report in carry_out(work, together=5)]
            assert set(failed) == {"no_space"}
            least = misfortunes.LEAST_FAILURES
            assert len(failed) in range(least, 6), "jobs are published in groups: a few may be begun"
            assert "3 jobs in a row ended with no_space on host" in work.halted
            assert "no space left; make room" in work.halted
            assert work.issue(5) == []
        attempts = slice_.attempts()
        assert [state for state, _, _ in attempts] == ["failed"] * len(failed) + ["ready"] * (5 - len(failed))
        assert all(told == f"it was not begun: {work.halted}" for state, _, told in attempts if state == "ready")
        (store / "filler").unlink()
        with slice_.observatory.open() as site, slice_.work(site) as work:
            assert len(list(carry_out(work, together=5))) == 12
            assert not work.halted
            assert work.jobs().done == 12


def test_what_a_full_spool_ends_is_told_alike_by_journal_and_rows(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "flag"
    slice_ = Slice.of(tmp_path, database_url, f"until {flag}", "seconds 0")
    monkeypatch.setattr(follower, "FOLLOW_SECONDS", 0.05)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def run() -> None:
        orders = work.issue(2)
        watcher = threading.Thread(target=fill_spool)
        watcher.start()
        list(work.worker.run(orders))

    def fill_spool() -> None:
        until(lambda: slice_.executions() == [("running", "running")], 30, "the row of the running step")
        with monkeypatch.context() as patch:
            patch.setattr(JournalWriter, "_write", full)
            flag.touch()
            ended.wait(30)

    ended = threading.Event()
    with slice_.observatory.open() as site:
        with pytest.raises(SpoolAway, match="cannot be written: No space left"), slice_.work(site) as work:
            try:
                run()
            finally:
                ended.set()
        assert [(job, attempt) for job, attempt, _ in slice_.attempts()] == [
            ("active", "running"),
            ("ready", "cancelled"),
        ]
        monkeypatch.setattr(recover, "lives", lambda *_: False)
        monkeypatch.setattr(spool, "lives", lambda *_: False)
        drain(site)
        [journal] = (site.config.spool / "recorded").glob("*.jsonl")
        [report] = fold(read_journal(journal).entries).values()
    assert list(journals(site.config.spool)) == []
    assert (report.state, report.evidence) == slice_.attempts()[0][1:]
    assert slice_.attempts()[0][:2] == ("failed", "lost")
    assert slice_.executions() == [("lost", "lost")]
