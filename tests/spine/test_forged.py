"""Journals that are forged, copied or damaged touch no byte but those of the open attempt that they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from sqlalchemy import select

from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.schema import AttemptRow, FileRow
from nightmill.backbone.work import leases
from nightmill.cli import main
from nightmill.execution.claims import CLAIMS
from nightmill.execution.journal import journals, read_journal
from nightmill.execution.owner import this_process
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, Entry, JournalHeader, MadeFile, Publishing, SoftwareSeen, Started, StepBegan
from nightmill.model.order import JobOrder
from nightmill.model.origin import Origin
from nightmill.model.states import AttemptState
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from tests.support.backbone import NOW, dump, issue, take_lease
from tests.support.orders import Bench, output, shell

GONE = this_process().model_copy(update={"pid": 2**22 + 1})
"""A process of this host that has ended."""

Record = Callable[[], Any]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a bench in the folder of the site."""
    return Bench(tmp_path / "site")


@pytest.fixture
def site(bench: Bench, database_url: str) -> Iterator[Site]:
    """Give a site whose stores, scratch and spool are the bench's."""
    with make_site(bench.root, database=database_url) as site:
        yield site


@pytest.fixture
def record(site: Site, capsys: pytest.CaptureFixture[str]) -> Record:
    """Give what calls 'nightmill record', and returns what it printed."""

    def call() -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["record", "--site", str(site.config.directory), "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code in (0, 1), err
        return json.loads(out)

    return call


def order_of(bench: Bench, unit: int = 1, number: int = 1) -> JobOrder:
    tag = f"{unit}a{number:02d}"
    kept = (output("catalog", f"cat{tag}.txt"), output("preview", f"pre{tag}.txt"))
    script = f"echo {unit} > cat{tag}.txt; echo p > pre{tag}.txt"
    return bench.order(shell("detect", script, *kept), unit=f"exposure={unit}", number=number)


def stored(bench: Bench) -> dict[str, str]:
    """Return every file of the store, temporary ones included, with its digest."""
    store = bench.root / "stores" / "backbone"
    paths = [path for path in store.rglob("*") if path.is_file()]
    return {str(path.relative_to(store)): sha256(path.read_bytes()).hexdigest() for path in paths}


def write(bench: Bench, entries: Sequence[Entry], name: str = "20260101T000000000000-forged-1") -> Path:
    """Write a journal of a process that is dead."""
    bench.spool.mkdir(exist_ok=True)
    rmtree(bench.spool / CLAIMS, ignore_errors=True)  # or it would be told from the writer's own
    header = JournalHeader(owner=GONE, begun_at=NOW)
    path = bench.spool / f"{name}.jsonl"
    path.write_text("".join(line.model_dump_json() + "\n" for line in (header, *entries)))
    return path


def raw_file(site: Site, bench: Bench) -> MadeFile:
    """Register a raw file, and return it as a forger would have an attempt make it."""
    content = b"light of last night"
    bench.put("night.fits", content)
    new = NewFile(
        "night.fits", "image", Origin.RAW, len(content), sha256(content).hexdigest(),
        store="backbone", path="raw/night.fits",
    )  # fmt: skip
    site.database.write(lambda session: register(session, [new], who="ada", now=NOW))
    return MadeFile(
        name="night.fits", role="catalog", type="text", step="detect", size_bytes=len(content),
        sha256=new.sha256, store="backbone", path="raw/night.fits",
    )  # fmt: skip


def missing(order: JobOrder) -> MadeFile:
    """Give an output of an order that stands nowhere."""
    [catalog, _preview] = order.steps[0].outputs
    name = catalog.names[0]
    return MadeFile(
        name=name, role="catalog", type="text", step="detect", size_bytes=1, sha256="0" * 64,
        store="backbone", path=f"products/{name}",
    )  # fmt: skip


def intent(order: JobOrder, *files: MadeFile, at: datetime = NOW) -> list[Entry]:
    stack = "5" * 64
    return [
        Started(attempt=order.attempt, at=at, order=order, host=GONE.host),
        SoftwareSeen(sha256=stack, packages={}),
        StepBegan(attempt=order.attempt, at=at, step="detect", argv=("sh",), pid=1, software=stack),
        Publishing(attempt=order.attempt, at=at, files=files),
    ]


def quarantined(bench: Bench) -> list[str]:
    folder = bench.spool / "quarantine"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def states(site: Site) -> list[str]:
    with site.database.reading() as session:
        return list(session.scalars(select(AttemptRow.state).order_by(AttemptRow.id)))


def lease_of_the_dead(site: Site) -> int:
    return site.database.write(lambda session: leases.take(session, GONE, flow_run_id=None, now=NOW))


# ------------------------------------------------------------------------------------------------ what is not issued


@pytest.mark.req("X35")
def test_an_attempt_that_was_never_issued_removes_nothing(site: Site, bench: Bench, record: Record) -> None:
    raw, order = raw_file(site, bench), order_of(bench)
    write(bench, intent(order, raw, missing(order)))
    before = stored(bench)
    told = record()
    assert stored(bench) == before
    [quarantine] = told["quarantined"]
    assert "night1/science/exposure=1/a01: it was never issued by this database" in quarantine["why"]
    assert quarantined(bench) == ["20260101T000000000000-forged-1.jsonl", "20260101T000000000000-forged-1.jsonl.why"]
    assert record()["quarantined"] == []


def test_an_order_that_is_not_the_issued_one_removes_nothing(site: Site, bench: Bench, record: Record) -> None:
    raw, order = raw_file(site, bench), order_of(bench)
    site.database.write(lambda session: issue(session, order))
    names_it = bench.order(
        shell("detect", ":", output("catalog", "night.fits", directory="raw"), *order.steps[0].outputs),
        unit="exposure=1",
    )
    write(bench, intent(names_it, raw, missing(order)))
    before = stored(bench)
    assert "was issued with another order" in record()["quarantined"][0]["why"]
    assert stored(bench) == before


def test_an_intent_beside_the_order_removes_nothing(site: Site, bench: Bench, record: Record) -> None:
    raw, order = raw_file(site, bench), order_of(bench)
    site.database.write(lambda session: issue(session, order))
    write(bench, intent(order, raw, missing(order)))
    before = stored(bench)
    assert "night.fits is not a file that its order names" in record()["quarantined"][0]["why"]
    assert stored(bench) == before


# --------------------------------------------------------------------------------------------------- what has ended


@pytest.mark.req("X35")
def test_an_old_copy_removes_nothing_of_a_recorded_attempt(site: Site, bench: Bench, record: Record) -> None:
    order = order_of(bench)
    site.database.write(lambda session: issue(session, order))
    bench.run_one(order)
    record()
    [path] = journals(bench.spool)
    entries = read_journal(path).entries
    path.unlink()
    (bench.root / "stores/backbone/products/pre1a01.txt").unlink()
    write(bench, [entry for entry in entries if not isinstance(entry, Done)])
    before, rows = stored(bench), dump(site.database)
    record()
    assert stored(bench) == before
    assert dump(site.database) == rows
    assert states(site) == ["published"]


@pytest.mark.parametrize("whole", [True, False])
def test_of_an_attempt_that_was_given_up_only_what_is_complete_counts(
    site: Site, bench: Bench, record: Record, whole: bool
) -> None:
    order, lease = order_of(bench), lease_of_the_dead(site)
    site.database.write(lambda session: issue(session, order, lease_id=lease))
    bench.run_one(order)
    [path] = journals(bench.spool)
    entries = [entry for entry in read_journal(path).entries if not isinstance(entry, Done)]
    path.unlink()
    site.database.write(lambda session: leases.give_up(session, [lease], now=NOW))
    if not whole:
        (bench.root / "stores/backbone/products/pre1a01.txt").unlink()
    write(bench, entries)
    before = stored(bench)
    told = record()
    assert stored(bench) == before
    assert states(site) == ["published" if whole else "lost"]
    assert (told["adopted"], told["quarantined"]) == (int(whole), [])


# ------------------------------------------------------------------------------------------------ what others have


def test_what_another_has_at_the_attempts_own_place_is_not_removed(site: Site, bench: Bench, record: Record) -> None:
    order = order_of(bench)
    site.database.write(lambda session: issue(session, order, lease_id=lease_of_the_dead(site)))
    content = b"brought by hand"
    own = missing(order).model_copy(update={"size_bytes": len(content), "sha256": sha256(content).hexdigest()})
    (bench.root / "stores/backbone/products").mkdir()
    (bench.root / "stores/backbone" / own.path).write_bytes(content)
    brought = NewFile(
        "brought.txt", "text", Origin.MANUAL, own.size_bytes, own.sha256, store="backbone", path=own.path,
        provenance="from Eve",
    )  # fmt: skip
    site.database.write(lambda session: register(session, [brought], who="eve", now=NOW))
    preview = own.model_copy(update={"name": "pre1a01.txt", "role": "preview", "path": "products/pre1a01.txt"})
    write(bench, intent(order, own, preview))
    before = stored(bench)
    assert record()["lost"] == 1
    assert stored(bench) == before
    assert states(site) == ["lost"]


def test_the_dead_end_nothing_that_a_living_process_carries_out(site: Site, bench: Bench, record: Record) -> None:
    order = order_of(bench)
    lease = site.database.write(take_lease)
    site.database.write(lambda session: issue(session, order, lease_id=lease))
    write(bench, intent(order, missing(order)))
    assert f"is carried out by process {this_process().pid} on" in record()["quarantined"][0]["why"]
    assert states(site) == ["issued"]


# ------------------------------------------------------------------------------------------- what a forged end claims


@pytest.mark.req("X35")
@pytest.mark.parametrize("there", [False, True])
def test_a_forged_end_registers_nothing_that_is_not_there(
    site: Site, bench: Bench, record: Record, there: bool
) -> None:
    order = order_of(bench)
    site.database.write(lambda session: issue(session, order, lease_id=lease_of_the_dead(site)))
    report = bench.run_one(order)
    [path] = journals(bench.spool)
    entries = list(read_journal(path).entries)
    path.unlink()
    catalog = bench.root / "stores/backbone/products/cat1a01.txt"
    catalog.unlink()
    if there:
        catalog.write_text("2\n")
    assert len(report.published) == 3
    write(bench, entries)
    before = stored(bench)
    expected = "holds other bytes" if there else "does not hold"
    assert f"store 'backbone' {expected}" in record()["quarantined"][0]["why"]
    assert stored(bench) == before
    with site.database.reading() as session:
        assert session.scalars(select(FileRow.name)).all() == []
    assert states(site) == ["lost"], "its process is dead, and what it told is not so"


def test_an_end_that_leaves_outputs_out_is_no_success(site: Site, bench: Bench, record: Record) -> None:
    order = order_of(bench)
    site.database.write(lambda session: issue(session, order, lease_id=lease_of_the_dead(site)))
    end = Done(attempt=order.attempt, at=NOW, state=AttemptState.PUBLISHED, fate=Fate.PUBLISHED)
    write(bench, [*intent(order)[:1], end])
    assert "is told as published without" in record()["quarantined"][0]["why"]
    assert states(site) == ["lost"]
