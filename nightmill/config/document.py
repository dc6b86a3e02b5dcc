"""YAML documents: plain data, with the place of each key, and everything that is wrong with one told at once.

What is not in here is refused: documents over 1 MiB, text that is not UTF-8 or holds a NUL, duplicate keys, tags,
aliases that blow up, numbers that are not finite or take more than 64 bits. Scalars are those of YAML 1.2: ``no`` is a
text, ``1e3`` a number, ``12:30:00`` a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from nightmill.errors import ConfigError, ConfigErrors
from nightmill.files.yaml_data import RESOLVERS, SCALARS

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 50
MAX_NODES: Final = 200_000
"""Of a document with its aliases written out: a real one of 1 MiB has fewer."""

Plain = Any
"""What YAML holds: mappings with text keys, lists, texts, numbers, booleans, None."""
Key = tuple[str | int, ...]
"""The way to a value: keys of mappings, and positions in lists."""

_TAG: Final = "tag:yaml.org,2002:"
_Loader: type[Any] = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {"yaml_implicit_resolvers": {}})
for _name, _, _first in RESOLVERS:
    _Loader.add_implicit_resolver(_TAG + _name, SCALARS[_name], _first)
_INT64: Final = range(-(1 << 63), 1 << 63)
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
_SHOWN_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was read.

    Parameters
    ----------
    data
        Its content: a mapping.
    name
        How messages call it: its path as it was given.
    lines
        The line of each key, counted from 1.
    """

    data: Mapping[str, Plain]
    name: str
    lines: Mapping[Key, int]

    def line(self, key: Key) -> int:
        """Return the line of a key, or of the nearest one around it."""
        for length in range(len(key), 0, -1):
            if (line := self.lines.get(key[:length])) is not None:
                return line
        return 1

    def where(self, key: Key) -> str:
        """Return ``file:line`` of a key, or of the nearest one around it."""
        return f"{self.name}:{self.line(key)}"


def load_document(path: Path, named_at: str = "") -> Document:
    """Read a YAML document.

    Parameters
    ----------
    named_at
        ``file:line`` of the document that names this one, for the message where it cannot be read.

    Raises
    ------
    ConfigError
        Where it cannot be read, is too large, not UTF-8, no YAML, or no mapping; with file and line.
    ConfigErrors
        The same for several duplicate keys or unfit values, all of them.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{name} is not there", where=named_at, remedy=_nearby(path)) from error
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror or error}", where=named_at) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"{name} is larger than {MAX_BYTES:,} bytes",
            where=named_at,
            remedy="no configuration is; lists of files belong in the catalogue",
        )
    return parse_document(raw, name)


def parse_document(raw: bytes, name: str) -> Document:
    """Parse the bytes of a YAML document; ``name`` stands for it in messages.

    Raises
    ------
    ConfigError, ConfigErrors
        As :func:`load_document`.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"it is not UTF-8 (byte {raw[error.start]:#04x})", where=f"{name}:{line}", remedy="save it as UTF-8"
        ) from error
    reader = _Reader(name)
    data = reader.read(text)
    if not isinstance(data, dict):
        what = "empty" if data is None else f"a {kind_of(data)}"
        raise ConfigError(f"the document is {what} and should be a mapping of keys to values", where=f"{name}:1")
    return Document(data, name, reader.lines)


def parse_value(text: str, where: str) -> Plain:
    """Parse one YAML value, as it is given on a command line.

    Raises
    ------
    ConfigError
        Where it is not YAML; ``where`` says where it was given.
    """
    try:
        return _Reader("value").read(text)
    except ConfigError as error:
        told = error.errors[0] if isinstance(error, ConfigErrors) else error
        why = told.message.removeprefix(f"{told.where}: ")
        raise ConfigError(f"the value {text!r} cannot be read: {why}", where=where, remedy=told.remedy) from error


def kind_of(value: Plain) -> str:
    """Name the kind of a plain value, as messages do."""
    kinds = {dict: "mapping", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "empty value")


def shortened(text: str) -> str:
    """Cut a text to the length that messages bear."""
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "..."


def dotted(key: Key) -> str:
    """Write a key as people do: ``stages.bias.steps[0]``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def leaves(data: Plain, key: Key = ()) -> Iterator[tuple[Key, Plain]]:
    """Yield every value that is not a mapping (lists whole) with the way to it."""
    if not isinstance(data, dict):
        yield key, data
        return
    for name, value in data.items():
        yield from leaves(value, (*key, name))


class _Reader:
    """Turns the nodes of one document to plain data, and keeps their lines and what is wrong with them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Key, int] = {}
        self.errors: list[ConfigError] = []
        self.nodes = 0
        self.inside: set[int] = set()

    def read(self, text: str) -> Plain:
        try:
            self.refuse_depth(text)
            node = yaml.compose(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise self.syntax(error, text) from error
        data = None if node is None else self.plain(node, ())
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else ConfigErrors(self.errors)
        return data

    def refuse_depth(self, text: str) -> None:
        """Refuse what is nested too deeply, before anything recursive looks at it."""
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise self.wrong(event, f"it is nested more than {MAX_DEPTH} levels deep")

    def plain(self, node: yaml.Node, key: Key) -> Plain:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.wrong(node, f"it has more than {MAX_NODES:,} values once its aliases are written out")
        self.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, key)
        if id(node) in self.inside:
            raise self.wrong(node, f"{dotted(key)} contains itself")
        self.inside.add(id(node))
        try:
            if node.tag == _TAG + "map" and isinstance(node, yaml.MappingNode):
                return self.mapping(node, key)
            if node.tag == _TAG + "seq":
                return [self.plain(item, (*key, number)) for number, item in enumerate(node.value)]
        finally:
            self.inside.discard(id(node))
        return self.tag(node)

    def mapping(self, node: yaml.MappingNode, key: Key) -> Plain:
        data: dict[str, Plain] = {}
        merged: dict[str, Plain] = {}
        # What is merged comes first, so that the lines of keys that replace it are theirs.
        for name_node, value_node in sorted(node.value, key=lambda pair: pair[0].tag != _TAG + "merge"):
            if name_node.tag == _TAG + "merge":
                value = self.plain(value_node, key)
                for part in value if isinstance(value, list) else [value]:
                    if not isinstance(part, dict):
                        self.errors.append(self.wrong(value_node, "'<<' takes a mapping, or a list of them"))
                        break
                    for inherited, each in part.items():
                        merged.setdefault(inherited, each)
                continue
            name = self.scalar(name_node, key) if isinstance(name_node, yaml.ScalarNode) else None
            if not isinstance(name, str):
                written = f" {name_node.value!r}" if isinstance(name_node, yaml.ScalarNode) else ""
                self.errors.append(self.wrong(name_node, f"the key{written} is not text", "put it in quotes"))
                continue
            own = (*key, name)
            if name in data:
                first = self.lines[own]
                self.errors.append(
                    self.wrong(name_node, f"{dotted(own)} is given twice (first on line {first})", "keep one of them")
                )
                continue
            self.lines[own] = name_node.start_mark.line + 1
            data[name] = self.plain(value_node, own)
        return {**merged, **data}

    def scalar(self, node: yaml.ScalarNode, key: Key) -> Plain:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if unfit := _UNFIT.search(text):
            self.errors.append(
                self.wrong(node, f"{dotted(key)} holds the character U+{ord(unfit[0]):04X}", "leave it out")
            )
        if kind in SCALARS and not SCALARS[kind].match(text):
            return self.tag(node)  # as in !!int five
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                # Python refuses to read thousands of digits.
                whole = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) < 1000 else _INT64.stop
                if whole not in _INT64:
                    self.number(node, key, "a whole number of at most 64 bits")
                return whole
            case "float":
                value = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
                if not math.isfinite(value):
                    self.number(node, key, "a finite number")
                return value
            case _:
                return self.tag(node)

    def number(self, node: yaml.ScalarNode, key: Key, wanted: str) -> None:
        """Refuse a number that is none that everything else can hold."""
        what = f"{dotted(key) or 'the value'} is {shortened(node.value)}, not {wanted}"
        self.errors.append(self.wrong(node, what))

    def tag(self, node: yaml.Node) -> None:
        """Refuse what YAML alone does not know."""
        self.errors.append(self.wrong(node, f"the tag {node.tag.replace(_TAG, '!!')!r} is not known", "leave it out"))

    def wrong(self, at: yaml.Node | yaml.Event, message: str, remedy: str = "") -> ConfigError:
        line = at.start_mark.line + 1 if at.start_mark is not None else 1
        return ConfigError(message, where=f"{self.name}:{line}", remedy=remedy)

    def syntax(self, error: yaml.YAMLError, text: str) -> ConfigError:
        if isinstance(error, yaml.reader.ReaderError):
            line = text.encode()[: error.position].count(b"\n") + 1
            return ConfigError(
                f"it holds the character U+{error.character:04X}", where=f"{self.name}:{line}", remedy="leave it out"
            )
        assert isinstance(error, yaml.MarkedYAMLError)
        line = getattr(error.problem_mark, "line", 0)
        parts = [part for part in (error.context, error.problem) if part]
        lines = text.splitlines()
        indented = lines[line][: len(lines[line]) - len(lines[line].lstrip())] if line < len(lines) else ""
        return ConfigError(
            f"it is not YAML: {', '.join(parts)}",
            where=f"{self.name}:{line + 1}",
            remedy="indent with blanks; YAML takes no tabs" if "\t" in indented or "'\\t'" in str(error) else "",
        )


def _nearby(path: Path) -> str:
    """Say which documents lie where one was looked for."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    there: list[str] = []
    with suppress(PermissionError):
        there = sorted(each.name for each in path.parent.iterdir() if each.suffix in (".yaml", ".yml"))[:8]
    return f"the folder has: {', '.join(there)}" if there else ""


Finder = Callable[[Key], str]
"""Says where a key stands (``file:line``, or the flag that set it)."""
