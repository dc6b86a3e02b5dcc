from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import Base, FileRow
from tests.backbone.files import add_files, new_file

VIEWS = {"current_calibration", "file_location", "job_status", "lineage", "membership", "step_cost"}


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


def test_the_way_down_to_nothing_leaves_nothing(database: Database) -> None:
    with database.writing() as session:
        add_files(session, [new_file("a.fits")])
    downgrade(database, "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    database.create()
    database.check_revision()
