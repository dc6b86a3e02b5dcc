"""An attempt has one writer: whoever else tries is told so, publishes nothing, and ends nothing."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import AttemptRow, ExecutionRow, FileRow
from nightmill.backbone.work import leases
from nightmill.cli import main
from nightmill.execution.claims import CLAIMS
from nightmill.execution.journal import JournalWriter, journals, read_journal
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, StepBegan
from nightmill.model.order import JobOrder
from nightmill.model.report import fold
from nightmill.operations.drain import drain
from nightmill.operations.site import Site
from tests.spine.test_drain import cut_after, dead
from tests.spine.test_forged import bench, lease_of_the_dead, order_of, record, site, states, stored
from tests.support.backbone import NOW, issue, take_lease
from tests.support.orders import Bench, output, shell

__all__ = ["bench", "record", "site"]


def write_order(tmp_path: Path, order: JobOrder) -> Path:
    path = tmp_path / "order.json"
    path.write_text(order.model_dump_json())
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["run", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_what_a_slice_carries_out_is_not_run_by_hand(
    site: Site, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = order_of(bench)
    lease = site.database.write(take_lease)
    site.database.write(lambda session: issue(session, order, lease_id=lease))
    with JournalWriter(bench.spool) as own:
        own.claim([order.attempt])
        code, _out, err = run(capsys, write_order(tmp_path, order), "--site", bench.root)
        assert (code, "an attempt has one writer" in err) == (2, True)
        drain(site)
    assert (states(site), stored(bench), bench.leftovers()) == (["issued"], {}, [])


def test_without_the_sites_spool_nothing_is_published(
    site: Site, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order, mine = order_of(bench), tmp_path / "mine"
    site.database.write(lambda session: issue(session, order, lease_id=lease_of_the_dead(site)))
    code, out, err = run(capsys, write_order(tmp_path, order), "--spool", mine)
    assert (code, out.splitlines()[0]) == (0, f"{order.attempt}: done, nothing published")
    [kept] = (mine / "kept").iterdir()
    assert err == f"nothing is published without the site's spool; what was made is kept in {kept}\n"
    assert (kept / "backbone/products/cat1a01.txt").read_text() == "1\n"
    assert stored(bench) == {}
    [path] = journals(mine)
    path.write_bytes(path.read_bytes().replace(b'"pid":', b'"pid":9999999', 1))
    drained = drain(site, spool=mine)
    [set_apart] = drained.quarantined
    assert "store 'backbone' does not hold 'products/cat1a01.txt'" in str(set_apart)
    assert states(site) == ["issued"]
    assert run(capsys, write_order(tmp_path, order), "--spool", mine)[0] == 0, "and as often as one likes"


@pytest.mark.req("X35")
def test_of_two_runs_at_once_one_publishes_what_is_recorded(site: Site, bench: Bench, tmp_path: Path) -> None:
    order = bench.order(shell("s", "echo $$ > a.txt; sleep 1", output("catalog", "a.txt")))
    site.database.write(lambda session: issue(session, order))
    argv = [sys.executable, "-m", "nightmill", "run", str(write_order(tmp_path, order)), "--site", str(bench.root)]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        process.communicate()
    assert sorted(process.returncode for process in running) == [0, 2]
    drain(site)
    with site.database.reading() as session:
        digest = session.scalars(select(FileRow.sha256).where(FileRow.name == "a.txt")).one()
    assert sha256((bench.root / "stores/backbone/products/a.txt").read_bytes()).hexdigest() == digest
    assert states(site) == ["published"]
    assert list((bench.spool / CLAIMS).iterdir()) == [], "they ended with their journals"


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.CANCELLED])
def test_the_journal_and_the_rows_of_an_attempt_that_was_given_up_agree(
    site: Site, bench: Bench, monkeypatch: pytest.MonkeyPatch, fate: Fate
) -> None:
    order, lease = order_of(bench), site.database.write(take_lease)
    site.database.write(lambda session: issue(session, order, lease_id=lease))
    bench.run_one(order)
    [path] = journals(bench.spool)
    cut_after(path, StepBegan)
    drain(site)
    assert states(site) == ["running"]
    if fate is Fate.LOST:
        site.database.write(lambda session: leases.give_up(session, [lease], now=NOW))
    else:
        site.database.write(lambda session: leases.release(session, lease, now=NOW, why="told to end"))
    with site.database.reading() as session:
        assert session.scalars(select(ExecutionRow.state)).one() == "lost"
    dead(monkeypatch)
    drain(site)
    [report] = fold(read_journal(bench.spool / "recorded" / path.name).entries).values()
    with site.database.reading() as session:
        row = session.scalars(select(AttemptRow)).one()
    assert (report.fate, report.evidence) == (row.fate, row.evidence)
    assert row.fate == fate
    assert not any(isinstance(entry, Done) for path in journals(bench.spool) for entry in read_journal(path).entries)


def test_no_scratch_is_left_of_an_attempt_that_cannot_be_told(bench: Bench) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        bench.run_one(order_of(bench), listener=full)
    assert bench.leftovers() == []
