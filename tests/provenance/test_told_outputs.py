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
from provenance.record import record
from tests.execution.told import order_of, told
from tests.support.backbone import issue
from tests.support.orders import Bench, output, shell

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
