"""Rows that several processes may find missing at the same moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from nightmill.backbone.schema import Base


def add_missing(
    session: Session, row: type[Base], rows: Sequence[Mapping[str, Any]], *, unique: tuple[str, ...]
) -> None:
    """Insert rows but for those whose unique columns have such values already; who comes second takes the first's."""
    if rows:
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        session.execute(insert(row).on_conflict_do_nothing(index_elements=unique), rows)
