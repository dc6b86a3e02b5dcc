"""Looking up many values at once, in a form that both databases carry out well whatever they know of the table.

A list of thousands of parameters is a trap on PostgreSQL. After some uses psycopg prepares the statement, and the
server keeps one plan for all further lists; made while the table was small, that plan compares each row with each value
in turn, and a look-up of 5,000 names among 60,000 took half a minute. A set of rows to join with has no such plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Boolean, ColumnElement, Text, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine


def among(column: Any, values: Iterable[str] | Iterable[int]) -> ColumnElement[bool]:
    """Say that a column of text or whole numbers has one of many values: one parameter, however many they are."""
    kind = _Numbers if column.type.python_type is int else _Texts
    return _Among(column, literal(list(values), kind))


class _Many(TypeDecorator[list[Any]]):
    """Values as one parameter: an array on PostgreSQL, and JSON on SQLite."""

    impl = JSON
    cache_ok = True
    item: ClassVar[type[TypeEngine[Any]]]

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that the database knows."""
        return dialect.type_descriptor(ARRAY(self.item) if dialect.name == "postgresql" else JSON())


class _Texts(_Many):
    cache_ok = True
    item = Text


class _Numbers(_Many):
    cache_ok = True
    item = BigInteger


class _Among(FunctionElement[bool]):
    """Column, values."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        """Return itself: written as ``(...) = 1``, no index of SQLite would serve it."""
        return self


@compiles(_Among, "sqlite")
def _among_sqlite(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} IN (SELECT value FROM json_each({values})))"  # noqa: S608 - both are compiled


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} IN (SELECT unnest({values})))"
