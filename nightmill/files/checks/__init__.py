"""What a file of a type must be, beside being whole: plug-ins, one module a check."""

from __future__ import annotations

from functools import cache
from typing import Final, cast

from pydantic import BaseModel, RootModel

from nightmill import plugins
from nightmill.errors import BadPlugin
from nightmill.model.ports import CheckClass

GROUP: Final = "nightmill.checks"
"""Entry points: the name of a check to a class with what :class:`nightmill.model.ports.CheckClass` promises."""


@cache
def check_class(name: str) -> CheckClass:
    """Return the class of a check, which is made with its options.

    Raises
    ------
    UnknownName
        Where no plug-in offers it; with a guess and those that are known.
    BadPlugin
        Where the one that does cannot be used.
    """
    found = plugins.load(GROUP, name, what="check")
    options = getattr(found, "Options", None)
    strict = isinstance(options, type) and (
        issubclass(options, RootModel)
        or (issubclass(options, BaseModel) and options.model_config.get("extra") == "forbid")
    )
    if not strict:
        raise BadPlugin(
            f"check {name!r} of {plugins.package(GROUP, name)} declares no Options that refuse what they do not know",
            remedy="derive its Options from nightmill.model.base.Frozen",
        )
    return cast(CheckClass, found)
