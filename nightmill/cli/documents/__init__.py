"""What verbs print for programs with ``--json``: each a type, whose fields are the keys, in their order.

They change less than what they tell of: a key stays as it is within a major version. Times are UTC; what has no value
is None. :mod:`nightmill.cli.render.output` writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar


@dataclass(frozen=True)
class Document:
    """One of them."""


Kind = TypeVar("Kind", bound=Document)


def told(kind: type[Kind], source: object, **own: object) -> Kind:
    """Make a document of what has attributes of the same names.

    Parameters
    ----------
    own
        Values in the place of attributes: those that are documents themselves, or that the source lacks.
    """
    names = [key.name for key in fields(kind)]
    return kind(**{name: own[name] if name in own else getattr(source, name) for name in names})
