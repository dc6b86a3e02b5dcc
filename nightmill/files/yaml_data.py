"""YAML that others wrote, as plain data: nothing in it is made to anything but mappings, lists and scalars.

Scalars are those of YAML 1.2: ``no`` is a text, ``1e3`` a number, ``12:30:00`` and a date are texts. A tag says nothing
here: what it stands before is read as it is written, but for ``!!omap``, which is a mapping.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

MAX_VALUES: Final = 200_000
"""Of a document with its aliases written out."""
MAX_DEPTH: Final = 50

RESOLVERS: Final = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)
"""What a plain scalar is: kind, how all of it looks, and the characters that it may begin with."""
SCALARS: Final = {name: re.compile(rf"(?:{pattern})\Z") for name, pattern, _ in RESOLVERS}

Plain = Any
"""Mappings with text keys, lists, texts, numbers, truth values, None."""

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OMAP: Final = "tag:yaml.org,2002:omap"
_MAX_DIGITS: Final = 1000


class _Open:
    """A mapping or list whose end was not read yet."""

    def __init__(self, event: yaml.CollectionStartEvent) -> None:
        self.plain: Plain = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.anchor, self.ordered = event.anchor, event.tag == _OMAP
        self.key: str | None = None
        self.values = 1

    def add(self, value: Plain, written: str | None, values: int) -> None:
        """Put in what was read next; ``written`` is the text of a scalar."""
        self.values += values
        if isinstance(self.plain, list):
            self.plain.append(value)
        elif self.key is not None:
            self.plain[self.key], self.key = value, None
        elif written is None:
            raise ValueError("a key is not a text")
        elif written in self.plain:
            raise ValueError(f"the key {written!r} is given twice")
        else:
            self.key = written

    def whole(self) -> Plain:
        """Return what it is, now that its end was read."""
        if not self.ordered or not all(isinstance(each, dict) for each in self.plain):
            return self.plain
        return {key: value for each in self.plain for key, value in each.items()}


def read_yaml(text: str) -> Plain:
    """Read one document; None for one that is empty.

    Raises
    ------
    ValueError
        Where it is not YAML, several documents, nested too deeply or has too many values; with the line.
    """
    event: yaml.Event | None = None
    try:
        reading = _Reading()
        for event in yaml.parse(text, Loader=_Loader):
            reading.take(event)
    except yaml.MarkedYAMLError as error:
        line = getattr(error.problem_mark, "line", 0) + 1
        raise ValueError(f"line {line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:  # a character that is none
        raise ValueError(" ".join(str(error).split())) from error
    except ValueError as error:
        line = event.start_mark.line + 1 if event is not None and event.start_mark is not None else 1
        raise ValueError(f"line {line}: {error}") from error
    return reading.plain


class _Reading:
    """Makes plain data of events, without ever calling itself."""

    def __init__(self) -> None:
        self.plain: Plain = None
        self.documents = 0
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Plain, int]] = {}

    def take(self, event: yaml.Event) -> None:
        """Take the next event."""
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise ValueError("a second document begins, and one is read")
            case yaml.CollectionStartEvent():
                if len(self.open) == MAX_DEPTH:
                    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
                self.open.append(_Open(event))
            case yaml.CollectionEndEvent():
                ended = self.open.pop()
                self.add(ended.whole(), None, ended.values, ended.anchor)
            case yaml.AliasEvent():
                if event.anchor not in self.anchors:
                    raise ValueError(f"the alias *{event.anchor} stands for nothing that ends before it")
                value, values = self.anchors[event.anchor]
                self.add(value, value if isinstance(value, str) else None, values, None)
            case yaml.ScalarEvent():
                plain = event.implicit[0] and not event.tag
                self.add(_scalar(event.value) if plain else event.value, event.value, 1, event.anchor)
            case _:
                pass

    def add(self, value: Plain, written: str | None, values: int, anchor: str | None) -> None:
        """Put a value where it belongs."""
        if anchor:
            self.anchors[anchor] = value, values
        if not self.open:
            self.plain = value
            return
        self.open[-1].add(value, written, values)
        if self.open[-1].values > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} values")


def _scalar(text: str) -> Plain:
    """Return what a plain scalar stands for."""
    kind = next((name for name, pattern in SCALARS.items() if pattern.match(text)), "")
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) <= _MAX_DIGITS:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        case "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        case _:
            return text
