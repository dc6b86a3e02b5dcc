"""Plug-ins: what installed packages offer under a name, found by their entry points and loaded when asked for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from nightmill.errors import BadPlugin, UnknownName


def load(group: str, name: str, *, what: str, remedy: str = "") -> Any:
    """Return what a plug-in offers.

    Parameters
    ----------
    group
        The group of its entry point, as ``nightmill.stagers``.
    name
        Its name in the group.
    what
        What such a plug-in is, in a word, for the message.
    remedy
        What to do where it is not installed.

    Raises
    ------
    UnknownName
        Where no installed package offers it.
    BadPlugin
        Where several do, or what the one offers cannot be imported.
    """
    offers = _offers(entry_points, group, tuple(sys.path)).get(name, ())
    if not offers:
        known = names(group)
        raise UnknownName(what, name, known, remedy=remedy or f"known {what}s: {', '.join(known)}")
    if len(offers) > 1:
        both = " and by ".join(sorted(_package(offer) for offer in offers))
        raise BadPlugin(f"{what} {name!r} is offered by {both}", remedy="uninstall all of them but one")
    try:
        return offers[0].load()
    except (Exception, SystemExit) as error:  # whatever its import does
        told = f"{what} {name!r} of {_package(offers[0])} cannot be imported: {type(error).__name__}: {error}"
        remedy = _install(offers[0], error) or "mend that package, or uninstall it"
        raise BadPlugin(told, remedy=remedy) from error


def load_with_options(group: str, name: str, *, what: str, remedy: str = "") -> Any:
    """Return the class that a plug-in offers and that is made with options, as its ``Options`` declares them.

    Parameters
    ----------
    group, name, what, remedy
        As :func:`load` takes them.

    Raises
    ------
    UnknownName
        Where no installed package offers it.
    BadPlugin
        Where several do, what the one offers cannot be imported, or its options would pass over what they do not know.
    """
    from pydantic import BaseModel, RootModel  # a second for who only asks for help

    found = load(group, name, what=what, remedy=remedy)
    options = getattr(found, "Options", None)
    is_strict = isinstance(options, type) and (
        issubclass(options, RootModel)
        or (issubclass(options, BaseModel) and options.model_config.get("extra") == "forbid")
    )
    if not is_strict:
        raise BadPlugin(
            f"{what} {name!r} of {package(group, name)} declares no Options that refuse what they do not know",
            remedy="derive its Options from nightmill.model.base.Frozen",
        )
    return found


def names(group: str) -> list[str]:
    """Return every name that installed packages offer in a group, sorted."""
    return sorted(_offers(entry_points, group, tuple(sys.path)))


def package(group: str, name: str) -> str:
    """Return the package that offers a name, as ``brightest 1.2``; empty where none does."""
    return " and ".join(_package(offer) for offer in _offers(entry_points, group, tuple(sys.path)).get(name, ()))


@lru_cache(maxsize=16)
def _offers(
    find: Callable[..., Iterable[EntryPoint]], group: str, _path: tuple[str, ...]
) -> dict[str, tuple[EntryPoint, ...]]:
    """Read the entry points of a group once: every package on the path is looked at, which takes milliseconds."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in find(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _install(point: EntryPoint, error: BaseException) -> str:
    """Say what installs a module that is not there, where it is of an extra of the plug-in's own package."""
    if isinstance(error, ModuleNotFoundError) and error.name and point.dist is not None:
        for requirement in point.dist.requires or ():
            match = re.match(r"([\w.-]+).*\bextra == ['\"]([\w.-]+)['\"]", requirement)
            if match and match[1].lower().replace("-", "_") == error.name.partition(".")[0]:
                return f"pip install '{point.dist.name}[{match[2]}]'"
    return ""


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
