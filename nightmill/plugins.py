"""Plug-ins: what installed packages offer under a name, found by their entry points and loaded when asked for."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from nightmill.errors import UnknownName


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
    """
    known = {point.name: point for point in entry_points(group=group)}
    if name not in known:
        raise UnknownName(what, name, sorted(known), remedy=remedy)
    return known[name].load()
