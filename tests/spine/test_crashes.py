"""Killed at every instant: nothing half visible, nothing lost, and a rerun that ends the same.

Two jobs of two steps each, on real FITS files that tell a part of their names, in a process that SIGKILLs itself after
its n-th journal entry (for every n), and at each step of publication. What is left is recovered, recorded and tried
again, and must come to what a run that nobody disturbed came to: on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import AttemptRow, FileRow, JobRow, ReplicaRow
from nightmill.execution.journal import journals, read_journal
from nightmill.execution.recover import finish_dead, writer_is_dead
from nightmill.model.calibration import Calibration
from nightmill.model.order import JobOrder, later_names
from nightmill.model.report import fold, stacks
from nightmill.model.states import AttemptState
from provenance.record import record
from tests.support.backbone import dump, issue, results
from tests.support.forks import forked
from tests.support.orders import Bench, fits_bytes, output, python, rights_of
from tests.support.postgres import PostgresServer
from tests.support.victim import main

NOW = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)
UNITS = (12, 13)
ENTRIES = 2 * 12 + 1
"""Twelve of each job, and the software stack, which is told once."""
FILES = 2 * 3
"""An image, a catalogue and a log of each job."""

INVERT = """
import array, sys
data = open(sys.argv[1], "rb").read()
header, pixels = data[:2880], array.array("f", data[2880:])
pixels.byteswap()
for n, pixel in enumerate(pixels): pixels[n] = -pixel
pixels.byteswap()
open(sys.argv[2], "wb").write(header + pixels.tobytes())
"""
COUNT = """
import array, sys
pixels = array.array("f", open(sys.argv[1], "rb").read()[2880:])
pixels.byteswap()
print("counted", len(pixels))
open(sys.argv[2], "w").write(f"{min(pixels):.3f} {max(pixels):.3f}\\n")
"""


def orders(bench: Bench, number: int = 1) -> list[JobOrder]:
    made = []
    for exposure in UNITS:
        frame = bench.put(f"frame{exposure}.fits", fits_bytes(exposure=exposure, checksum=False))
        name = f"{exposure}_a{number:02d}"
        role = Calibration(set="test", maturity="certified")
        validity = {"valid_from": "2026-01-10T00:00:00+00:00", "valid_until": "2026-02-10T00:00:00+00:00"}
        this: dict[str, Any] = {"data_id": {"exposure": exposure, "detector": 3}}
        told: dict[str, Any] = {
            "produces": "*.fits",
            "tells": ("detector",),
            "open_name": f"inv{name}_{{detector:02d}}.fits",
            "max": 1,
            "data_id": {"exposure": exposure},
        }
        image = output("image", type="image", calibration=role, **validity, **told)
        catalog = output("catalog", f"cat{name}.txt", **this)
        steps = [
            python("invert", INVERT, image, inputs=(frame.name,)),
            python("count", COUNT, catalog, inputs=(later_names("image"),)),
        ]
        files = [(f"../inputs/{frame.name}", "own.fits"), (f"../outputs/{later_names('image')}", catalog.names[0])]
        for at, (step, names) in enumerate(zip(steps, files, strict=True)):
            steps[at] = step.model_copy(update={"argv": ("{python}", "-S", "-c", step.argv[2], *names)})
        made.append(bench.order(*steps, inputs=(frame,), unit=f"exposure={exposure},detector=3", number=number))
    return made


def victim(bench: Bench, mode: str, what: str, count: int) -> int:
    return forked(main, mode, bench.root, what, count)


def recover(bench: Bench) -> None:
    for path in journals(bench.spool):
        journal = read_journal(path)
        if writer_is_dead(journal):
            finish_dead(journal, bench.stagers, rights_of(journal), scratch=bench.scratch)


def record_all(bench: Bench, database: Database) -> None:
    for path in journals(bench.spool):
        entries = read_journal(path).entries
        reports = list(fold(entries).values())
        database.write(partial(record, reports=reports, stacks=stacks(entries), now=NOW))


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> tuple[bytes, str]:
    """Give an empty backbone of each kind, to be copied: bytes of a SQLite file, name of a PostgreSQL database."""
    file = tmp_path_factory.mktemp("template") / "nightmill.db"
    name = postgres.create()
    for url in (f"sqlite:///{file}", postgres.url(name)):
        database = Database(url)
        database.create()
        database.close()
    return file.read_bytes(), name


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a bench with the orders of two jobs."""
    bench = Bench(tmp_path)
    (tmp_path / "orders.jsonl").write_text("".join(order.model_dump_json() + "\n" for order in orders(bench)))
    return bench


@pytest.fixture
def databases(
    tmp_path: Path, templates: tuple[bytes, str], postgres: PostgresServer, bench: Bench
) -> Iterator[list[Database]]:
    """Give a backbone of each kind, in which the two attempts were issued."""
    (tmp_path / "nightmill.db").write_bytes(templates[0])
    name = postgres.create(templates[1])
    both = [Database(f"sqlite:///{tmp_path / 'nightmill.db'}"), Database(postgres.url(name))]
    for database in both:
        database.write(lambda session: issue(session, *orders(bench)))
    yield both
    for database in both:
        database.close()
    postgres.drop(name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give what the two jobs come to when nobody disturbs them."""
    bench = Bench(tmp_path_factory.mktemp("undisturbed"))
    database = Database(f"sqlite:///{bench.root / 'nightmill.db'}")
    database.create()
    database.write(lambda session: issue(session, *orders(bench)))
    reports = bench.run(*orders(bench))
    assert [report.evidence for report in reports] == ["", ""]
    assert len(bench.entries()) == ENTRIES
    record_all(bench, database)
    with database.reading() as session:
        found = results(session)
    database.close()
    assert {result["state"] for result in found.values()} == {"done"}
    return found


def must_be_whole(bench: Bench, databases: Sequence[Database]) -> set[int]:
    """Check that stores and catalogues hold the same files, whole, and no more; return the jobs that are not done."""
    assert bench.leftovers() == []
    store = bench.root / "stores" / "backbone"
    stored = {
        path: (size, sha256((store / path).read_bytes()).hexdigest()) for path, size in bench.stagers["backbone"].list()
    }
    open_jobs = []
    for database in databases:
        with database.reading() as session:
            rows = session.execute(select(ReplicaRow.path, FileRow.size_bytes, FileRow.sha256).join(FileRow)).tuples()
            assert {path: (size, digest) for path, size, digest in rows} == stored
            made = select(FileRow.name).join(AttemptRow).where(AttemptRow.state == "lost")
            assert session.scalars(made).all() == [], "a lost attempt has made nothing"
            assert {state for state in session.scalars(select(AttemptRow.state))} <= {"issued", "published", "lost"}
            states = session.execute(select(JobRow.unit, JobRow.state)).tuples()
            open_jobs.append({int(unit[9:11]) for unit, state in states if state != "done"})
    assert open_jobs[0] == open_jobs[1]
    return open_jobs[0]


def must_end_the_same(bench: Bench, databases: Sequence[Database], undisturbed: dict[str, Any]) -> int:
    """Recover, record, run again what is not done: the end must be that of a run that nobody disturbed."""
    recover(bench)
    for database in databases:
        record_all(bench, database)
    left = must_be_whole(bench, databases)
    again = [order for order in orders(bench, number=2) if order.data_id and int(order.attempt.unit[9:11]) in left]
    for database in databases:
        database.write(lambda session: issue(session, *again))
    assert [report.state for report in bench.run(*again)] == [AttemptState.PUBLISHED] * len(again)
    for database in databases:
        record_all(bench, database)
        before = dump(database)
        recover(bench)
        record_all(bench, database)
        assert dump(database) == before
        with database.reading() as session:
            assert results(session) == undisturbed
    assert must_be_whole(bench, databases) == set()
    return len(left)


@pytest.mark.parametrize("count", range(1, ENTRIES + 1))
def test_killed_after_each_journal_entry(
    bench: Bench, databases: list[Database], undisturbed: dict[str, Any], count: int
) -> None:
    assert victim(bench, "run", "entry", count) == -signal.SIGKILL
    assert len(bench.entries()) == count
    left = must_end_the_same(bench, databases, undisturbed)
    publishing = ENTRIES - 4  # then two intents, then two ends
    assert left == (2 if count <= publishing else 1 if count == publishing + 1 else 0)


def test_killed_before_the_first_entry(bench: Bench, databases: list[Database], undisturbed: dict[str, Any]) -> None:
    assert victim(bench, "run", "header", 1) == -signal.SIGKILL
    assert must_end_the_same(bench, databases, undisturbed) == 2


@pytest.mark.req("B07")
@pytest.mark.parametrize(
    ("what", "count"),
    [("upload", 1), ("upload", FILES), ("link", 1), ("link", 2), ("link", FILES)]
    + [("reveal", count) for count in range(1, FILES + 1)],
)
def test_killed_while_publishing(
    bench: Bench, databases: list[Database], undisturbed: dict[str, Any], what: str, count: int
) -> None:
    assert victim(bench, "run", what, count) == -signal.SIGKILL
    left = must_end_the_same(bench, databases, undisturbed)
    assert left == (2 if what == "upload" else 0), "what was declared and uploaded is completed, not done again"


def test_killed_before_its_files_are_durable(
    bench: Bench, databases: list[Database], undisturbed: dict[str, Any]
) -> None:
    assert victim(bench, "run", "settle", 1) == -signal.SIGKILL
    assert must_end_the_same(bench, databases, undisturbed) == 0


@pytest.mark.parametrize(
    ("what", "count"),
    [("link", 1), ("reveal", 1), ("reveal", 2), ("discard", 1), ("discard", 3), ("settle", 1), ("settle", 2)],
)
def test_killed_while_completing_what_a_killed_process_left(
    bench: Bench, databases: list[Database], undisturbed: dict[str, Any], what: str, count: int
) -> None:
    assert victim(bench, "run", "reveal", 2) == -signal.SIGKILL
    assert victim(bench, "recover", what, count) == -signal.SIGKILL
    assert must_end_the_same(bench, databases, undisturbed) == 0


@pytest.mark.parametrize("what", ["remove", "discard"])
@pytest.mark.parametrize("count", [1, 2])
def test_killed_while_taking_back_what_a_killed_process_left(
    bench: Bench, databases: list[Database], undisturbed: dict[str, Any], what: str, count: int
) -> None:
    assert victim(bench, "run", "reveal", 2) == -signal.SIGKILL
    for upload in (bench.root / "stores/backbone/logs").glob(".*.part"):
        upload.chmod(0o644)
        upload.write_text("damaged by the loss of power")
    assert victim(bench, "recover", what, count) == -signal.SIGKILL
    assert must_end_the_same(bench, databases, undisturbed) == 2


def test_a_stranger_under_a_declared_name_is_left_alone(
    bench: Bench, databases: list[Database], undisturbed: dict[str, Any]
) -> None:
    assert victim(bench, "run", "reveal", 1) == -signal.SIGKILL
    stranger = bench.root / "stores/backbone/products/cat12_a01.txt"
    stranger.write_text("a stranger's")
    recover(bench)
    assert stranger.read_text() == "a stranger's"
    (first, second) = fold(bench.entries()).values()
    assert (first.state, second.state) == (AttemptState.LOST, AttemptState.PUBLISHED)
    stranger.unlink()
    assert must_end_the_same(bench, databases, undisturbed) == 1
