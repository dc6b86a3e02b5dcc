"""Expressions carried out by the database, with the same meaning on SQLite and PostgreSQL.

The two databases differ in how they reach into JSON, in LIKE (SQLite's takes no notice of capitals) and in how text is
ordered (PostgreSQL's by language). The small elements below compile to what each needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Float,
    Numeric,
    Text,
    and_,
    literal,
    literal_column,
    not_,
    or_,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from nightmill.backbone.schema import FileRow
from nightmill.backbone.schema.base import UtcDateTime
from nightmill.expressions.terms import (
    COLUMNS,
    Compare,
    Constant,
    Expression,
    Field,
    IsNull,
    Joined,
    Kind,
    Like,
    Not,
    OneOf,
    Term,
)
from nightmill.model.dimensions import KeyType


def to_sql(expression: Expression, row: type[FileRow] = FileRow) -> ColumnElement[bool]:
    """Write an expression as a condition on rows of files.

    Parameters
    ----------
    expression
        What to fulfil.
    row
        The table of files, or an alias of it.
    """
    return _condition(expression.root, row)


def key_value(name: str, kind: KeyType, row: type[FileRow] = FileRow) -> ColumnElement[Any]:
    """Give the value of a key of files, a column or metadata; NULL where that is of another type."""
    return _value(Field(name, name not in COLUMNS), _KINDS[kind], row)


def _condition(term: Term, row: type[FileRow]) -> ColumnElement[bool]:
    match term:
        case Joined():
            join = and_ if term.word == "and" else or_
            return join(*(_condition(each, row) for each in term.terms))
        case Not():
            return not_(_condition(term.term, row))
        case IsNull():
            return _value(term.field, None, row).is_(None)
        case Compare():
            value = _value(term.field, term.kind, row)
            if term.kind is Kind.TEXT and term.operator not in ("==", "!="):
                value = _ByBytes(value)
            return value.operate(_OPERATORS[term.operator], _literal(term.value, term.kind))
        case OneOf():
            value = _value(term.field, term.kind, row)
            return value.in_([_literal(each, term.kind) for each in term.values])
        case Like():
            return _Like(_value(term.field, Kind.TEXT, row), literal(term.pattern, Text), literal(_glob(term.pattern)))


_KINDS: Final[Mapping[KeyType, Kind]] = {
    "str": Kind.TEXT,
    "time": Kind.TEXT,
    "int": Kind.NUMBER,
    "float": Kind.NUMBER,
    "bool": Kind.BOOLEAN,
}
_OPERATORS: Final[Mapping[str, Any]] = {
    "==": operators.eq,
    "!=": operators.ne,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def _literal(value: Constant, kind: Kind) -> ColumnElement[Any]:
    """Bind a constant with a type of its own: that of a column may be too narrow for it."""
    if isinstance(value, datetime):
        return literal(value, UtcDateTime)
    if isinstance(value, bool):
        return literal(value, Boolean)
    if isinstance(value, int):
        return literal(value, BigInteger)
    return literal(value, _Exact if kind is Kind.NUMBER else Text)


class _Exact(TypeDecorator[float]):
    """A number, compared with all of its digits: PostgreSQL would round whole numbers to compare them with a float."""

    impl = Float
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that the database knows."""
        return dialect.type_descriptor(Numeric() if dialect.name == "postgresql" else Float())

    def process_bind_param(self, value: float | None, dialect: Dialect) -> Any:
        """Give the shortest decimal that means the float, as JSON has it."""
        return value if value is None or dialect.name == "sqlite" else Decimal(repr(value))


def _value(field: Field, kind: Kind | None, row: type[FileRow]) -> ColumnElement[Any]:
    """Give a column, or a metadata key as a value of a kind: NULL where it is of another."""
    if not field.metadata:
        column: ColumnElement[Any] = getattr(row, field.name)
        return column
    path = f'$."{field.name}"'
    elements: dict[Kind | None, type[FunctionElement[Any]]]
    elements = {None: _Any, Kind.TEXT: _Text, Kind.NUMBER: _Number, Kind.BOOLEAN: _Truth}
    # a key is an identifier, and stands in the statement itself: only so can an index of its values be used
    return elements[kind](row.attributes, literal_column(f"'{field.name}'", Text), literal_column(f"'{path}'", Text))


def _glob(pattern: str) -> str:
    """Write a LIKE pattern as SQLite's GLOB, in which capitals count."""
    meaning = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(meaning.get(character, character) for character in pattern)


class _Any(FunctionElement[str]):
    """Metadata, key, path: the value as text, of whatever kind; NULL where there is none, or null."""

    type = Text()
    inherit_cache = True


class _Text(FunctionElement[str]):
    """Metadata, key, path: the value where it is text."""

    type = Text()
    inherit_cache = True


class _Number(FunctionElement[float]):
    """Metadata, key, path: the value where it is a number."""

    type = Float()
    inherit_cache = True


class _Truth(FunctionElement[bool]):
    """Metadata, key, path: the value where it is true or false."""

    type = Boolean()
    inherit_cache = True


class _ByBytes(FunctionElement[str]):
    """A text, to be ordered by its code points."""

    type = Text()
    inherit_cache = True


class _Like(FunctionElement[bool]):
    """Value, LIKE pattern, GLOB pattern: whether the value has the pattern, capitals counting."""

    type = Boolean()
    inherit_cache = True


def _arguments(element: FunctionElement[Any], compiler: Any, options: Mapping[str, Any]) -> list[Any]:
    """Give what writes each argument: only those that are written become parameters."""
    return [lambda each=each: compiler.process(each, **options) for each in element.clauses]


@compiles(_Any, "sqlite")
def _any_sqlite(element: _Any, compiler: Any, **options: Any) -> str:
    column, _, path = _arguments(element, compiler, options)
    return f"json_extract({column()}, {path()})"


@compiles(_Any, "postgresql")
def _any_postgresql(element: _Any, compiler: Any, **options: Any) -> str:
    column, key, _ = _arguments(element, compiler, options)
    return f"({column()} ->> {key()})"


def _sqlite_case(kinds: str, value: str) -> Any:
    def write(element: FunctionElement[Any], compiler: Any, **options: Any) -> str:
        column, _, path = _arguments(element, compiler, options)
        extracted = value.format(column=column(), path=path())
        return f"CASE WHEN json_type({column()}, {path()}) IN ({kinds}) THEN {extracted} END"

    return write


def _postgresql_case(kind: str, cast: str) -> Any:
    def write(element: FunctionElement[Any], compiler: Any, **options: Any) -> str:
        column, key, _ = _arguments(element, compiler, options)
        return f"CASE WHEN jsonb_typeof({column()} -> {key()}) = '{kind}' THEN ({column()} ->> {key()}){cast} END"

    return write


_EXTRACTED = "json_extract({column}, {path})"
compiles(_Text, "sqlite")(_sqlite_case("'text'", _EXTRACTED))
compiles(_Number, "sqlite")(_sqlite_case("'integer', 'real'", _EXTRACTED))
compiles(_Truth, "sqlite")(_sqlite_case("'true', 'false'", _EXTRACTED))
compiles(_Text, "postgresql")(_postgresql_case("string", ""))
compiles(_Number, "postgresql")(_postgresql_case("number", "::numeric"))
compiles(_Truth, "postgresql")(_postgresql_case("boolean", "::boolean"))


@compiles(_ByBytes, "sqlite")
def _by_bytes_sqlite(element: _ByBytes, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(_ByBytes, "postgresql")
def _by_bytes_postgresql(element: _ByBytes, compiler: Any, **options: Any) -> str:
    return f'({compiler.process(element.clauses, **options)} COLLATE "C")'


@compiles(_Like, "sqlite")
def _like_sqlite(element: _Like, compiler: Any, **options: Any) -> str:
    value, _, glob = _arguments(element, compiler, options)
    return f"({value()} GLOB {glob()})"


@compiles(_Like, "postgresql")
def _like_postgresql(element: _Like, compiler: Any, **options: Any) -> str:
    value, pattern, _ = _arguments(element, compiler, options)
    return f"({value()} LIKE {pattern()} ESCAPE '')"
