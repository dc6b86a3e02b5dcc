"""Draining a spool: who is dead, what is taken from a journal, and when it is set aside."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.database import Database
from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow, JobRow
from nightmill.backbone.work import leases
from nightmill.errors import DatabaseAway
from nightmill.execution import recover
from nightmill.execution.claims import CLAIMS
from nightmill.execution.journal import SpoolAway, append_entries, journals, read_journal
from nightmill.execution.owner import host_name, is_alive, this_process
from nightmill.execution.quarantine import quarantined
from nightmill.model.fate import Fate
from nightmill.model.journal import Checked, Publishing, Staged
from nightmill.model.order import JobOrder
from nightmill.model.origin import Origin
from nightmill.model.states import AttemptState
from nightmill.operations import belonging
from nightmill.operations import drain as spool
from nightmill.operations.alone import alone
from nightmill.operations.drain import drain
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
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
    """Let every process be dead to whoever drains."""
    for module in (recover, spool, belonging):
        monkeypatch.setattr(module, "lives", lambda *_: False)


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


def test_the_journal_of_an_attempt_that_nobody_issued_is_set_apart_and_may_come_back(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(monkeypatch)
    bench.run_one(order_of(bench))
    drained = drain(site)
    assert drained.recorded.unknown == [order_of(bench).attempt]
    [set_apart] = drained.quarantined
    assert [*quarantined(site.config.spool)] == [set_apart]
    assert list(journals(site.config.spool)) == []
    site.database.write(lambda session: issue(session, order_of(bench)))
    set_apart.path.rename(site.config.spool / set_apart.path.name)
    assert drain(site).recorded.published == [order_of(bench).attempt]


def issued_in_turn(site: Site, bench: Bench, lease: int, *units: int) -> list[JobOrder]:
    """Issue attempts and carry out each, with a journal of its own."""
    orders = [order_of(bench, unit) for unit in units]
    for order in orders:
        with site.database.writing() as session:
            issue(session, order, lease_id=lease)
        bench.run_one(order)
    return orders


def damage(path: Path, line: int, text: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[: line - 1], text + b"\n", *lines[line:]]))


def join(paths: list[Path]) -> Path:
    """Let one process have written several journals."""
    first, *others = paths
    rmtree(first.parent / CLAIMS)
    for other in others:
        first.write_bytes(first.read_bytes() + other.read_bytes().partition(b"\n")[2])
        other.unlink()
    return first


def test_a_damaged_journal_holds_up_only_the_attempts_that_it_may_tell_of(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = site.database.write(take_lease)
    issued_in_turn(site, bench, lease, 1, 2, 3)
    [first, second, third] = journals(site.config.spool)
    lines = first.read_bytes().count(b"\n")
    whole = join([first, second])
    damage(whole, lines, b'{"entry": "done", "attempt": ' + order_of(bench, 1).attempt.model_dump_json().encode())
    site.database.write(lambda session: issue(session, order_of(bench, 4), lease_id=lease))
    dead(monkeypatch)
    drained = drain(site)
    [set_apart] = drained.quarantined
    assert set_apart.path == site.config.spool / "quarantine" / whole.name
    assert str(set_apart).startswith(
        f"journal {set_apart.path}: line {lines} of night1/science/exposure=1/a01: it is not a journal entry:"
    )
    assert str(set_apart).endswith(
        f"move the file back into {site.config.spool}; or remove the file: attempts that it left open are lost then,"
        " and can be rerun"
    )
    assert attempts(site) == [
        ("exposure=1", "active", "issued"),
        ("exposure=2", "done", "published"),
        ("exposure=3", "done", "published"),
        ("exposure=4", "ready", "lost"),
    ]
    assert third.name in {path.name for path in (site.config.spool / "recorded").iterdir()}
    assert (drain(site).quarantined, attempts(site)[0]) == ([], ("exposure=1", "active", "issued"))

    text = set_apart.path.read_bytes().splitlines(keepends=True)
    (site.config.spool / whole.name).write_bytes(b"".join([*text[: lines - 1], *text[lines:]]))
    set_apart.path.unlink()
    assert drain(site).adopted == [order_of(bench, 1).attempt], "the line is deleted: nothing is lost"
    assert attempts(site)[0] == ("exposure=1", "done", "published")


def test_a_line_of_which_nothing_can_be_read_may_tell_of_any_attempt_of_its_process(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = site.database.write(take_lease)
    issued_in_turn(site, bench, lease, 1, 2)
    whole = join([*journals(site.config.spool)])
    cut_after(whole, Publishing, 2)
    damage(whole, 3, b"garbage")
    site.database.write(lambda session: issue(session, order_of(bench, 3), lease_id=lease))
    dead(monkeypatch)
    [set_apart] = drain(site).quarantined
    states = [attempt for _unit, _job, attempt in attempts(site)]
    assert states == ["published", "issued", "issued"]
    set_apart.path.unlink()
    drain(site)
    assert [attempt for _unit, _job, attempt in attempts(site)] == ["published", "lost", "lost"]


def test_a_store_that_is_away_holds_up_only_the_attempts_that_need_it(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = site.database.write(take_lease)
    orders = issued_in_turn(site, bench, lease, 1, 2, 3)
    [first, second, third] = journals(site.config.spool)
    cut_after(first, Publishing)
    cut_after(third, Staged)
    site.database.write(lambda session: issue(session, order_of(bench, 4), lease_id=lease))
    dead(monkeypatch)
    store = bench.root / "stores" / "backbone"
    store.rename(store.with_name("away"))
    drained = drain(site)
    assert set(drained.waiting) == {each.attempt for each in orders}
    why = f"the folder {store} of store 'backbone' does not exist; is its disk mounted"
    assert all(why in str(error) for error in drained.waiting.values())
    assert list(journals(site.config.spool)) == [first, second, third]
    assert [attempt for _unit, _job, attempt in attempts(site)] == ["issued", "issued", "issued", "lost"]
    store.with_name("away").rename(store)
    drained = drain(site)
    assert (drained.adopted, drained.waiting) == ([orders[0].attempt], {})
    assert [attempt for _unit, _job, attempt in attempts(site)] == ["published", "published", "lost", "lost"]


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


def test_who_waits_for_another_drain_says_for_whom_and_may_go_on_without(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightmill.operations.alone.SAY_SECONDS", 0.0)
    site.database.write(lambda session: issue(session, order_of(bench)))
    bench.run_one(order_of(bench))
    said: list[str] = []
    with alone(site.config.spool):
        assert drain(site, patience_seconds=0.2, say=said.append).journals == 0
    here = rf"the spool {site.config.spool} is drained by process {os.getpid()} on {host_name()} since \S+ \S+; "
    assert re.fullmatch(here + "waiting for it", said[0])
    assert re.fullmatch(here + "going on without what its journals tell", said[1])
    assert drain(site, patience_seconds=0.2, say=said.append).journals == 1
    assert len(said) == 2


def test_what_collides_when_it_is_recorded_leaves_no_bytes_that_nobody_has(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.database.write(lambda session: issue(session, order_of(bench)))
    bench.run_one(order_of(bench))
    stranger = NewFile("cat1.txt", "text", Origin.MANUAL, 3, "1" * 64, provenance="from Eve")
    site.database.write(lambda session: register(session, [stranger], who="eve", now=NOW))
    dead(monkeypatch)
    assert drain(site).recorded.failed == [order_of(bench).attempt]
    assert bench.stored() == [order_of(bench).log_name]
    with site.database.reading() as session:
        assert session.scalars(select(AttemptRow.fate)).one() == Fate.NAME_COLLISION


def test_files_are_registered_in_the_name_of_who_submitted(site: Site, bench: Bench) -> None:
    def submit(session: Session) -> None:
        issue(session, order_of(bench))
        session.scalars(select(CampaignRow)).one().submitted_by = "grace"

    site.database.write(submit)
    bench.run_one(order_of(bench))
    drain(site)
    with site.database.reading() as session:
        assert set(session.scalars(select(FileRow.registered_by))) == {"grace"}


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
    assert attempts(site) == [("exposure=1", "ready", "lost"), ("exposure=2", "active", "issued")]
    with site.database.reading() as session:
        assert list(leases.holders(session)) == [own]


@pytest.mark.parametrize("why", ["its runner was stopped", ""])
def test_what_was_not_begun_under_a_lease_that_is_released_is_ready_and_what_was_is_left_to_its_journal(
    site: Site, bench: Bench, why: str
) -> None:
    orders = [order_of(bench, number) for number in (1, 2, 3)]
    lease = site.database.write(take_lease)
    site.database.write(lambda session: issue(session, *orders, lease_id=lease))
    bench.run_one(orders[0])
    drain(site)
    begun = [orders[2].attempt]
    site.database.write(lambda session: leases.release(session, lease, now=NOW, begun=begun, why=why))
    assert attempts(site) == [
        ("exposure=1", "done", "published"),
        ("exposure=2", "ready", "cancelled"),
        ("exposure=3", "active", "issued"),
    ]
    with site.database.reading() as session:
        row = session.scalars(select(AttemptRow).where(AttemptRow.state == AttemptState.CANCELLED)).one()
        assert (row.fate, row.evidence) == (Fate.CANCELLED, f"it was not begun: {why or 'its slice had ended'}")
