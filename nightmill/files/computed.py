"""Metadata that is computed from other metadata: a few named functions, never ``eval``.

A file type writes ``compute: "night_of(begins_at, -70.8)"``: the name of a function, and arguments that are names of
other keys of the type, numbers or texts.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from nightmill.errors import ConfigError, guess
from nightmill.files.naming import slug
from nightmill.model.dimensions import KeyType
from nightmill.model.file_type import MetadataKey

Value = str | int | float | bool | datetime
Constant = str | int | float

_MAX_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class Function:
    """A function that file types may name.

    Parameters
    ----------
    takes
        The kinds of each argument that are accepted; None for any number of arguments of any kind but time.
    gives
        The kind of its result.
    """

    run: Callable[..., Value]
    takes: tuple[tuple[KeyType, ...], ...] | None
    gives: KeyType


@dataclass(frozen=True, slots=True)
class Key:
    """An argument that is another key of the type."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    text: str
    function: Function
    arguments: tuple[Key | Constant, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it needs."""
        return tuple(argument.name for argument in self.arguments if isinstance(argument, Key))

    def __call__(self, values: Mapping[str, Value]) -> Value | None:
        """Compute the value; None where a key that it needs has none.

        Raises
        ------
        ValueError
            Where there is no result, as of a negative exposure time, or a time beyond the year 9999.
        """
        given = [values.get(each.name) if isinstance(each, Key) else each for each in self.arguments]
        if any(each is None for each in given):
            return None
        try:
            return self.function.run(*given)
        except OverflowError as error:
            raise ValueError(f"{self.text} is out of range ({self._shown(given)})") from error
        except ValueError as error:
            raise ValueError(f"{self.text} is not possible ({self._shown(given)}): {error}") from error

    def _shown(self, given: Sequence[object]) -> str:
        of_keys = [(each, value) for each, value in zip(self.arguments, given, strict=True) if isinstance(each, Key)]
        return ", ".join([f"{each.name}: {value}" for each, value in of_keys])


def end_of(begins_at: datetime, seconds: float) -> datetime:
    """Return the time at which an exposure ends that begins at a time and takes so many seconds."""
    return begins_at + _lasting(seconds)


def mid_of(begins_at: datetime, seconds: float) -> datetime:
    """Return the middle of an exposure that begins at a time and takes so many seconds."""
    return begins_at + _lasting(seconds) / 2


def _lasting(seconds: float) -> timedelta:
    if seconds < 0:
        raise ValueError("nothing takes less than no time")
    return timedelta(seconds=seconds)


def night_of(time: datetime, longitude_east_degrees: float) -> int:
    """Return the local night of a time, named by the date on which it begins: YYYYMMDD.

    A night lasts from noon to noon of the local mean solar time.
    """
    begins = time + timedelta(hours=longitude_east_degrees / 15 - 12)
    return begins.year * 10_000 + begins.month * 100 + begins.day


def concat(*parts: str | int | float | bool) -> str:
    """Write values after each other as one text."""
    return "".join([str(part) for part in parts])


FUNCTIONS: Final[Mapping[str, Function]] = {
    "end_of": Function(end_of, (("time",), ("int", "float")), "time"),
    "mid_of": Function(mid_of, (("time",), ("int", "float")), "time"),
    "night_of": Function(night_of, (("time",), ("int", "float")), "int"),
    "concat": Function(concat, None, "str"),
    "slug": Function(slug, (("str",),), "str"),
}


@lru_cache(maxsize=1024)
def parse_call(text: str) -> Call:
    """Parse a ``compute`` expression.

    Raises
    ------
    ConfigError
        Where it is not a call of a known function with keys, numbers and texts as its arguments.
    """
    if len(text) > _MAX_LENGTH:  # Python's parser recurses
        raise _wrong(text[:40] + "...", f"has more than {_MAX_LENGTH} characters")
    text = text.strip()
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _wrong(text, "cannot be read") from error
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
        raise _wrong(text, "is not one call of a function")
    function = FUNCTIONS.get(node.func.id)
    if function is None:
        raise _wrong(text, f"calls {node.func.id!r}, which is not a function{guess(node.func.id, list(FUNCTIONS))}")
    if function.takes is not None and len(node.args) != len(function.takes):
        raise _wrong(text, f"gives {len(node.args)} arguments to {node.func.id}, which takes {len(function.takes)}")
    return Call(text, function, tuple([_argument(text, each) for each in node.args]))


def type_of(key: MetadataKey) -> KeyType:
    """Return what the values of a metadata key are; where its ``compute`` cannot be read, a text."""
    if not key.compute:
        return key.type
    try:
        return parse_call(key.compute).function.gives
    except ConfigError:
        return "str"


def check_call(call: Call, kinds: Mapping[str, KeyType]) -> None:
    """Check the arguments of a call against the kinds of a file type's keys.

    Raises
    ------
    ConfigError
        Where it names a key that the type does not have, or one of the wrong kind.
    """
    for number, argument in enumerate(call.arguments):
        if isinstance(argument, Key):
            if argument.name not in kinds:
                near = guess(argument.name, list(kinds))
                raise _wrong(call.text, f"needs {argument.name!r}, which is not metadata of this type{near}")
            kind: str = kinds[argument.name]
        else:
            kind = type(argument).__name__
        takes = call.function.takes
        wanted = takes[number] if takes is not None else ("str", "int", "float", "bool")
        if kind not in wanted:
            shown = argument.name if isinstance(argument, Key) else repr(argument)
            raise _wrong(call.text, f"gives {shown}, of type {kind}, where {' or '.join(wanted)} is wanted")


def _argument(text: str, node: ast.expr) -> Key | Constant:
    match node:
        case ast.Name(id=name):
            return Key(name)
        case ast.Constant(value=str() | int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case _:
            written = ast.get_source_segment(text, node)
            raise _wrong(text, f"has the argument {written!r}, which is neither a key, a number nor a text")


def _wrong(text: str, how: str) -> ConfigError:
    return ConfigError(f"compute {text!r} {how}", remedy="write it as night_of(begins_at, -70.8)")
