"""Databases of releases before this one, with what was in them: they are brought here, and their orders had again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import MetaData, Table, insert, select, text, update

from nightmill.backbone.catalogue.error_rules import add_rule, known_errors, switch
from nightmill.backbone.database import Database
from nightmill.backbone.schema import (
    AttemptRow,
    DerivationRow,
    DifferenceRow,
    ExecutionRow,
    GenerationRow,
    InputUseRow,
)
from nightmill.model.error_rule import ErrorRule
from nightmill.model.order import canonical, order_sha256
from nightmill.planning.again import issued_orders

RELEASES = sorted(Path(__file__).with_name("releases").glob("*.json"))


def rows_of(database: Database, *, without: frozenset[str] = frozenset()) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables, as they are now."""
    tables = MetaData()
    tables.reflect(database.engine)
    with database.engine.connect() as connection:
        return {
            table.name: sorted(
                (
                    {name: value for name, value in row._mapping.items() if name not in without}
                    for row in connection.execute(select(table))
                ),
                key=repr,
            )
            for table in tables.sorted_tables
            if table.name != "alembic_version"
        }


def bring(database: Database, release: Mapping[str, Any]) -> None:
    """Make the database of a release, with its rows."""
    with database.engine.connect() as connection:
        command.upgrade(database._alembic(connection), release["revision"])
    tables = MetaData()
    tables.reflect(database.engine)
    with database.engine.begin() as connection:
        for table in tables.sorted_tables:
            if rows := release["rows"].get(table.name):
                connection.execute(insert(table), [_typed(table, row) for row in rows])
        if not database.is_sqlite:
            for name in release["rows"]:
                if "id" in tables.tables[name].columns:
                    newest = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) + 1 FROM {name}))"
                    connection.execute(text(newest))


def _typed(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Give times of a row their type, as the table has it."""
    times = {column.name for column in table.columns if str(column.type).startswith(("DATETIME", "TIMESTAMP"))}
    return {
        name: datetime.fromisoformat(value) if name in times and value is not None else value
        for name, value in row.items()
    }


NEW = frozenset(
    {
        "copies",
        "site_id",
        "level",
        "version",
        "held_by",
        "held_why",
        "ready_at",
        "memory_bytes",
        "error_id",
        "job_detail",
        "replaced_at",
        "bare_sha256",
        "files_sha256",
        "passed_over",
        "renew",
    }
    | {
        "rule_ids",
        "accepted_id",
        "course",
        "steered_by",
        "steered_why",
        "priority",
        "most_jobs",
        "hosts",
        "limited_by",
        "limited_why",
    }
    | {"level", "confined", "witness", "told", "reached"}
)
"""Columns that a release may not have."""


@pytest.fixture(params=RELEASES, ids=lambda file: file.stem)
def release(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """Give what a release left."""
    found: Mapping[str, Any] = json.loads(request.param.read_text())
    return found


@pytest.fixture
def database(empty_database_url: str, release: Mapping[str, Any]) -> Iterator[Database]:
    """Give its database, as the release left it."""
    database = Database(empty_database_url)
    bring(database, release)
    yield database
    database.close()


def test_every_order_of_a_release_is_had_again_to_the_byte(database: Database, release: Mapping[str, Any]) -> None:
    database.create()
    with database.reading() as session:
        ids = list(session.scalars(select(AttemptRow.id)))
        orders = {str(order.attempt): order for order in issued_orders(session, ids)}
    assert {name: canonical(order).decode() for name, order in orders.items()} == {
        name: order["canonical"] for name, order in release["orders"].items()
    }
    assert {order_sha256(order) for order in orders.values()} == {each["sha256"] for each in release["orders"].values()}


def test_rows_outlive_the_way_up_and_down(database: Database, release: Mapping[str, Any]) -> None:
    before = rows_of(database)
    database.create()
    now = rows_of(database, without=NEW)
    assert [(row["name"], row["key"]) for row in now.pop("site")] == [("", None)]
    assert {table: rows for table, rows in now.items() if table in before or rows} == before
    with database.writing() as session:
        use = session.scalars(select(InputUseRow)).first()
        assert use is not None
        more = {"execution_id": use.execution_id, "file_id": use.file_id, "role": "zz_also", "planned": True}
        session.execute(insert(InputUseRow), [more])  # a second role of the same file
        session.execute(update(ExecutionRow).values(level="standard", confined={"by": ["landlock 7"]}, told=True))
        session.execute(update(GenerationRow).values(told=True))
        made = session.scalars(select(GenerationRow.file_id)).first()
        session.execute(insert(DerivationRow), [{"file_id": made, "from_id": use.file_id}])
        differs = {"kind": "never_read", "name": "x", "file_id": use.file_id, "detail": "", "consequence": "noted"}
        session.execute(insert(DifferenceRow), [{"execution_id": use.execution_id, "number": 0, **differs}])
        rule = ErrorRule(name="odd", says="odd", explanation="It is odd")
        add_rule(session, rule, who="ada", why="seen", now=datetime.now(UTC))
        [error] = known_errors(session)
        switch(session, error.id, is_on=True, who="ada", why="tried", now=datetime.now(UTC))
        session.execute(update(AttemptRow).values(error_id=error.id, memory_bytes=1, rule_ids=[error.id]))
        session.execute(text("UPDATE attempt SET fate = 'of_tomorrow' WHERE id = (SELECT max(id) FROM attempt)"))
    with database.engine.connect() as connection:
        command.downgrade(database._alembic(connection), release["revision"])
    after = rows_of(database)
    assert after["input_use"] == before["input_use"]
    [changed] = [row for row in after["attempt"] if row not in before["attempt"]]
    assert changed["fate"] == "step_failed"
