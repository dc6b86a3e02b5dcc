"""A command as it can be typed again: what acts keep of themselves, so that they can be replayed and taught."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperArgument, TyperCommand

from nightmill.command import COMMAND

_OF_THE_TERMINAL: Final = frozenset({"as_json", "site", "watch"})
"""Say where, and how it is told: not what is done."""


class Verb(TyperCommand):
    """A command that lets acts know how it was typed."""

    def invoke(self, ctx: Any) -> Any:
        """Carry it out."""
        before = COMMAND.set(words(ctx))
        try:
            return super().invoke(ctx)
        finally:
            COMMAND.reset(before)


def words(context: typer.Context) -> tuple[str, ...]:
    """Return the words of the command that a context is of: what was said, options first, each in its full form.

    Passwords are masked, and paths absolute. A byte that is not text is written out.
    """
    from nightmill.model.base import storable
    from nightmill.model.secrets import masked

    said: list[str] = []
    places: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in _OF_THE_TERMINAL or source is None:
            continue
        if source.name.startswith("DEFAULT") and not (isinstance(parameter, TyperArgument) and value not in (None, "")):
            continue
        if isinstance(parameter, TyperArgument):
            places += _texts(value)
        elif isinstance(value, bool):
            said.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            said += (word for text in _texts(value) for word in (parameter.opts[0], text))
    apart = ["--"] if any(place.startswith("-") for place in places) else []
    return (*context.command_path.split(), *(masked(storable(word)) for word in [*said, *apart, *places]))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield os.fspath(value.absolute()) if isinstance(value, Path) else str(value)
