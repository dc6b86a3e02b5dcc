"""What a file of a type must be, beside being whole: plug-ins, one module a check."""

from __future__ import annotations

from functools import cache
from typing import Final, cast

from nightmill import plugins
from nightmill.model.ports import CheckClass

GROUP: Final = "nightmill.checks"
"""Entry points: the name of a check to a class with what :class:`nightmill.model.ports.CheckClass` promises."""


def kind_of(name: str) -> str:
    """Return the plug-in of a check; what a type says behind a slash tells several of one plug-in apart."""
    return name.partition("/")[0]


@cache
def check_class(name: str) -> CheckClass:
    """Return the class of a check, which is made with its options.

    Parameters
    ----------
    name
        As a type writes it: ``rows``, or ``rows/stars`` beside another check of that plug-in.

    Raises
    ------
    UnknownName
        Where no plug-in offers it; with a guess and those that are known.
    BadPlugin
        Where the one that does cannot be used.
    """
    return cast(CheckClass, plugins.load_with_options(GROUP, kind_of(name), what="check"))
