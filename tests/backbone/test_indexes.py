"""Indexes of metadata keys: made once, and used by the expressions that ask for them."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.indexes import index_keys, indexed
from nightmill.backbone.database import Database
from nightmill.backbone.schema import FileRow
from nightmill.backbone.sql import to_sql
from nightmill.expressions import parse
from nightmill.model.dimensions import KeyType

KEYS: dict[str, KeyType] = {"target": "str", "dit": "float", "coadds": "int", "good": "bool", "at": "time"}


def test_an_index_is_made_once_and_of_the_type_that_a_key_has(database: Database) -> None:
    with database.reading() as session:
        assert indexed(session, KEYS) == set()
    for _ in range(2):
        database.write(lambda session: index_keys(session, KEYS))
    with database.reading() as session:
        assert indexed(session, KEYS) == set(KEYS)
        assert indexed(session, {"dit": "int"}) == set()


@pytest.mark.parametrize(
    ("where", "key"),
    [
        ("target == 'M31'", "str_target"),
        ("dit == 10.0", "float_dit"),
        ("coadds > 2", "int_coadds"),
        ("target in ['M31', 'M33']", "str_target"),
    ],
)
def test_an_expression_uses_the_index(database: Database, where: str, key: str) -> None:
    """X01."""
    name = key.partition("_")[2]
    database.write(lambda session: index_keys(session, {name: KEYS[name]}))
    condition = to_sql(parse(where, metadata_keys=KEYS))
    with database.reading() as session:
        query = select(FileRow.id).where(FileRow.type == "raw", condition)
        assert f"ix_file_{key}" in _plan(
            session, query.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        )


def _plan(session: Session, query: object) -> str:
    """Ask how a query would be carried out, were the table large."""
    if session.get_bind().dialect.name == "sqlite":
        return str(session.execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
    session.execute(text("SET LOCAL enable_seqscan = off"))
    session.execute(text("SET LOCAL enable_bitmapscan = off"))
    return str(session.execute(text(f"EXPLAIN {query}".replace(":", "\\:"))).all())
