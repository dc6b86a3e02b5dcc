from __future__ import annotations

from pathlib import Path

from sqlalchemy import not_, select, text

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.database import Database
from nightmill.backbone.schema import FileRow
from tests.backbone.files import add_files, new_file

ODD_NAMES = ["a.fits", "b'\".fits", "c\\n.fits", "dé😀.fits", "e{1,2}.fits", "NULL", "07", ""]


def test_values_are_found_as_they_are_whatever_is_in_them(database: Database) -> None:
    with database.writing() as session:
        ids = add_files(session, [new_file(name, path=f"raw/{number}") for number, name in enumerate(ODD_NAMES)])
    with database.reading() as session:
        for name, id_ in zip(ODD_NAMES, ids, strict=True):
            assert session.scalars(select(FileRow.id).where(among(FileRow.name, [name, name]))).all() == [id_]
        wanted = [ids[0], ids[3], 2**63 - 1]
        assert set(session.scalars(select(FileRow.name).where(among(FileRow.id, wanted)))) == {"a.fits", "dé😀.fits"}
        others = select(FileRow.id).where(not_(among(FileRow.id, wanted)), FileRow.id.is_not(None))
        assert set(session.scalars(others)) == set(ids) - set(wanted)
        assert session.scalars(select(FileRow.id).where(among(FileRow.id, []))).all() == []


def test_a_look_up_takes_more_values_than_a_statement_may_have_parameters(database: Database) -> None:
    with database.writing() as session:
        add_files(session, [new_file("a.fits"), new_file("b.fits")])
    names = [f"other{number}.fits" for number in range(300_000)]
    with database.reading() as session:
        assert known_files(session, [*names, "b.fits"]).keys() == {"b.fits"}


def test_a_plan_kept_from_an_empty_table_serves_a_full_one(postgres_url: str) -> None:
    """PostgreSQL keeps the plan of a statement that is asked often; that it compares row by row must not happen."""
    database = Database(postgres_url)
    database.create()
    with database.writing() as session:
        for _ in range(12):
            known_files(session, ["a.fits"])
        kept = "SELECT name, generic_plans FROM pg_prepared_statements WHERE statement LIKE '%unnest%'"
        [(statement, uses)] = session.execute(text(kept)).all()
        assert uses > 0
        add_files(session, [new_file(f"{number:04d}.fits") for number in range(2_000)])
        plan = "\n".join(session.scalars(text(f"EXPLAIN EXECUTE \"{statement}\" ('{{0001.fits,0002.fits}}')")))
    database.close()
    assert "Join" in plan or "Nested Loop" in plan
    assert "ANY" not in plan


def test_an_index_serves_the_look_up_on_sqlite(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/nightmill.db")
    database.create()
    query = select(FileRow.id).where(among(FileRow.name, ["a.fits"]))
    with database.engine.connect() as connection:
        explain = f"EXPLAIN QUERY PLAN {query.compile(database.engine)}"
        steps = [row[-1] for row in connection.exec_driver_sql(explain, ('["a.fits"]',))]
    database.close()
    assert any("SEARCH file USING" in step and "(name=?)" in step for step in steps)
