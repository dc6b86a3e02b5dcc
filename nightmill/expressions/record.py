"""Expressions carried out in Python, on files that are not in the catalogue yet."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from nightmill.expressions.terms import (
    Compare,
    Expression,
    Field,
    IsNull,
    Joined,
    Kind,
    Like,
    Not,
    OneOf,
    Term,
    kind_of,
)

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluate(expression: Expression, record: Mapping[str, object]) -> bool:
    """Say whether a file fulfils an expression, exactly as the database would.

    Parameters
    ----------
    expression
        What to fulfil.
    record
        The columns of the file by their names (times aware), and its metadata as a mapping under ``metadata``; what is
        not there is as good as None.
    """
    return _truth(expression.root, record) is True


def _truth(term: Term, record: Mapping[str, object]) -> bool | None:
    match term:
        case Joined():
            return _joined(term.word, [_truth(each, record) for each in term.terms])
        case Not():
            inner = _truth(term.term, record)
            return None if inner is None else not inner
        case IsNull():
            return _value(term.field, record) is None
        case Compare():
            value = _typed(term.field, term.kind, record)
            return None if value is None else _COMPARE[term.operator](value, term.value)
        case OneOf():
            value = _typed(term.field, term.kind, record)
            return None if value is None else value in term.values
        case Like():
            value = _typed(term.field, Kind.TEXT, record)
            return None if value is None else bool(_regex(term.pattern).fullmatch(str(value)))


def _joined(word: str, truths: Sequence[bool | None]) -> bool | None:
    decisive = word == "or"
    if decisive in truths:
        return decisive
    return None if None in truths else not decisive


def _value(field: Field, record: Mapping[str, object]) -> object:
    if not field.metadata:
        return record.get(field.name)
    metadata = record.get("metadata")
    return metadata.get(field.name) if isinstance(metadata, Mapping) else None


def _typed(field: Field, kind: Kind, record: Mapping[str, object]) -> object:
    value = _value(field, record)
    if not field.metadata:
        return value
    if not isinstance(value, str | int | float | bool):
        return None
    return value if kind_of(value) is kind else None


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    """Write a LIKE pattern as one that takes each part between two ``%`` where it first occurs, and never looks back.

    That is enough, since a later place leaves less for what follows; and it keeps the time to match in proportion to
    the lengths of text and pattern, where ``.*a.*a.*a`` would try every choice of places.
    """
    first, *middle = ("".join("." if each == "_" else re.escape(each) for each in part) for part in pattern.split("%"))
    last = f".*{middle.pop()}" if middle else ""
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + last, re.DOTALL)
