"""What verbs print for programs with ``--json``: each a type, whose fields are the keys, in their order.

They change less than what they tell of: a key stays as it is within a major version. Times are UTC; what has no value
is None. :mod:`nightmill.cli.render.output` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Document:
    """One of them."""


Kind = TypeVar("Kind", bound=Document)


def told(kind: type[Kind], source: object, **own: object) -> Kind:
    """Make a document of what has attributes of the same names; where these are to be documents, they become such.

    Parameters
    ----------
    own
        Values in the place of attributes: those that are called otherwise, or that the source lacks.
    """
    parts, values = _parts(cast(type, kind)), {}
    for key in fields(kind):
        value: Any = own[key.name] if key.name in own else getattr(source, key.name)
        if key.name in parts and value is not None:
            part, is_list = parts[key.name]
            value = [_part(part, each) for each in value] if is_list else _part(part, value)
        values[key.name] = value
    return kind(**values)


@cache
def _parts(kind: type) -> Mapping[str, tuple[type[Document], bool]]:
    """Return the keys of a document whose values are documents, with their type and whether they are lists of them."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        for each in (hint, *get_args(hint)):
            if isinstance(each, type) and issubclass(each, Document) and get_origin(hint) is not Mapping:
                found[name] = each, get_origin(hint) is Sequence
    return found


def _part(kind: type[Document], value: object) -> Document:
    return value if isinstance(value, Document) else told(kind, value)
