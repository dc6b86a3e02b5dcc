"""What a trivial job costs: one input, one output, everything recorded; beside a loop without nightmill."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import file_digest
from itertools import count
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Engine, MetaData, Table, create_engine, event

from benchmarks.figures import Figure, Result, alternately, figure, machine, now
from benchmarks.peers import has_snakemake, snakemake_milliseconds
from benchmarks.sites import (
    COPY_STAGE,
    EPOCH,
    WHO,
    databases,
    new_site,
    raw_names,
    register_raw,
    store_folder,
    working_folder,
    write_campaign,
)
from nightmill.backbone.schema import (
    AttemptRow,
    Base,
    ExecutionRow,
    FileRow,
    GenerationRow,
    InputUseRow,
    PlannedInputRow,
    ReplicaRow,
)
from nightmill.config.campaign import load_campaign
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn

JOBS: Final = 250
"""Jobs of one measurement."""
REPEATS: Final = 5
CHUNK: Final = 100
"""Jobs that are issued and recorded together: what a slice chooses for short ones."""
SYNCED_TOGETHER: Final = 32
"""Jobs that share one durable write of the journal, in both."""
CONTENT: Final = bytes(range(256)) * 16


def measure(*, size: int = JOBS, repeats: int = REPEATS) -> Result:
    """Measure on each database that can be had; SQLite is the headline."""
    with working_folder() as folder, databases() as urls:
        measured = {
            database: _measure(folder / database, url, jobs=size, repeats=repeats) for database, url in urls.items()
        }
        headline, cpu = measured.pop("SQLite")
        also = {database: other for database, (other, _cpu) in measured.items()}
        if has_snakemake():
            also["beside Snakemake"] = figure([headline.value], [_snakemake(folder, size)])
    return Result(
        **headline.model_dump(),
        name="job_overhead",
        unit="ms per job",
        compared=(
            "a trivial job in chunks, one at a time, from its issue to its last row, SQLite; floor: a loop that does"
            " the same copies, spawn, hashes and fsyncs and one bulk insert of the same rows"
        ),
        aim="at most 2 times the floor and 6 ms",
        size=f"{repeats} × {size} jobs",
        also=also,
        extra={"cpu_milliseconds_per_job": cpu.value, "cpu_milliseconds_per_job (floor)": cpu.floor},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks job_overhead --json",
    )


def _measure(folder: Path, database: str, *, jobs: int, repeats: int) -> tuple[Figure, Figure]:
    """Return the wall time of a job and its CPU time, each beside its floor; a busy machine changes the second less."""
    rounds = repeats + 1  # the first warms up
    with new_site(folder / "site", database) as site:
        register_raw(site, rounds * jobs, content=CONTENT)
        campaign = load_campaign(write_campaign(folder, "overhead", COPY_STAGE, {"jobs_per_slice": jobs}))
        submit(site, campaign, who=WHO)
        slices = iter(take_turn(site, campaign.name, "copy").slices)
        names = iter(raw_names(rounds * jobs))
        raw = store_folder(site) / "raw"
        with closing(BareLoop(folder / "bare", database)) as bare:
            run_slice(site, campaign.name, next(slices))
            bare.run([raw / next(names) for _ in range(jobs)])
            values, floors = alternately(
                repeats,
                lambda: _timed(lambda: run_slice(site, campaign.name, next(slices)), jobs),
                lambda: _timed(lambda: bare.run([raw / next(names) for _ in range(jobs)]), jobs),
            )
    wall, cpu = (figure([each[index] for each in values], [each[index] for each in floors]) for index in range(2))
    return wall, cpu


def _snakemake(folder: Path, jobs: int) -> float:
    """Return the milliseconds of as many trivial jobs, each, in Snakemake."""
    sources = folder / "sources"
    sources.mkdir()
    for name in raw_names(jobs):
        (sources / name).write_bytes(CONTENT)
    return snakemake_milliseconds(folder / "snakemake", sorted(sources.iterdir()))


def _timed(run: Callable[[], float], jobs: int) -> tuple[float, float]:
    """Return wall and CPU milliseconds a job, those of its processes included."""
    before = cpu_seconds()
    wall = run()
    return wall / jobs * 1000, (cpu_seconds() - before) / jobs * 1000


def cpu_seconds(*whose: int) -> float:
    """Return the CPU time of this process and of those that it waited for (os.times would count whole ticks)."""
    used = (resource.getrusage(who) for who in whose or (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def run_slice(site: Site, campaign: str, number: int) -> float:
    """Carry out a slice as its flow does, without Prefect; return the seconds."""
    start = time.perf_counter()
    with SliceWork(site, campaign, "copy", number) as work:
        while orders := work.issue(CHUNK):
            work.record(list(work.worker.run(orders)))
    seconds = time.perf_counter() - start
    jobs = work.jobs()
    if jobs.done != jobs.total:
        raise AssertionError(f"only {jobs.done} of {jobs.total} jobs were published: {jobs.failed[0]}")
    return seconds


class BareLoop:
    """The least that does what a trivial job does.

    Parameters
    ----------
    folder
        For its scratches, its store and its journal.
    database
        URL; by default an SQLite file in the folder.
    first
        The number of its first job: loops that share a database have others each.
    """

    def __init__(self, folder: Path, database: str = "", *, first: int = 1) -> None:
        self.scratch, self.store = folder / "scratch", folder / "store"
        self.scratch.mkdir(parents=True)
        self.store.mkdir()
        self.numbers = count(first)
        self.bare = _bare_tables()
        self.engine = _durable_engine(database or f"sqlite:///{folder / 'bare.db'}")
        self.bare.create_all(self.engine)
        self.journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def close(self) -> None:
        """Close what it has open."""
        os.close(self.journal)
        self.engine.dispose()

    def run(self, inputs: list[Path]) -> float:
        """Do the jobs of these inputs; return the seconds."""
        start = time.perf_counter()
        done: list[tuple[int, str, str]] = []
        for at in range(0, len(inputs), SYNCED_TOGETHER):
            done += [self._job(path) for path in inputs[at : at + SYNCED_TOGETHER]]
            os.fsync(self.journal)
            _sync_folder(self.store)
        self._insert(done)
        return time.perf_counter() - start

    def _job(self, path: Path) -> tuple[int, str, str]:
        number = next(self.numbers)
        scratch = self.scratch / str(number)
        scratch.mkdir()
        shutil.copyfile(path, scratch / "input")
        with (scratch / "log").open("wb") as log:
            subprocess.run(["cp", "input", "output"], cwd=scratch, stdout=log, stderr=log, check=True)
            log.write(b"cp input output\n")
        output, log_digest = (self._publish(scratch / name, f"{number}-{name}") for name in ("output", "log"))
        os.write(self.journal, b"x" * 4000 + b"\n")
        shutil.rmtree(scratch)
        return number, output, log_digest

    def _publish(self, path: Path, name: str) -> str:
        digest = _digest(path)
        temporary = self.store / f".{name}.part"
        shutil.copyfile(path, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if _digest(temporary) != digest:
            raise AssertionError(f"{temporary} is not what was copied")
        os.link(temporary, self.store / name)
        temporary.unlink()
        return digest

    def _insert(self, done: list[tuple[int, str, str]]) -> None:
        with self.engine.begin() as connection:
            for table, rows in _rows(done):
                connection.execute(self.bare.tables[f"bare_{table.__tablename__}"].insert(), rows)


def _rows(done: list[tuple[int, str, str]]) -> Iterator[tuple[type[Base], list[dict[str, Any]]]]:
    """Yield the rows that nightmill writes of trivial jobs."""
    published = {"state": "published", "fate": "published", "host": "here", "order_sha256": "0" * 64, "lease_id": 1}
    times = {"began_at": EPOCH, "ended_at": EPOCH}
    yield (
        AttemptRow,
        [{"id": n, "job_id": n, "plan_id": 1, "number": 1, "issued_at": EPOCH, **published, **times} for n, *_ in done],
    )
    read = {"step": "copy", "role": "raw", "rule": "raw or manual; its files make the units", "origin": "pipeline"}
    yield PlannedInputRow, [{"attempt_id": n, "file_id": n, **read} for n, *_ in done]
    cost = {"wall_seconds": 0.001, "user_seconds": 0.001, "system_seconds": 0.001, "max_rss_bytes": 1000000}
    ran = {"step": "copy", "position": 0, "state": "succeeded", "argv": ["cp", "input", "output"], "environment": {}}
    moved = {"read_bytes": 4096, "written_bytes": 4096, "exit_code": 0, "host": "here", "software_id": 1}
    yield ExecutionRow, [{"id": n, "attempt_id": n, **ran, **times, **cost, **moved} for n, *_ in done]
    made = {"origin": "batch", "size_bytes": 4096, "registered_at": EPOCH, "registered_by": WHO, "attributes": {}}
    yield (
        FileRow,
        [
            {"id": 2 * n + k, "name": f"{n}-{kind}", "compression": "", "type": kind, "exposure": n, "sha256": digest,
             "attempt_id": n, "begins_at": EPOCH, "ends_at": EPOCH, **made}
            for n, *digests in done
            for k, (kind, digest) in enumerate(zip(("product", "log"), digests, strict=True))
        ],
    )  # fmt: skip
    stands = {"store_id": 1, "state": "present", "verified_at": EPOCH}
    ids = [2 * n + k for n, *_ in done for k in (0, 1)]
    yield ReplicaRow, [{"id": id_, "file_id": id_, "path": f"overhead/copy/{id_}", **stands} for id_ in ids]
    yield GenerationRow, [{"file_id": 2 * n, "execution_id": n, "role": "product"} for n, *_ in done]
    yield InputUseRow, [{"execution_id": n, "file_id": n, "role": "raw", "planned": True} for n, *_ in done]


def _bare_tables() -> MetaData:
    """Copy the tables' columns and primary keys: no constraint nor index is kept up while the floor inserts."""
    bare = MetaData()
    for table in Base.metadata.tables.values():
        columns = [Column(each.name, each.type, primary_key=each.primary_key) for each in table.columns]
        Table(f"bare_{table.name}", bare, *columns)
    return bare


def _durable_engine(url: str) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    return engine


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
