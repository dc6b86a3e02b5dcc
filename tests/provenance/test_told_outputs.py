"""Files whose names are known when they are made are on record as what a later step of their job used."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import ExecutionRow, FileRow, InputUseRow
from nightmill.model.report import stacks
from provenance.lineage import lineage_of
from provenance.record import record
from tests.execution.told import order_of, told
from tests.support.backbone import issue
from tests.support.orders import Bench, fits_bytes, output, shell

NOW = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)


@pytest.mark.req("X05")
def test_a_step_used_the_files_that_the_step_before_told(tmp_path: Path, sqlite_url: str) -> None:
    bench = Bench(tmp_path)
    points = output("points", produces="*.cat", type="", store="", max=2)
    heads = told("heads", produces="im{exposure:06d}.head")
    make = shell("make", "for n in 1 2; do echo $n > im00000$n.head; done; echo 1 > p.cat", heads, points)
    use = shell("use", "echo 1 > first.txt", output("first", "first.txt"), inputs=("{heads}", "{points}"))
    order = order_of(bench, make, use)
    database = Database(sqlite_url)
    database.write(lambda session: issue(session, order))
    report = bench.run_one(order)
    database.write(partial(record, reports=[report], stacks=stacks(bench.entries()), now=NOW))
    with database.reading() as session:
        query = select(ExecutionRow.step, FileRow.name, InputUseRow.role).join(FileRow).join(ExecutionRow)
        uses = session.execute(query.order_by(FileRow.name)).tuples().all()
        files = session.scalars(select(FileRow.name).where(FileRow.type != "log").order_by(FileRow.name)).all()
    database.close()
    names = [f"heads_00000{number}_c0001a01.head" for number in (1, 2)]
    assert uses == [("use", name, "heads") for name in names]
    assert files == ["first.txt", *names], "a scratch file is on no record"


@pytest.mark.req("B36")
def test_who_reads_a_scratch_file_used_what_went_into_it(bench: Bench, database: Database) -> None:
    frames = [bench.put(f"frame{number}.fits", fits_bytes(exposure=number)) for number in (1, 2, 3)]
    part = output("part", "part.dat", produces="part.dat", type="", store="")
    sums = output("sums", produces="*.sum", type="", store="", max=2)
    order = bench.order(
        shell("cut", "cat ../inputs/frame1.fits > part.dat", part, inputs=("frame1.fits",)),
        shell("add", "cp ../outputs/part.dat a.sum", sums, inputs=("part.dat", "frame2.fits")),
        shell("tell", "cat ../outputs/a.sum > told.txt", output("told", "told.txt"), inputs=("{sums}", "frame2.fits")),
        shell("look", "echo 1 > seen.txt", output("seen", "seen.txt"), inputs=("frame3.fits",)),
        inputs=tuple(frames),
    )
    database.write(lambda session: issue(session, order))
    reports = [bench.run_one(order)]
    for _again in range(2):
        database.write(partial(record, reports=reports, stacks=stacks(bench.entries()), now=NOW))
    with database.reading() as session:
        query = select(ExecutionRow.step, FileRow.name, InputUseRow.role, InputUseRow.planned).join(FileRow)
        uses = session.execute(query.join(ExecutionRow).order_by(FileRow.name, ExecutionRow.id)).tuples().all()
        above = {
            name: {node.name for node in lineage_of(session, name, "up").files.values()} - {name}
            for name in ("told.txt", "seen.txt")
        }
    assert sorted(uses, key=str) == sorted(
        [
            ("cut", "frame1.fits", "frame", True),
            ("add", "frame1.fits", "frame", False),
            ("tell", "frame1.fits", "frame", False),
            ("add", "frame2.fits", "frame", True),
            ("tell", "frame2.fits", "frame", True),
            ("look", "frame3.fits", "frame", True),
        ],
        key=str,
    ), "the order names them for the step, or the step reached them through a scratch file"
    assert above == {"told.txt": {"frame1.fits", "frame2.fits"}, "seen.txt": {"frame3.fits"}}
