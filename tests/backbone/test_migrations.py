from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, update

from nightmill.backbone.catalogue.error_rules import add_rule, known_errors
from nightmill.backbone.catalogue.indexes import index_keys, indexed
from nightmill.backbone.catalogue.registration import register
from nightmill.backbone.catalogue.withdrawals import withdraw
from nightmill.backbone.database import Database, newest_revision
from nightmill.backbone.schema import Base, FileRow, ReplicaRow
from nightmill.model.dimensions import KeyType
from nightmill.model.error_rule import ErrorRule
from tests.backbone.files import add_files, new_file

VIEWS = {
    "current_calibration", "file_location", "file_transfer", "job_status", "lineage", "membership", "step_cost",
    "step_difference", "step_observed",
}  # fmt: skip


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    """Give a database that the migrations have made from nothing."""
    database = Database(empty_database_url)
    database.create()
    yield database
    database.close()


def downgrade(database: Database, revision: str) -> None:
    with database.engine.connect() as connection:
        command.downgrade(database._alembic(connection), revision)


def test_migrations_make_the_tables_that_the_program_knows(database: Database) -> None:
    options = {"compare_type": not database.is_sqlite}  # whose DOUBLE and FLOAT are the same
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []


def test_rows_outlive_the_way_down_to_the_tables_and_up_again(database: Database) -> None:
    metadata = {"object": "M 67", "airmass": 1.25}
    with database.writing() as session:
        add_files(session, [new_file("a.fits", data_id={"night": 20260110}, metadata=metadata)])
    assert set(inspect(database.engine).get_view_names()) == VIEWS
    downgrade(database, "0001")
    assert inspect(database.engine).get_view_names() == []
    database.create()
    database.create()
    assert set(inspect(database.engine).get_view_names()) == VIEWS
    with database.reading() as session:
        [file] = session.scalars(select(FileRow))
        assert (file.name, file.night, file.attributes) == ("a.fits", 20260110, metadata)


def test_a_file_that_was_retyped_is_what_it_was_retyped_to_on_the_way_down(database: Database) -> None:
    now = datetime(2026, 1, 11, tzinfo=UTC)
    key: dict[str, KeyType] = {"target": "str"}
    with database.writing() as session:
        index_keys(session, key)
        [old] = add_files(session, [new_file("a.fits", data_id={"night": 20260110})])
        other = replace(new_file("a.fits", data_id={"night": 20260111}), type="other", version=2, store=None, path=None)
        [new] = register(session, [other], who="ada", now=now)
        session.execute(update(ReplicaRow).values(file_id=new))
        withdraw(session, [(old, new)], who="ada", why="wrong", now=now)
    downgrade(database, "0006")
    database.create()
    with database.reading() as session:
        assert [(file.id, file.type, file.version) for file in session.scalars(select(FileRow))] == [(new, "other", 1)]
        assert indexed(session, key) == {"target"}


def test_a_rule_that_accepts_names_failures_alone_on_the_way_down(database: Database) -> None:
    now = datetime(2026, 1, 11, tzinfo=UTC)
    rule = ErrorRule(name="few", step="fit", exit=(4,), explanation="Fine", action="accept")
    held = ErrorRule(name="held", step="fit", explanation="Odd", action="hold")
    with database.writing() as session:
        for each in (rule, held):
            add_rule(session, each, who="ada", why="seen", now=now)
    downgrade(database, "0016")
    database.create()
    with database.reading() as session:
        assert [each.rule for each in known_errors(session)] == [rule.model_copy(update={"action": None}), held]


def test_the_way_down_to_nothing_leaves_nothing(database: Database) -> None:
    with database.writing() as session:
        add_files(session, [new_file("a.fits")])
    downgrade(database, "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    database.create()
    database.check_revision()


def test_the_newest_revision_is_that_of_alembic(database: Database) -> None:
    with database.engine.connect() as connection:
        script = ScriptDirectory.from_config(database._alembic(connection))
    assert newest_revision() == script.get_current_head()
