"""``doctor --deep``: nothing after a crash that was drained, and each contradiction that is planted, by name."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nightmill.backbone.database import Database
from nightmill.backbone.schema import AttemptRow, Base, ExecutionRow, JobRow
from nightmill.backbone.work import leases
from nightmill.clock import utc_now
from nightmill.execution.claims import Claim, Claims
from nightmill.execution.journal import RECORDED, append_entries, journals, set_aside
from nightmill.execution.owner import this_process
from nightmill.execution.scratch import token
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, JournalHeader, Owner
from nightmill.model.order import JobOrder
from nightmill.model.states import AttemptState
from nightmill.operations.audit import PARTS, Contradiction, Ground
from nightmill.operations.drain import drain
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from tests.spine.test_crashes import ENTRIES
from tests.spine.test_crashes import orders as crash_orders
from tests.support.backbone import dump, issue
from tests.support.forks import forked
from tests.support.orders import Bench, output, shell
from tests.support.victim import main

GONE = this_process().model_copy(update={"pid": 2**22 + 1})
"""A process of this host that is dead."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a bench that has the site's folders."""
    return Bench(tmp_path / "bench")


@pytest.fixture
def site(tmp_path: Path, bench: Bench, database_url: str) -> Iterator[Site]:
    """Give a site that has the bench's stores, scratch and spool."""
    (tmp_path / "site").mkdir()
    bench.scratch.mkdir()
    bench.spool.mkdir()
    with make_site(tmp_path / "site", database=database_url) as made:
        config = replace(made.config, stores=bench.stores, scratch=bench.scratch, spool=bench.spool)
        with Site(config, Database(made.config.database_url)) as site:
            yield site


def audit(site: Site, *, checksums: bool = False) -> list[Contradiction]:
    return [found for part in PARTS.values() for found in part(Ground(site, checksums))]


def take_lease(site: Site, owner: Owner) -> int:
    return site.database.write(lambda session: leases.take(session, owner, flow_run_id=None, now=utc_now()))


def order_of(bench: Bench, unit: int) -> JobOrder:
    step = shell("detect", f"echo {unit} > cat{unit}.txt", output("catalog", f"cat{unit}.txt"))
    return bench.order(step, unit=f"exposure={unit}")


def rewrite_owner(path: Path, owner: Owner) -> None:
    first, _, rest = path.read_text().partition("\n")
    header = JournalHeader.model_validate_json(first)
    path.write_text(header.model_copy(update={"owner": owner}).model_dump_json() + "\n" + rest)


def one_job_done(site: Site, bench: Bench) -> JobOrder:
    """Carry out one job in a process that is dead by now, and record it."""
    order = order_of(bench, 1)
    lease = take_lease(site, GONE)
    site.database.write(lambda session: issue(session, order, lease_id=lease))
    bench.run_one(order)
    (path,) = journals(bench.spool)
    rewrite_owner(path, GONE)
    drain(site)
    assert audit(site, checksums=True) == []
    return order


@pytest.mark.parametrize(
    ("what", "count"),
    [("header", 1), ("upload", 1), ("link", 1), ("reveal", 2), ("settle", 1)]
    + [("entry", count) for count in (1, 2, 3, 4, 5, 6, 18, 20, ENTRIES)],
)
def test_nothing_is_found_after_a_crash_that_was_drained(site: Site, bench: Bench, what: str, count: int) -> None:
    orders = crash_orders(bench)
    (bench.root / "orders.jsonl").write_text("".join(order.model_dump_json() + "\n" for order in orders))
    lease = take_lease(site, GONE)
    site.database.write(lambda session: issue(session, *orders, lease_id=lease))
    assert forked(main, "run", bench.root, what, count) == -signal.SIGKILL
    assert {found.kind for found in audit(site)} >= {"journal_waits", "lease_orphan", "attempt_orphan"}
    drain(site)
    before = dump(site.database)
    assert list(map(str, audit(site, checksums=True))) == []
    assert dump(site.database) == before


# --------------------------------------------------------------------------------------- each one planted


def change(site: Site, table: type[Base], **values: object) -> None:
    site.database.write(lambda session: session.execute(update(table).values(**values)))


def execution_runs(site: Site, bench: Bench, order: JobOrder) -> str:
    change(site, ExecutionRow, state="running")
    return r"^night1/science/exposure=1/a01: step 'detect' is on record as running, and its attempt has ended \(publ"


def job_active(site: Site, bench: Bench, order: JobOrder) -> str:
    change(site, AttemptRow, result=False, state="lost", fate="lost")
    change(site, JobRow, state="active")
    return r"^night1/science/exposure=1: the job is on record as active, and none of its attempts is open \(since 20"


def job_idle(site: Site, bench: Bench, order: JobOrder) -> str:
    lease = take_lease(site, this_process())
    site.database.write(lambda session: issue(session, order_of(bench, 2), lease_id=lease))
    change(site, JobRow, state="failed")
    return r"^night1/science/exposure=2/a01: the attempt is open \(issued\), and its job is on record as failed"


def job_result(site: Site, bench: Bench, order: JobOrder) -> str:
    change(site, AttemptRow, result=False)
    return r"^night1/science/exposure=1: the job is on record as done, and none of its attempts is its result"


def job_number(site: Site, bench: Bench, order: JobOrder) -> str:
    change(site, JobRow, attempts=0)
    return r"^night1/science/exposure=1/a01: its job says that 0 attempts were issued: the number would be given again"


def result_empty(site: Site, bench: Bench, order: JobOrder) -> str:
    site.database.write(lambda session: session.add(_another_result(session)))
    return r"^night1/science/exposure=1/a02: the attempt published, and no file that it made is on record"


def _another_result(session: Session) -> AttemptRow:
    before = session.scalars(select(AttemptRow)).one()
    before.result = False
    session.flush()
    session.get_one(JobRow, before.job_id).attempts = 2
    same = {"job_id": before.job_id, "plan_id": before.plan_id, "order_sha256": before.order_sha256}
    return AttemptRow(**same, number=2, state="published", fate="published", result=True, issued_at=utc_now())


def attempt_orphan(site: Site, bench: Bench, order: JobOrder) -> str:
    lease = take_lease(site, GONE)
    site.database.write(lambda session: issue(session, order_of(bench, 2), lease_id=lease))
    return rf"^night1/science/exposure=2/a01: the attempt is open \(issued\), and process {GONE.pid} on .* is dead \("


def lease_orphan(site: Site, bench: Bench, order: JobOrder) -> str:
    lease = take_lease(site, GONE)
    return rf"^lease {lease}: it is held by process {GONE.pid} on .*, which is dead \(since 20.*'nightmill record' ends"


def process_orphan(site: Site, bench: Bench, order: JobOrder, request: pytest.FixtureRequest) -> str:
    folder = bench.scratch / token(order.attempt)
    folder.mkdir()
    process = subprocess.Popen(["sleep", "60"], cwd=folder, start_new_session=True)
    request.addfinalizer(process.wait)
    request.addfinalizer(process.kill)
    return rf"^{folder}: processes {process.pid} run there, and its attempt is not open; see what they are"


def scratch_orphan(site: Site, bench: Bench, order: JobOrder) -> str:
    folder = bench.scratch / token(order.attempt)
    folder.mkdir()
    return rf"^{folder}: a scratch is left of an attempt that is not open"


def journal_waits(site: Site, bench: Bench, order: JobOrder) -> str:
    (recorded,) = (bench.spool / RECORDED).iterdir()
    recorded.rename(bench.spool / recorded.name)
    return rf"^{bench.spool / recorded.name}: its writer is dead, and it is not recorded to its end \(0 attempts"


def journal_broken(site: Site, bench: Bench, order: JobOrder) -> str:
    (recorded,) = (bench.spool / RECORDED).iterdir()
    recorded.write_text("garbage\ngarbage\n")
    return rf"^{recorded}: it cannot be read: .*:1: .* not a journal entry"


def journal_quarantined(site: Site, bench: Bench, order: JobOrder) -> str:
    bench.run_one(order_of(bench, 2))
    (path,) = journals(bench.spool)
    rewrite_owner(path, GONE)
    drain(site)
    return rf"^{bench.spool / 'quarantine' / path.name}: it was set apart: night1/science/exposure=2/a01: it was never"


def journal_disagrees(site: Site, bench: Bench, order: JobOrder) -> str:
    order = order_of(bench, 2)
    lease = take_lease(site, this_process())
    site.database.write(lambda session: issue(session, order, lease_id=lease))
    change(site, AttemptRow, state="cancelled", fate="cancelled", result=False)
    change(site, JobRow, state="ready")
    bench.run_one(order)
    (path,) = journals(bench.spool)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    lost = Done(attempt=order.attempt, at=utc_now(), state=AttemptState.LOST, fate=Fate.LOST)
    append_entries(path, [lost])
    set_aside(path)
    for stored in bench.stored():
        if "exposure2" in stored or "cat2" in stored:
            (bench.root / "stores/backbone" / ("logs" if stored.endswith("log") else "products") / stored).unlink()
    return r"^night1/science/exposure=2/a01: a journal tells that it ended as lost, and its row that it was cancelled"


def database_older(site: Site, bench: Bench, order: JobOrder) -> str:
    other = order_of(bench, 2)
    bench.run_one(other)
    (path,) = journals(bench.spool)
    set_aside(path)
    return r"^night1/science/exposure=2/a01: a journal that was recorded tells that it ended as published, and the data"


def claim_orphan(site: Site, bench: Bench, order: JobOrder) -> str:
    claims = Claims(bench.spool, Claim(journal="gone", owner=GONE, begun_at=utc_now()))
    assert claims.take([order_of(bench, 2).attempt]) == {}
    return rf"claims/\.gone: process {GONE.pid} on {GONE.host} is dead, and still claims .*'nightmill record' ends its"


def claim_orphan_by_nobody(site: Site, bench: Bench, order: JobOrder) -> str:
    (bench.spool / "claims").mkdir(exist_ok=True)
    (bench.spool / "claims" / ".torn").write_text("{")
    return r"claims/\.torn: it does not say whose claims it is for; remove it"


def live_orphan(site: Site, bench: Bench, order: JobOrder) -> str:
    (bench.spool / "live").mkdir()
    (bench.spool / "live" / f"{token(order_of(bench, 2).attempt)}.log").touch()
    return r"live/science-.*\.log: nobody carries out the attempt any more; 'nightmill record' removes it"


def file_unnamed(site: Site, bench: Bench, order: JobOrder) -> str:
    bench.run_one(order_of(bench, 2))
    (path,) = journals(bench.spool)
    set_aside(path)
    return r"^backbone:products/cat2.txt: 2 bytes, .*; it is probably of night1/science/exposure=2/a01, whose journal"


def file_unnamed_by_name(site: Site, bench: Bench, order: JobOrder) -> str:
    (bench.root / "stores/backbone/products/frame_c0001a07.fits").write_bytes(b"x")
    return r"^backbone:products/frame_c0001a07.fits: 1 bytes, .*; by its name it is of attempt 7 of campaign 1 \(n"


def file_unnamed_by_nobody(site: Site, bench: Bench, order: JobOrder) -> str:
    (bench.root / "stores/backbone/notes.txt").write_bytes(b"x")
    return r"^backbone:notes.txt: 1 bytes, .*neither a journal nor its name tells whose.*--mode in-place"


def replica_missing(site: Site, bench: Bench, order: JobOrder) -> str:
    (bench.root / "stores/backbone/products/cat1.txt").unlink()
    return r"^backbone:products/cat1.txt: the file of cat1.txt is not there, and was when it was seen last \(since 20"


def replica_changed(site: Site, bench: Bench, order: JobOrder) -> str:
    path = bench.root / "stores/backbone/products/cat1.txt"
    path.chmod(0o644)
    path.write_text("11\n")
    return r"^backbone:products/cat1.txt: it has 3 bytes, and 2 are on record; keep it aside"


def upload_left(site: Site, bench: Bench, order: JobOrder) -> str:
    source = bench.root / "source"
    source.write_text("1")
    bench.stagers["backbone"].upload(source, "products/cat9.txt", attempt=f"{token(order.attempt)}-0123456789")
    return r"^backbone:products/\..*\.part: an upload is left of night1/science/exposure=1/a01, which is not open"


def upload_of_an_ingest(site: Site, bench: Bench, order: JobOrder) -> str:
    source = bench.root / "source"
    source.write_text("1")
    bench.stagers["backbone"].upload(source, "raw/1.fits", attempt="ingest-1234-5678")
    return r"^backbone:raw/\..*\.part: an upload is left of an ingest that did not end; type that ingest again"


PLANTS: dict[str, Callable[..., str]] = {
    plant.__name__: plant
    for plant in (
        execution_runs, job_active, job_idle, job_result, job_number, result_empty, attempt_orphan, lease_orphan,
        process_orphan, scratch_orphan, journal_waits, journal_quarantined, journal_broken, journal_disagrees,
        database_older, claim_orphan, claim_orphan_by_nobody, live_orphan, file_unnamed,
        file_unnamed_by_name, file_unnamed_by_nobody, replica_missing, replica_changed, upload_left,
        upload_of_an_ingest,
    )
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTS)
def test_each_contradiction_is_named_and_none_is_mended(
    site: Site, bench: Bench, planted: str, request: pytest.FixtureRequest
) -> None:
    plant = PLANTS[planted]
    given = (request,) if planted == "process_orphan" else ()
    wanted = plant(site, bench, one_job_done(site, bench), *given)
    before = dump(site.database), sorted(map(str, bench.root.rglob("*")))
    found = audit(site)
    kind = planted.partition("_by_")[0].replace("upload_of_an_ingest", "upload_left")
    assert [each for each in found if each.kind == kind and re.search(wanted, str(each))], list(map(str, found))
    assert all(each.remedy and each.where for each in found)
    assert (dump(site.database), sorted(map(str, bench.root.rglob("*")))) == before


def test_other_bytes_of_the_same_size_are_found_by_their_checksum(site: Site, bench: Bench) -> None:
    one_job_done(site, bench)
    path = bench.root / "stores/backbone/products/cat1.txt"
    path.chmod(0o644)
    path.write_text("2\n")
    assert audit(site) == []
    (found,) = audit(site, checksums=True)
    assert (found.kind, found.where) == ("replica_changed", "backbone:products/cat1.txt")


def test_a_store_that_cannot_be_listed_is_told_and_the_rest_is_compared(site: Site, bench: Bench) -> None:
    one_job_done(site, bench)
    store = bench.root / "stores" / "backbone"
    store.rename(store.with_name("away"))
    take_lease(site, GONE)
    assert {found.kind for found in audit(site)} == {"unreadable", "lease_orphan"}


def test_what_goes_on_is_no_contradiction(site: Site, bench: Bench) -> None:
    lease = take_lease(site, this_process())
    order = order_of(bench, 1)
    site.database.write(lambda session: issue(session, order, lease_id=lease))
    seen: list[Contradiction] = []
    bench.run_one(order, listener=lambda _entry: seen.extend(audit(site)))
    assert seen == []
    assert audit(site) == [], "published, in the journal of a living process, and not recorded yet"
