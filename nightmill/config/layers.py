"""Layers of configuration, one over the other; each value keeps where it came from."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from nightmill.config.document import Document, Key, Plain, dotted, leaves, parse_value
from nightmill.errors import ConfigError
from nightmill.model.campaign import Layer

SITE: Final = "site"
PIPELINE: Final = "pipeline"
CAMPAIGN: Final = "campaign"
OVERRIDE: Final = "override"
COMMAND_LINE: Final = "command line"
LAYERS: Final = (SITE, PIPELINE, CAMPAIGN, OVERRIDE, COMMAND_LINE)
"""The layers of a campaign; each goes over those before it."""
REPLACED_WHOLE: Final = frozenset({"source"})
"""Mappings whose keys exclude each other: a layer that sets one of them sets all."""


_PART: Final = re.compile(r'"([^"]+)"|([^."=]+)')
_KEY: Final = re.compile(r'("[^"]+"|[^."]+)(\.("[^"]+"|[^."]+))*')
_KEY_BEFORE: Final = re.compile(r'("[^"]+"|[^."=]+)(\.("[^"]+"|[^."=]+))*')


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written.

    Parameters
    ----------
    where
        For messages: ``file:line``, or the flag.
    """

    layer: Layer
    where: str


@dataclass(frozen=True, slots=True)
class Tree:
    """Plain data with the place of each key."""

    data: Mapping[str, Plain] = field(default_factory=dict)
    places: Mapping[Key, Place] = field(default_factory=dict)

    def where(self, key: Key) -> str:
        """Return the place of a key, or of the nearest one around it; for messages."""
        for length in range(len(key), -1, -1):
            if (place := self.places.get(key[:length])) is not None:
                return place.where
        return ""

    def mapping(self, *key: str) -> Mapping[str, Plain]:
        """Return the mapping that stands under a key; an empty one where none does."""
        data: Plain = self.data
        for part in key:
            data = data.get(part) if isinstance(data, dict) else None
        return data if isinstance(data, dict) else {}

    def below(self, *key: str) -> Tree:
        """Return what stands under a key, as a tree; an empty one where nothing does."""
        places = {own[len(key) :]: place for own, place in self.places.items() if own[: len(key)] == key}
        return Tree(self.mapping(*key), places)

    def without(self, *names: str) -> Tree:
        """Return the tree without some of its first keys."""
        return self.cut({(name,) for name in names})

    def cut(self, keys: Collection[Key]) -> Tree:
        """Return the tree without what stands under some keys."""
        if not keys:
            return self
        data = dict(self.data)
        for key in keys:
            *around, name = map(str, key)
            inner = data
            for part in around:
                inner[part] = inner = dict(inner[part])
            inner.pop(name, None)
        gone = {len(key) for key in keys}
        return Tree(data, {k: place for k, place in self.places.items() if not any(k[:n] in keys for n in gone)})

    def moved(self, *key: str) -> Tree:
        """Return the tree with everything in it put under a key."""
        data: Plain = self.data
        for part in reversed(key):
            data = {part: data}
        return Tree(data, {(*key, *own): place for own, place in self.places.items()}) if self.data else Tree()

    def over(self, base: Tree) -> Tree:
        """Lay this tree over another: mappings are merged key by key, anything else is replaced."""
        data, places = dict(base.data), dict(base.places)
        _lay(data, self.data, places, self.places, ())
        if () in self.places:
            places.setdefault((), self.places[()])
        return Tree(data, places)

    def origins(self) -> dict[str, Layer]:
        """Return the layer of each value that is not a mapping, by its dotted key."""
        return {dotted(key): self.places[key].layer for key, _ in leaves(self.data) if key in self.places}


NOTHING: Final = Tree()
"""A layer that says nothing."""


def tree_of(document: Document, layer: str) -> Tree:
    """Make a tree of a document.

    Parameters
    ----------
    layer
        What the document is: ``pipeline``, ``campaign``...
    """
    places = {
        key: Place(Layer(name=layer, file=document.name, line=line), f"{document.name}:{line}")
        for key, line in document.lines.items()
    }
    return Tree(document.data, places)


def tree_of_setting(setting: str) -> Tree:
    """Make a tree of one ``KEY=VALUE`` of a command line, the value being YAML.

    Raises
    ------
    ConfigError
        Where there is no ``=`` or no key, or the value is not YAML.
    """
    flag = f"--set {setting}"
    name, equals, text = _split(setting)
    parts = parts_of(name.strip())
    if not equals or not parts:
        raise ConfigError(f"{setting!r} is not KEY=VALUE", where="--set", remedy="write parameters.sigma=3")
    data = parse_value(text, flag)
    place = Place(Layer(name=COMMAND_LINE), flag)
    places: dict[Key, Place] = {parts[:length]: place for length in range(1, len(parts) + 1)}
    places |= {(*parts, *key): place for key, _ in leaves(data)}
    for part in reversed(parts):
        data = {part: data}
    return Tree(data, places)


def parts_of(name: str) -> tuple[str, ...]:
    """Split a dotted key; a part in quotes may hold dots, as in ``units."exposure=12".parameters.sigma``.

    Returns
    -------
    tuple of str
        Empty where it is not a key.
    """
    parts = [quoted or bare for quoted, bare in _PART.findall(name)]
    return tuple(parts) if _KEY.fullmatch(name) else ()


def _split(setting: str) -> tuple[str, str, str]:
    """Part a setting at the first ``=`` that is not in quotes."""
    key = _KEY_BEFORE.match(setting)
    end = key.end() if key else setting.find("=")
    return (setting[:end], "=", setting[end + 1 :]) if setting[end : end + 1] == "=" else (setting, "", "")


def _lay(
    data: dict[str, Plain],
    top: Mapping[str, Plain],
    places: dict[Key, Place],
    top_places: Mapping[Key, Place],
    prefix: Key,
) -> None:
    for name, value in top.items():
        key = (*prefix, name)
        below = data.get(name)
        if isinstance(below, dict) and isinstance(value, dict) and name not in REPLACED_WHOLE:
            data[name] = merged = dict(below)
            _lay(merged, value, places, top_places, key)
            continue
        data[name] = value
        for own in _under(key, below, places):
            places.pop(own, None)
        places.update({own: top_places[own] for own in _under(key, value, top_places) if own in top_places})


def _under(key: Key, value: Plain, places: Mapping[Key, Place]) -> list[Key]:
    """Return the keys of a value and of everything in it; for one that holds nothing without a search."""
    if not isinstance(value, dict | list):
        return [key]
    return [own for own in places if own[: len(key)] == key]
