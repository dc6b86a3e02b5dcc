"""Formats of files: plug-ins that read them, one module each, and what they are made of."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Final, cast

from nightmill import plugins
from nightmill.errors import BadPlugin
from nightmill.model.ports import Format

GROUP: Final = "nightmill.formats"
"""Entry points: the name of a format to a class with what :class:`nightmill.model.ports.Format` promises."""


@cache
def open_format(name: str) -> Format:
    """Return what reads files of a format.

    Raises
    ------
    UnknownName
        Where no plug-in offers it; with a guess and those that are known.
    BadPlugin
        Where the one that does cannot be used.
    """
    kind = plugins.load(GROUP, name, what="format")
    try:
        return cast(Format, kind())
    except BadPlugin:
        raise
    except (Exception, SystemExit) as error:  # of a plug-in
        what = f"format {name!r} of {plugins.package(GROUP, name)} cannot be made"
        raise BadPlugin(f"{what}: {type(error).__name__}: {error}") from error


def require(library: str, extra: str) -> None:
    """Make sure that a library is installed that a format needs; it is not imported yet.

    Raises
    ------
    BadPlugin
        Where it is not; says which extra of nightmill brings it.
    """
    if find_spec(library) is None:
        raise BadPlugin(
            f"format {extra!r} needs {library}, which is not installed", remedy=f"pip install 'nightmill[{extra}]'"
        )
