"""Layers of configuration, one over the other; each value keeps where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nightmill.config.document import Document, Key, Plain, dotted, leaves, parse_value
from nightmill.errors import ConfigError
from nightmill.model.campaign import Layer

LAYERS: Final = ("pipeline", "campaign", "command line")
"""The layers of a campaign; each goes over those before it."""
REPLACED_WHOLE: Final = frozenset({"source"})
"""Mappings whose keys exclude each other: a layer that sets one of them sets all."""


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

    def without(self, name: str) -> Tree:
        """Return the tree without one of its first keys."""
        data = {key: value for key, value in self.data.items() if key != name}
        return Tree(data, {key: place for key, place in self.places.items() if key[:1] != (name,)})

    def over(self, base: Tree) -> Tree:
        """Lay this tree over another: mappings are merged key by key, anything else is replaced."""
        data, places = dict(base.data), dict(base.places)
        _lay(data, self.data, places, self.places, ())
        return Tree(data, places)

    def origins(self) -> dict[str, Layer]:
        """Return the layer of each value that is not a mapping, by its dotted key."""
        return {dotted(key): self.places[key].layer for key, _ in leaves(self.data) if key in self.places}


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
    name, equals, text = setting.partition("=")
    flag = f"--set {setting}"
    parts = tuple(name.strip().split("."))
    if not equals or not all(parts):
        raise ConfigError(f"{setting!r} is not KEY=VALUE", where="--set", remedy="write parameters.sigma=3")
    data = parse_value(text, flag)
    place = Place(Layer(name="command line"), flag)
    places: dict[Key, Place] = {parts[:length]: place for length in range(1, len(parts) + 1)}
    places |= {(*parts, *key): place for key, _ in leaves(data)}
    for part in reversed(parts):
        data = {part: data}
    return Tree(data, places)


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
