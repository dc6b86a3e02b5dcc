"""Draining a spool: who is dead, what is taken from a journal, and when it is set aside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone import leases
from nightmill.backbone.database import Database
from nightmill.backbone.schema import AttemptRow, JobRow
from nightmill.errors import DatabaseAway, StoreError
from nightmill.execution import recover
from nightmill.execution.journal import JournalBroken, SpoolAway, append_entries, journals, read_journal
from nightmill.execution.owner import is_alive, this_process
from nightmill.model.fate import AttemptState, Fate
from nightmill.model.journal import Checked, Publishing
from nightmill.model.order import JobOrder
from tasks import spool
from tasks.site import Site, make_site
from tasks.spool import drain
from tests.support.backbone import NOW, issue, take_lease
from tests.support.mounts import make_read_only, small_disk
from tests.support.orders import Bench, output, shell


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a bench that has the site's folders."""
    return Bench(tmp_path / "bench")


@pytest.fixture
def site(tmp_path: Path, bench: Bench) -> Iterator[Site]:
    """Give a site that has the bench's stores, scratch and spool."""
    (tmp_path / "site").mkdir()
    with make_site(tmp_path / "site") as made:
        config = replace(made.config, stores=bench.stores, scratch=bench.scratch, spool=bench.spool)
        with Site(config, Database(made.config.database_url)) as site:
            yield site


def order_of(bench: Bench, unit: int = 1) -> JobOrder:
    made = output("catalog", f"cat{unit}.txt")
    return bench.order(shell("detect", f"echo {unit} > cat{unit}.txt", made), unit=f"exposure={unit}")


def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every process be dead to whoever recovers."""
    monkeypatch.setattr(recover, "lives", lambda *_: False)


def attempts(site: Site) -> list[tuple[str, str, str]]:
    with site.database.reading() as session:
        rows = select(JobRow.unit, JobRow.state, AttemptRow.state).join(AttemptRow, AttemptRow.job_id == JobRow.id)
        return list(session.execute(rows.order_by(AttemptRow.id)).tuples())


def cut_after(path: Path, kind: type, nth: int = 1) -> list[bytes]:
    """Cut a journal after its n-th entry of a kind, and return the lines that are gone."""
    entries = read_journal(path).entries
    places = [number for number, entry in enumerate(entries) if isinstance(entry, kind)]
    lines = path.read_bytes().splitlines(keepends=True)
    keep = places[nth - 1] + 2
    path.write_bytes(b"".join(lines[:keep]))
    return lines[keep:]


def test_the_journal_of_a_living_process_is_recorded_and_stays(site: Site, bench: Bench) -> None:
    site.database.write(lambda session: issue(session, order_of(bench)))
    bench.run_one(order_of(bench))
    drained = drain(site)
    assert (drained.journals, len(drained.recorded.published), drained.lost) == (1, 1, 0)
    assert len(list(journals(site.config.spool))) == 1
    assert attempts(site) == [("exposure=1", "done", "published")]


def test_the_journal_of_a_dead_process_is_set_aside_once_it_is_recorded(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    site.database.write(lambda session: issue(session, order_of(bench)))
    bench.run_one(order_of(bench))
    assert len(drain(site).recorded.published) == 1
    assert list(journals(site.config.spool)) == []
    assert len(list((site.config.spool / "recorded").iterdir())) == 1
    assert drain(site).journals == 0


def test_the_journal_of_an_attempt_that_nobody_issued_stays(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    bench.run_one(order_of(bench))
    assert drain(site).recorded.unknown == [order_of(bench).attempt]
    assert len(list(journals(site.config.spool))) == 1
    site.database.write(lambda session: issue(session, order_of(bench)))
    assert drain(site).recorded.published == [order_of(bench).attempt]


def test_a_damaged_journal_is_told_after_every_other_was_recorded(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    for order in (order_of(bench, 1), order_of(bench, 2)):
        with site.database.writing() as session:
            issue(session, order)
        bench.run_one(order)
    first, second = journals(site.config.spool)
    lines = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[2:]]))
    with pytest.raises(JournalBroken, match=rf"{first.name}:3: this is no journal entry.*set the file aside"):
        drain(site)
    assert list(journals(site.config.spool)) == [first]
    assert attempts(site) == [("exposure=1", "active", "issued"), ("exposure=2", "done", "published")]
    assert second.name in {path.name for path in (site.config.spool / "recorded").iterdir()}


def test_a_store_that_is_away_is_told_after_every_other_journal_was_recorded(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    orders = [order_of(bench, 1), order_of(bench, 2)]
    for order in orders:
        with site.database.writing() as session:
            issue(session, order)
        bench.run_one(order)
    first, _second = journals(site.config.spool)
    cut_after(first, Publishing)
    store = bench.root / "stores" / "backbone"
    store.rename(store.with_name("away"))
    with pytest.raises(StoreError, match=f"the folder {store} of store 'backbone' does not exist; is its disk mounted"):
        drain(site)
    assert list(journals(site.config.spool)) == [first]
    assert attempts(site) == [("exposure=1", "active", "issued"), ("exposure=2", "done", "published")]
    store.with_name("away").rename(store)
    assert drain(site).adopted == [orders[0].attempt]
    assert [state for _unit, state, _attempt in attempts(site)] == ["done", "done"]


def test_a_spool_that_cannot_be_written_is_told(site: Site) -> None:
    with small_disk(site.config.spool, size="64k") as disk:
        make_read_only(disk)
        with pytest.raises(SpoolAway, match=r"cannot be used: .*\.drain\.lock: Read-only file system; make room in it"):
            drain(site)


def test_a_process_that_dies_while_its_journal_is_read_is_believed_to_its_last_entry(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.database.write(lambda session: issue(session, order_of(bench)))
    report = bench.run_one(order_of(bench))
    (path,) = journals(site.config.spool)
    rest = b"".join(cut_after(path, Checked))

    def dies_now(*_: object) -> bool:
        if rest not in path.read_bytes():
            path.write_bytes(path.read_bytes() + rest)
        return False

    monkeypatch.setattr(recover, "lives", dies_now)
    drained = drain(site)
    assert (drained.recorded.published, drained.lost) == ([report.attempt], 0)
    assert attempts(site) == [("exposure=1", "done", "published")]
    assert sorted(bench.stored()) == sorted(file.name for file in report.published)


def test_a_journal_that_its_writer_sets_aside_meanwhile_is_passed_over(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.database.write(lambda session: issue(session, order_of(bench)))
    bench.run_one(order_of(bench))
    listed = [site.config.spool / "20260101T000000-gone-1.jsonl", *journals(site.config.spool)]
    monkeypatch.setattr(spool, "journals", lambda _folder: iter(listed))
    assert (drain(site).journals, attempts(site)) == (1, [("exposure=1", "done", "published")])


@pytest.mark.req("B50")
def test_an_attempt_whose_process_died_is_on_record_as_lost(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    site.database.write(lambda session: issue(session, order_of(bench)))
    bench.run_one(order_of(bench))
    (path,) = journals(site.config.spool)
    cut_after(path, Checked)
    for name in bench.stored():
        (bench.root / "stores/backbone" / ("logs" if name.endswith(".log") else "products") / name).unlink()
    drained = drain(site)
    assert (drained.lost, drained.adopted) == (1, [])
    assert attempts(site) == [("exposure=1", "failed", "lost")]
    with site.database.reading() as session:
        evidence = session.scalars(select(AttemptRow.evidence)).one()
    host = this_process().host
    assert evidence == f"its process on {host} died while it was checking, in step 'detect'"


def test_a_locked_database_leaves_everything_in_the_spool(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    site.database.write(lambda session: issue(session, order_of(bench)))
    bench.run_one(order_of(bench))
    impatient = Site(site.config, Database(site.config.database_url, busy_seconds=0.05))
    locker = sqlite3.connect(site.config.database_url.removeprefix("sqlite:///"), isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway, match="database is locked; try again when it is back"):
        drain(impatient)
    assert len(list(journals(site.config.spool))) == 1
    locker.execute("ROLLBACK")
    locker.close()
    impatient.close()
    assert len(drain(site).recorded.published) == 1


def test_what_is_appended_to_a_dead_journal_is_told_once(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.database.write(lambda session: issue(session, order_of(bench)))
    bench.run_one(order_of(bench))
    (path,) = journals(site.config.spool)
    before = path.read_bytes()
    drain(site)
    assert path.read_bytes() == before, "its writer lives"
    append_entries(path, [])
    dead(monkeypatch)
    drain(site)
    assert (path.parent / "recorded" / path.name).read_bytes() == before


# -------------------------------------------------------------------------------------------------- leases


def test_attempts_of_a_dead_process_that_never_began_are_given_up(site: Site, bench: Bench) -> None:
    gone = this_process().model_copy(update={"pid": 2**22 + 1})
    assert is_alive(gone) is False
    lease = site.database.write(lambda session: leases.take(session, gone, flow_run_id=None, now=NOW))
    own = site.database.write(take_lease)
    site.database.write(lambda session: issue(session, order_of(bench, 1), lease_id=lease))
    site.database.write(lambda session: issue(session, order_of(bench, 2), lease_id=own))
    assert drain(site).lost == 1
    assert attempts(site) == [("exposure=1", "failed", "lost"), ("exposure=2", "active", "issued")]
    with site.database.reading() as session:
        assert list(leases.holders(session)) == [own]


def test_no_attempt_is_open_under_a_lease_that_was_released(site: Site, bench: Bench) -> None:
    lease = site.database.write(take_lease)
    site.database.write(lambda session: issue(session, order_of(bench, 1), order_of(bench, 2), lease_id=lease))
    bench.run_one(order_of(bench, 1))
    drain(site)
    site.database.write(lambda session: leases.release(session, lease, now=NOW))
    assert attempts(site) == [("exposure=1", "done", "published"), ("exposure=2", "failed", "lost")]
    with site.database.reading() as session:
        assert leases.holders(session) == {}
        row = session.scalars(select(AttemptRow).where(AttemptRow.state == AttemptState.LOST)).one()
        assert (row.fate, row.evidence) == (Fate.LOST, "its slice ended before the attempt told its end")


def test_what_was_not_begun_when_everything_was_told_to_end_is_cancelled(site: Site, bench: Bench) -> None:
    lease = site.database.write(take_lease)
    site.database.write(lambda session: issue(session, order_of(bench, 1), lease_id=lease))
    site.database.write(lambda session: leases.release(session, lease, now=NOW, cancelled="its runner was stopped"))
    assert attempts(site) == [("exposure=1", "ready", "cancelled")]
    with site.database.reading() as session:
        row = session.scalars(select(AttemptRow)).one()
        assert (row.fate, row.evidence) == (Fate.CANCELLED, "it was not begun: its runner was stopped")
