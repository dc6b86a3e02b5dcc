"""Indexes of the metadata keys that a site often selects its files by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from nightmill.backbone.sql import key_value
from nightmill.model.dimensions import KeyType


def index_keys(session: Session, keys: Mapping[str, KeyType]) -> None:
    """Make the index of each key that has none. One that was made before, for this site or another, stays.

    Parameters
    ----------
    session
        A writing one.
    keys
        Metadata keys, which are identifiers, with their types.
    """
    for key in keys.keys() - indexed(session, keys):
        value = key_value(key, keys[key]).compile(session.get_bind(), compile_kwargs={"include_table": False})
        session.execute(text(f'CREATE INDEX IF NOT EXISTS "{_name(key, keys[key])}" ON file (type, ({value}))'))


def indexed(session: Session, keys: Mapping[str, KeyType]) -> set[str]:
    """Return those of the keys that have an index, as values of their types."""
    there = set(session.scalars(text(_INDEXES[session.get_bind().dialect.name])))
    return {key for key, kind in keys.items() if _name(key, kind) in there}


_INDEXES: Final = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
    "postgresql": "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()",
}


def _name(key: str, kind: KeyType) -> str:
    return f"ix_file_{kind}_{key}"
