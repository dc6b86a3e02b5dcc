"""Plain data becomes model objects; what does not fit is told by place, key and a guess of what was meant."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError

from nightmill.config.document import Finder, Key, Plain, dotted, kind_of, shortened
from nightmill.errors import ConfigError, ConfigErrors, guess

Model = TypeVar("Model", bound=BaseModel)

_PLAIN_WORDS: Final = {
    "a valid string": "a text",
    "a valid boolean": "true or false",
    "a valid number": "a number",
    "a valid integer": "a whole number",
    "a valid dictionary": "a mapping",
    "a valid mapping": "a mapping",
    "a valid tuple": "a list",
    "Input is not a valid path for <class 'pathlib.Path'>": "a path",
}


def build(
    model: type[Model], data: Plain, where: Finder, *, written: Plain = None, renamed: str = "", prefix: Key = ()
) -> Model:
    """Make a model object of plain data.

    Parameters
    ----------
    data
        Mappings and lists as the model has them.
    where
        Gives the place of a key for messages.
    written
        The data as people write it, where it differs: a mapping by name in the place of a list.
    renamed
        The key that people write for the model's ``name``.
    prefix
        The way to the data in its document.

    Raises
    ------
    ConfigErrors
        Everything that is wrong, each with its place, its key and a guessed correction.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    source = data if written is None else written
    found: dict[Key, list[Any]] = {}
    for detail in details:
        found.setdefault(_key(detail["loc"], source, detail["type"], renamed), []).append(detail)
    # of the members of a union, the one that got furthest is meant
    outer = {key[:length] for key in found for length in range(len(key))}
    raise ConfigErrors([_told((*prefix, *key), same, model, where) for key, same in found.items() if key not in outer])


def raise_all(errors: Sequence[ConfigError]) -> None:
    """Raise everything that was found wrong, one by one as it is listed; nothing is not an error.

    Raises
    ------
    ConfigErrors
    """
    flat = [each for error in errors for each in (error.errors if isinstance(error, ConfigErrors) else (error,))]
    if flat:
        raise ConfigErrors(flat)


def named(name: str, body: Plain, key: Key, where: Finder) -> dict[str, Plain]:
    """Put the name that something has as a key of a mapping into its body, where the models have it.

    Raises
    ------
    ConfigError
        Where the body is not a mapping, or gives a name of its own.
    """
    if not isinstance(body, dict):
        raise ConfigError(f"{dotted(key)} is a {kind_of(body)} and should be a mapping", where=where(key))
    if "name" in body:
        own = (*key, "name")
        raise ConfigError(f"unknown key {dotted(own)}", where=where(own), remedy=f"its name is its key, {name!r}")
    return {"name": name, **body}


def refuse_unknown(given: Mapping[str, Plain], known: Sequence[str], key: Key, where: Finder) -> list[ConfigError]:
    """Return an error for each key that is not known."""
    return [_unknown((*key, name), known, where) for name in given if name not in known]


def _key(loc: Sequence[str | int], data: Plain, kind: str, renamed: str) -> Key:
    """Turn pydantic's way to a value to the one that people wrote: without the names of union members."""
    key: list[str | int] = []
    if renamed and tuple(loc) == ("name",):
        return (renamed,)
    for place, step in enumerate(loc, start=1):
        part = list(data)[step] if isinstance(data, dict) and isinstance(step, int) and step < len(data) else step
        inside = data if isinstance(data, dict) else dict(enumerate(data)) if isinstance(data, list) else {}
        if part not in inside:
            if kind == "missing" and place == len(loc):
                return (*key, part)
            continue
        data = inside[part]
        key.append(part)
    return tuple(key)


def _told(key: Key, details: Sequence[Any], model: type[BaseModel], where: Finder) -> ConfigError:
    detail = details[0]
    value = detail["input"]
    if detail["type"] == "missing":
        return ConfigError(f"{dotted(key)} is missing", where=where(key))
    if detail["type"] == "extra_forbidden":
        return _unknown(key, _fields_at(model, detail["loc"]), where)
    wanted = " or ".join(dict.fromkeys(_wanted(each) for each in details))
    choices = [
        choice for each in details for choice in re.findall(r"'([^']*)'", each.get("ctx", {}).get("expected", ""))
    ]
    if detail["loc"][-1:] == ("[key]",) and choices:
        return _unknown(key, choices, where)
    near = guess(value, choices) if isinstance(value, str) else ""
    text_wanted = any(each["type"] == "string_type" for each in details)
    remedy = "put it in quotes" if text_wanted and isinstance(value, int | float) else ""
    # what is wrong inside of a mapping is not that it is one
    is_one = isinstance(value, dict) and all(each["type"] == "value_error" for each in details)
    return ConfigError(
        f"{dotted(key) or 'the document'} {'' if is_one else f'is {shown(value)} and '}should be {wanted}{near}",
        where=where(key),
        remedy=remedy,
    )


def _unknown(key: Key, known: Sequence[str], where: Finder) -> ConfigError:
    near = guess(str(key[-1]), known)
    remedy = "" if near or not known else f"known here: {', '.join(known)}"
    return ConfigError(f"unknown key {dotted(key)}{near}", where=where(key), remedy=remedy)


def _wanted(detail: Any) -> str:
    """Say in plain words what pydantic wanted."""
    text = str(detail["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    text = re.sub(r", (unable to (parse|interpret)|got a number).*| or instance of .*| or an instance of .*", "", text)
    return _PLAIN_WORDS.get(text, text)


def shown(value: Plain) -> str:
    """Write a value as messages show it: short, and as YAML has it."""
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return f"a {kind_of(value)}"
    return shortened(repr(value) if not isinstance(value, bool) else str(value).lower())


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the keys that are known where an unknown one was found."""
    kind: Any = model
    for part in loc[:-1]:
        kind = _inner(kind, part)
    members = [kind, *get_args(kind)]
    fields = [name for each in members if _is_model(each) for name in each.model_fields]
    return [name for name in fields if name != "name" or len(loc) == 1]


def _inner(kind: Any, part: str | int) -> Any:
    """Return the type of what a type holds under a key or position."""
    if _is_model(kind):
        if issubclass(kind, RootModel):
            return _inner(kind.model_fields["root"].annotation, part)
        field = kind.model_fields.get(part)
        return field.annotation if field else None
    if get_origin(kind) in (Union, types.UnionType):
        return next((inner for each in get_args(kind) if (inner := _inner(each, part)) is not None), None)
    arguments = get_args(kind)
    if not arguments:
        return None
    return arguments[0] if isinstance(part, int) else arguments[-1]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
