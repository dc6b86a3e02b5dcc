"""From text to terms."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Final, NoReturn

from nightmill.errors import ExpressionError, guess
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
    kind_of,
)
from nightmill.model.origin import Origin

MAX_LENGTH: Final = 20_000
MAX_DEPTH: Final = 20
"""SQLite before 3.46 has room for some 30 levels of brackets, less those of the query around."""
MAX_TERMS: Final = 500
MAX_PATTERN: Final = 1000
"""Characters of a pattern: SQLite refuses those of more than some 50,000 bytes."""


def parse(text: str, *, metadata_keys: Collection[str] | None = None) -> Expression:
    """Parse an expression.

    Parameters
    ----------
    text
        The expression; line breaks count as blanks.
    metadata_keys
        The keys that files' metadata may have: any other bare name is then an error with a guess. ``None`` accepts
        every name; ``metadata.NAME`` always does.

    Raises
    ------
    ExpressionError
        Where it is not of the grammar, or compares a column with what its values never are; says where and what to
        write instead.
    """
    return _Parser(text, metadata_keys).parse()


_OPERATORS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_INT64: Final = range(-(2**63), 2**63)
_TOO_DEEP: Final = f"the expression is nested deeper than {MAX_DEPTH} levels"
_PREFIXES: Final = re.compile(rf"(?:(?:not\b|[-+~])\s*){{{MAX_DEPTH + 1}}}")
_GRAMMAR: Final = (
    'write comparisons such as night == 20260110, detector in [1, 2], like(name, "x%") or band is None, '
    "joined with and, or, not"
)


class _Parser:
    def __init__(self, text: str, metadata_keys: Collection[str] | None) -> None:
        self.text = re.sub(r"[\r\n]", " ", text).rstrip()
        self.metadata_keys = metadata_keys
        self.names: set[str] = set()
        self.terms = 0

    def parse(self) -> Expression:
        if not self.text.strip():
            self.refuse("the expression is empty", 0, _GRAMMAR)
        if len(self.text) > MAX_LENGTH:
            raise ExpressionError(
                f"the expression has {len(self.text)} characters, more than {MAX_LENGTH}",
                text=self.text[:60] + " ...",
                remedy="join long lists with 'nightmill sql --upload'",
            )
        source = self.text.lstrip()
        self.offset = len(self.text) - len(source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source, mode="eval")
        except SyntaxError as error:
            column = self.offset + max((error.offset or 1) - 1, 0)
            self.refuse(f"the expression cannot be read: {error.msg}", min(column, len(self.text)), _hint(source))
        except (MemoryError, RecursionError):
            prefixes = _PREFIXES.search(self.text)
            self.refuse(_TOO_DEEP, prefixes.end() if prefixes else self.offset)
        except ValueError as error:
            self.refuse(f"the expression cannot be read: {error}", self.offset, _GRAMMAR)
        self.encoded = source.encode()
        self.refuse_depth(tree.body)
        return Expression(self.text.strip(), self.term(tree.body), frozenset(self.names))

    def refuse_depth(self, root: ast.expr) -> None:
        """Refuse what is nested so deeply that to walk through it could end in a RecursionError, here or later."""
        level = [root]
        for _ in range(MAX_DEPTH + 1):
            level = [each for node in level for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
        if level:
            self.refuse(_TOO_DEEP, level[0])

    def term(self, node: ast.expr) -> Term:
        match node:
            case ast.BoolOp():
                word = "and" if isinstance(node.op, ast.And) else "or"
                return Joined(word, tuple(self.term(value) for value in node.values))
            case ast.UnaryOp(op=ast.Not()):
                return Not(self.term(node.operand))
            case ast.Compare():
                return self.comparison(node)
            case ast.Call(func=ast.Name(id="like"), args=[subject, pattern], keywords=[]):
                return self.like(node, subject, pattern)
            case ast.Call(func=ast.Name(id="like")):
                self.refuse("like takes a name and a pattern", node, 'write like(name, "c4d_%")')
            case ast.Name() | ast.Attribute():
                written = self.excerpt(node)
                self.refuse(f"{written} stands alone", node, f"compare it with something: {written} == True")
            case _:
                self.refuse(f"{self.excerpt(node)} is not a comparison", node, _GRAMMAR)

    def comparison(self, node: ast.Compare) -> Term:
        sides = [node.left, *node.comparators]
        links = [
            self.link(node, left, link, right) for left, link, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        return links[0] if len(links) == 1 else Joined("and", tuple(links))

    def link(self, whole: ast.Compare, left: ast.expr, link: ast.cmpop, right: ast.expr) -> Term:
        self.count(whole)
        if isinstance(link, ast.In | ast.NotIn):
            found = self.one_of(left, right)
            return found if isinstance(link, ast.In) else Not(found)
        if isinstance(link, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                self.refuse("'is' compares with None only", right, "write == instead of is")
            missing = IsNull(self.field(left))
            return missing if isinstance(link, ast.Is) else Not(missing)
        sign = _OPERATORS[type(link)]
        if _is_field(right) and not _is_field(left):
            left, right, sign = right, left, _MIRRORED[sign]
        field = self.field(left)
        value, kind = self.constant(field, right)
        if kind is Kind.BOOLEAN and sign not in ("==", "!="):
            self.refuse(f"{sign} has no meaning for True and False", right, "compare with == or !=")
        return Compare(field, sign, value, kind)

    def one_of(self, left: ast.expr, right: ast.expr) -> OneOf:
        field = self.field(left)
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            self.refuse(f"{self.excerpt(right)} is not a list", right, f"write {field.name} in [1, 2]")
        if not right.elts:
            self.refuse("nothing is in an empty list", right)
        values = [self.constant(field, item) for item in right.elts]
        kinds = {kind for _, kind in values}
        if len(kinds) > 1:
            self.refuse("the values of one list are of different types", right, "join two lists with or")
        return OneOf(field, tuple(value for value, _ in values), kinds.pop())

    def like(self, node: ast.Call, subject: ast.expr, pattern: ast.expr) -> Like:
        self.count(node)
        field = self.field(subject)
        kind = Kind.TEXT if field.metadata else COLUMNS[field.name]
        if kind is not Kind.TEXT:
            self.refuse(
                f"{field.name} is a {kind}, and like compares text", subject, f"compare it: {field.name} == ..."
            )
        value = self.value(pattern)
        if not isinstance(value, str):
            self.refuse("a pattern is text", pattern, 'write like(name, "c4d_%")')
        if len(value) > MAX_PATTERN:
            self.refuse(f"the pattern has {len(value)} characters, more than {MAX_PATTERN}", pattern)
        return Like(field, value)

    def field(self, node: ast.expr) -> Field:
        match node:
            case ast.Name(id=name) if name in COLUMNS:
                self.names.add(name)
                return Field(name, metadata=False)
            case ast.Name(id=name):
                if self.metadata_keys is not None and name not in self.metadata_keys:
                    known = sorted({*COLUMNS, *self.metadata_keys})
                    self.refuse(
                        f"nothing is named {name!r}{guess(name, known)}",
                        node,
                        f"write metadata.{name} for a key of no file type, or one of {', '.join(known)}",
                    )
            case ast.Attribute(value=ast.Name(id="metadata"), attr=name):
                pass
            case ast.Constant():
                self.refuse(f"{self.excerpt(node)} is a constant on either side", node, "name what it is compared with")
            case _:
                self.refuse(f"{self.excerpt(node)} is not a name", node, _GRAMMAR)
        self.names.add(f"metadata.{name}")
        return Field(name, metadata=True)

    def value(self, node: ast.expr) -> str | int | float | bool:
        sign = 1
        inner = node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign = -1 if isinstance(node.op, ast.USub) else 1
            inner = node.operand
        if not isinstance(inner, ast.Constant) or (inner is not node and isinstance(inner.value, bool | str)):
            self.refuse(f"{self.excerpt(node)} is not a constant", node, "a name is compared with a constant only")
        value = inner.value
        if value is None:
            self.refuse("nothing equals None", node, "write 'is None' or 'is not None'")
        if isinstance(value, str):
            if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
                self.refuse("the text holds characters that no value can have", node)
            return value
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and sign * value in _INT64:
            return sign * value
        if isinstance(value, float) and math.isfinite(value):
            return sign * value
        self.refuse(
            f"{self.excerpt(node)} is not a value that a file can have", node, "use text, a number, True or False"
        )

    def constant(self, field: Field, node: ast.expr) -> tuple[Constant, Kind]:
        value = self.value(node)
        given = kind_of(value)
        if field.metadata:
            return value, given
        wanted = COLUMNS[field.name]
        if wanted is Kind.TIME and isinstance(value, str):
            return self.time(field, value, node), wanted
        if wanted is Kind.INTEGER and isinstance(value, float) and value.is_integer() and int(value) in _INT64:
            return int(value), wanted
        if wanted is Kind.INTEGER and isinstance(value, int) and given is Kind.NUMBER:
            return value, wanted
        if wanted is not given:
            self.refuse(
                f"{field.name} is a {wanted}, and {self.excerpt(node)} is not", node, _remedy(field.name, wanted, value)
            )
        if field.name == "origin" and value not in list(Origin):
            origins = [member.value for member in Origin]
            self.refuse(f"no origin is {value!r}{guess(str(value), origins)}", node, f"it is {', '.join(origins)}")
        return value, wanted

    def time(self, field: Field, text: str, node: ast.expr) -> datetime:
        try:
            time = datetime.fromisoformat(text)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            self.refuse(f"{field.name} is a time, and {text!r} is not", node, 'write it as "2026-01-10T03:12:45" (UTC)')

    def count(self, node: ast.expr) -> None:
        self.terms += 1
        if self.terms > MAX_TERMS:
            self.refuse(
                f"the expression has more than {MAX_TERMS} comparisons", node, "use one list: exposure in [...]"
            )

    def refuse(self, message: str, where: ast.expr | int, remedy: str = "") -> NoReturn:
        column = where if isinstance(where, int) else self.column(where)
        raise ExpressionError(message, text=self.text, column=column, remedy=remedy)

    def excerpt(self, node: ast.expr) -> str:
        """Give what was written for a node, cut short."""
        text = self.encoded[node.col_offset : node.end_col_offset].decode()
        return text if len(text) <= 40 else text[:37] + "..."

    def column(self, node: ast.expr) -> int:
        return self.offset + len(self.encoded[: node.col_offset].decode())


def _is_field(node: ast.expr) -> bool:
    return isinstance(node, ast.Name | ast.Attribute)


def _remedy(name: str, wanted: Kind, value: object) -> str:
    if wanted is Kind.INTEGER and isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        return f"write it without quotes: {name} == {value.strip()}"
    if wanted is Kind.TEXT:
        return f'write it in quotes: {name} == "{value}"'
    if wanted is Kind.TIME:
        return f'write a time: {name} >= "2026-01-10T03:12:45"'
    return f"write a whole number: {name} == 12"


def _hint(source: str) -> str:
    code = re.sub(r"\"[^\"]*\"|'[^']*'", '""', source)
    if re.search(r"(?<![=!<>])=(?!=)", code):
        return "write == to compare"
    if "<>" in code:
        return "write != for unequal"
    if re.search(r"\b(AND|OR|NOT|IN|IS|NULL)\b", code) or "&&" in code or "||" in code:
        return "write and, or, not, in, is None in small letters"
    return _GRAMMAR
