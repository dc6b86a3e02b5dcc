"""Recording while the database is locked, away, or used by others: reports wait, and are recorded once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import AttemptRow, ExecutionRow, FileRow, GenerationRow, InputUseRow, SoftwareRow
from nightmill.errors import DatabaseAway
from nightmill.model.order import JobOrder
from nightmill.model.report import fold, stacks
from provenance.record import Recorded, record
from tests.support.backbone import NOW, dump, issue
from tests.support.orders import Bench, fits_bytes, output, shell
from tests.support.postgres import StoppableServer

ROOT = Path(__file__).parents[2]
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


def order_of(bench: Bench, unit: int) -> JobOrder:
    frame = bench.put(f"frame{unit}.fits", fits_bytes(exposure=unit))
    made = output("catalog", f"cat{unit}.txt")
    step = shell("detect", f"echo {unit} > cat{unit}.txt", made, inputs=(frame.name,))
    return bench.order(step, inputs=(frame,), unit=f"exposure={unit}")


def tell(bench: Bench, database: Database) -> Recorded:
    entries = bench.entries()
    reports = list(fold(entries).values())
    return database.write(lambda session: record(session, reports, stacks(entries), now=NOW))


@pytest.fixture
def sqlite_file(bench: Bench) -> Path:
    """Give the file of a backbone in which a job was issued that has run meanwhile."""
    path = bench.root / "nightmill.db"
    database = Database(f"sqlite:///{path}")
    database.create()
    database.write(lambda session: issue(session, order_of(bench, 12)))
    database.close()
    bench.run_one(order_of(bench, 12))
    return path


@pytest.fixture
def locker(sqlite_file: Path) -> Iterator[subprocess.Popen[str]]:
    """Give another process that has locked the file for writing, until it is told a line."""
    argv = [sys.executable, "-c", LOCKER, str(sqlite_file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def release(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_recording_waits_for_a_lock_to_go(bench: Bench, sqlite_file: Path, locker: subprocess.Popen[str]) -> None:
    database = Database(f"sqlite:///{sqlite_file}", busy_seconds=20.0)
    threading.Timer(1.0, release, [locker]).start()
    start = time.monotonic()
    assert len(tell(bench, database).published) == 1
    assert time.monotonic() - start >= 0.9
    database.close()


def test_a_lock_that_stays_is_told_and_the_report_recorded_later(
    bench: Bench, sqlite_file: Path, locker: subprocess.Popen[str]
) -> None:
    database = Database(f"sqlite:///{sqlite_file}", busy_seconds=0.1)
    before = dump(database)
    told = rf"the database sqlite:///{sqlite_file} cannot be used now: database is locked; try again when it is back"
    with pytest.raises(DatabaseAway, match=told):
        tell(bench, database)
    assert dump(database) == before
    release(locker)
    locker.wait()
    assert len(tell(bench, database).published) == 1
    database.close()


def test_a_sqlite_file_that_is_away_is_told(bench: Bench, sqlite_file: Path) -> None:
    hidden = sqlite_file.rename(sqlite_file.with_suffix(".away"))
    sqlite_file.mkdir()
    database = Database(f"sqlite:///{sqlite_file}")
    with pytest.raises(DatabaseAway, match="unable to open database file"):
        tell(bench, database)
    database.close()
    sqlite_file.rmdir()
    hidden.rename(sqlite_file)
    assert len(tell(bench, database).published) == 1
    database.close()


def test_a_full_disk_below_the_database_is_told_and_undone(bench: Bench, sqlite_file: Path) -> None:
    database = Database(f"sqlite:///{sqlite_file}")
    before = dump(database)

    def full(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO file"):
            raise sqlite3.OperationalError("database or disk is full")

    event.listen(database.engine, "before_cursor_execute", full)
    with pytest.raises((DatabaseAway, sqlite3.OperationalError), match="database or disk is full"):
        tell(bench, database)
    event.remove(database.engine, "before_cursor_execute", full)
    assert dump(database) == before
    assert len(tell(bench, database).published) == 1
    database.close()


# --------------------------------------------------------------------------------------------- PostgreSQL


def test_a_server_that_stops_in_the_middle_loses_nothing(bench: Bench, own_server: StoppableServer) -> None:
    database = Database(own_server.server.url(own_server.server.create()))
    database.create()
    database.write(lambda session: issue(session, order_of(bench, 12)))
    bench.run_one(order_of(bench, 12))
    stopped: list[str] = []

    def stop_once(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not stopped and statement.startswith("INSERT INTO generation"):
            stopped.append(statement)
            own_server.stop()

    event.listen(database.engine, "before_cursor_execute", stop_once)
    with pytest.raises(
        DatabaseAway, match=r"(?s)the database postgresql\+psycopg://.* cannot be used now: .*; try again"
    ):
        tell(bench, database)
    assert stopped
    with pytest.raises(DatabaseAway, match="cannot be used now"):
        tell(bench, database)
    own_server.start()
    deadline = time.monotonic() + 300
    told = None
    while told is None:
        try:
            told = tell(bench, database)
        except DatabaseAway:
            assert time.monotonic() < deadline
    assert len(told.published) == 1
    with database.reading() as session:
        counts = [session.scalar(select(func.count()).select_from(row)) for row in (ExecutionRow, GenerationRow)]
        assert counts == [1, 1]
    database.close()


def test_many_processes_that_record_the_same_at_once_write_it_once(bench: Bench, postgres_url: str) -> None:
    database = Database(postgres_url)
    database.create()
    orders = [order_of(bench, unit) for unit in range(1, 25)]
    database.write(lambda session: issue(session, *orders))
    bench.run(*orders[:8])
    bench.run(*orders[8:16])
    bench.run(*orders[16:])
    argv = [sys.executable, "-m", "tests.provenance.recorder", postgres_url, str(bench.spool)]
    ways: list[list[str]] = [[], ["backwards"], [], ["backwards"]]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([*argv, *way], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for way in ways
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        release(process)
    ends = [(process.communicate(timeout=600)[1], process.returncode) for process in processes]
    assert ends == [("", 0)] * 4
    with database.reading() as session:
        tables = (AttemptRow, ExecutionRow, GenerationRow, InputUseRow, SoftwareRow)
        assert [session.scalar(select(func.count()).select_from(row)) for row in tables] == [24, 24, 24, 24, 1]
        assert session.scalar(select(func.count()).select_from(FileRow).where(FileRow.origin == "batch")) == 48
        assert session.scalar(select(func.count()).select_from(AttemptRow).where(AttemptRow.result)) == 24
    before = dump(database)
    assert tell(bench, database) == Recorded()
    assert dump(database) == before
    database.close()
