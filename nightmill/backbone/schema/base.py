"""What all tables share: names of constraints, types, times in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Integer,
    MetaData,
    String,
    Text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from nightmill.errors import RequestRefused

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A time, aware in Python and UTC in the database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Bring a value to UTC; refuse one without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without its zone cannot be stored: {value.isoformat()}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give a stored value its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Key = BigInteger().with_variant(Integer, "sqlite")
Json = JSON().with_variant(postgresql.JSONB(), "postgresql")
NullableJson = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
"""NULL for None, where JSON has a null of its own."""
OrderedJson = JSON()
"""Keeps the order of keys, which JSONB does not: the first input of a stage makes its units."""


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: Json,
        list[Any]: Json,
        str: Text,
    }


class OneOf(TypeDecorator[str]):
    """A value of an enum. The database takes any: a new one needs no migration, and the code refuses what it lacks."""

    impl = String
    cache_ok = True

    def __init__(self, kind: type[StrEnum], length: int = 16) -> None:
        self.kind = kind
        self.length = length
        self._values = frozenset(kind)
        super().__init__(length)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Let anything be asked for."""
        return String()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Refuse to write a value that is unknown."""
        return self._known(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Refuse to read a value that is unknown: a newer nightmill wrote it."""
        return self._known(value)

    def _known(self, value: str | None) -> str | None:
        if value is None or value in self._values:
            return value
        what = re.sub("(?<=[a-z])(?=[A-Z])", " ", self.kind.__name__).lower()
        raise _UnknownValue(
            f"{value!r} is not a known {what}: there is {', '.join(self.kind)}",
            remedy="a newer nightmill may have written it: use that one with this database",
        )


class _UnknownValue(DontWrapMixin, RequestRefused):
    """Passes through SQLAlchemy as it is."""
