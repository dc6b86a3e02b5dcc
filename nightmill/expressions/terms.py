"""What a parsed expression is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from nightmill.model.dimensions import DIMENSIONS, TIMES

Constant = str | int | float | bool | datetime


class Kind(StrEnum):
    """What the values of a column or a constant are."""

    TEXT = "text"
    INTEGER = "whole number"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"


COLUMNS: Final[Mapping[str, Kind]] = {
    **{name: Kind.INTEGER if kind is int else Kind.TEXT for name, kind in DIMENSIONS.items()},
    **dict.fromkeys(TIMES, Kind.TIME),
    "name": Kind.TEXT,
    "original_name": Kind.TEXT,
    "type": Kind.TEXT,
    "origin": Kind.TEXT,
    "size_bytes": Kind.INTEGER,
    "registered_at": Kind.TIME,
}
"""The names that are columns of a file, with what their values are."""


@dataclass(frozen=True)
class Field:
    """A name: a column of the file, or a key of its metadata."""

    name: str
    metadata: bool


@dataclass(frozen=True)
class Compare:
    """A field, one of ``== != < <= > >=``, and a constant of the given kind."""

    field: Field
    operator: str
    value: Constant
    kind: Kind


@dataclass(frozen=True)
class OneOf:
    """A field and the constants, all of one kind, of which it must be one."""

    field: Field
    values: tuple[Constant, ...]
    kind: Kind


@dataclass(frozen=True)
class Like:
    """A field and a pattern in which ``%`` is any text and ``_`` any one character; capitals count."""

    field: Field
    pattern: str


@dataclass(frozen=True)
class IsNull:
    """A field that has no value."""

    field: Field


@dataclass(frozen=True)
class Not:
    """The contrary of a term."""

    term: Term


@dataclass(frozen=True)
class Joined:
    """Several terms, joined with ``and`` or with ``or``."""

    word: str
    terms: tuple[Term, ...]


Term = Compare | OneOf | Like | IsNull | Not | Joined


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes
    ----------
    text
        As it was written.
    root
        Its terms.
    names
        The columns and metadata keys (the latter as ``metadata.KEY``) that it speaks of.
    """

    text: str
    root: Term
    names: frozenset[str]


def kind_of(value: str | float | bool) -> Kind:
    """Say what a value of metadata, or a constant, is."""
    if isinstance(value, str):
        return Kind.TEXT
    return Kind.BOOLEAN if isinstance(value, bool) else Kind.NUMBER
