"""Keys: what files are grouped, matched and named by, which are dimensions and the metadata of a site's file types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from nightmill.config.document import Document, Key
from nightmill.errors import BadName, ConfigError, guess
from nightmill.files.computed import type_of
from nightmill.files.name_patterns import name_kinds
from nightmill.model.dimensions import DIMENSIONS, NAME, TIMES, KeyType
from nightmill.model.file_type import FileType

MAX_INDEXED: Final = 40
"""Characters of a key that has an index: PostgreSQL cuts off names after 63 bytes."""
_OWN: Final[Mapping[str, KeyType]] = {
    **{name: "int" if kind is int else "str" for name, kind in DIMENSIONS.items()},
    NAME: "str",
}


def keys_of(file_types: Mapping[str, FileType]) -> dict[str, KeyType]:
    """Return every key that files of these types may have, with the type of its values."""
    found = dict(_OWN)
    for file_type in file_types.values():
        for _where, name, kind in _typed(file_type):
            if name not in TIMES:
                found.setdefault(name, kind)
    return found


def own_kinds(file_type: FileType) -> dict[str, KeyType]:
    """Return the keys that a header or the name gives files of a type, with the type of their values."""
    kinds = {name: type_of(key) for name, key in file_type.metadata.items()}
    try:
        return {**name_kinds(file_type), **kinds}
    except BadName:  # told with its pattern
        return kinds


def _typed(file_type: FileType) -> Iterator[tuple[tuple[str, ...], str, KeyType]]:
    """Yield where a file type gives a key its type, the key, and the type."""
    for name, kind in own_kinds(file_type).items():
        yield ("metadata", name), name, kind
    if file_type.membership is not None:
        for name, kind in file_type.membership.types.items():
            yield ("membership", "columns", name), name, kind


def contradictions(file_types: Mapping[str, FileType]) -> Iterator[tuple[Key, Key, str]]:
    """Yield each key that is of one type in a file type and of another in a later one.

    Yields
    ------
    tuple
        The place that has it first and the later one, both below ``file_types``, and what is wrong.
    """
    first: dict[str, tuple[Key, KeyType]] = {}
    for called, file_type in file_types.items():
        for where, name, kind in _typed(file_type):
            place: Key = (called, *where)
            before, wanted = first.setdefault(name, (place, kind))
            if kind != wanted:
                yield before, place, f"{name} is of type {kind}, and in file type {before[0]!r} of type {wanted}"


def indexed_keys(
    names: Iterable[str], file_types: Mapping[str, FileType], document: Document, errors: list[ConfigError]
) -> dict[str, KeyType]:
    """Return the keys that a site wants an index of, with their types; add what is wrong with their names to errors."""
    keys = {name: kind for name, kind in keys_of(file_types).items() if name not in (*DIMENSIONS, NAME)}
    for number, name in enumerate(names):
        where = document.where(("indexed", number))
        if name in DIMENSIONS or name == NAME:
            errors.append(ConfigError(f"indexed: {name!r} is a column, which has its index", where=where))
        elif name not in keys:
            near = guess(name, list(keys)) or f" (there is {', '.join(keys) or 'none'})"
            errors.append(ConfigError(f"indexed: {name!r} is not a key of any file type{near}", where=where))
        elif len(name) > MAX_INDEXED:
            errors.append(ConfigError(f"indexed: {name!r} has more than {MAX_INDEXED} characters", where=where))
    return {name: keys[name] for name in names if name in keys}
