"""JSON Schemas of the YAML documents, for editors: made of the models that reading makes of them, and of the plug-ins.

A schema says what keys there are and of what kind their values are; what fits together is for reading alone. It is
stricter in one thing: a number or a boolean in quotes is a text to it.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from textwrap import dedent
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from nightmill import plugins
from nightmill.config import lookups, pipeline
from nightmill.config.campaign import CampaignFile
from nightmill.config.changes import Changes, OverrideFile
from nightmill.config.file_types import FileTypesFile
from nightmill.config.kinds import Kind
from nightmill.config.site import SiteFile
from nightmill.config.stores import BACKBONE
from nightmill.errors import BadPlugin
from nightmill.files import checks, formats
from nightmill.model.file_type import Checks, FileType, WarningChecks
from nightmill.model.pipeline import LookupSetting, Pipeline, Stage, Step
from nightmill.model.store import Store

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MODELINE: Final = "# yaml-language-server: $schema="
"""How a document names its schema to editors, in its first line."""

_REF: Final = "#/$defs/{model}"
_VARIABLE: Final = {"type": "string", "pattern": r"\$\{"}
"""A value of a site that is filled in when it is read."""
_ABOUT: Final = ("description", "default")


def schema_text(kind: Kind) -> str:
    """Return the schema of a document, JSON Schema 2020-12, with the formats, checks and lookups that are installed.

    It is made anew, which takes a second, only where other packages offer some.
    """
    offered = ((group, name) for group in (formats.GROUP, checks.GROUP, lookups.GROUP) for name in plugins.names(group))
    if all(plugins.package(group, name).startswith("nightmill ") for group, name in offered):
        return (files("nightmill.config") / "schemas" / kind.file).read_text()
    return made_text(kind)


def made_text(kind: Kind) -> str:
    """Make the schema of a document."""
    makers: Mapping[Kind, Callable[[], Schema]] = {
        Kind.SITE: _site,
        Kind.FILE_TYPES: _file_types,
        Kind.PIPELINE: _pipeline,
        Kind.CAMPAIGN: lambda: _changes(CampaignFile),
        Kind.OVERRIDE: lambda: _changes(OverrideFile),
    }
    whole = {"$schema": DIALECT, "title": f"nightmill: {kind.replace('_', ' ')}", **_used(makers[kind]())}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def referring(text: str, path: str) -> str:
    """Return a document whose first line names its schema, in the place of another that it names.

    Parameters
    ----------
    path
        Of the schema, from the document's folder.
    """
    first, _, rest = text.partition("\n")
    return f"{MODELINE}{path}\n{rest if first.startswith(MODELINE) else text}"


def _site() -> Schema:
    schema, ref = _made(SiteFile, Store)
    store = _without(schema["$defs"][ref(Store)], "name", "catalogued")
    schema["$defs"] = _or_variable({**schema["$defs"], ref(Store): store})
    properties = _or_variable(schema["properties"])
    for name in ("stores", "working_areas"):
        properties[name]["additionalProperties"] = _at(ref(Store))
    properties["stores"]["required"] = [BACKBONE]
    kind = {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}}}
    properties["engines"]["additionalProperties"] = kind
    return {**schema, "properties": properties}


def _file_types() -> Schema:
    known = {name: kind for name, kind in _plugins(checks.GROUP, checks.check_class)}
    schema, ref = _made(FileTypesFile, FileType, Checks, WarningChecks, *(kind.Options for kind in known.values()))
    schema["properties"]["file_types"]["additionalProperties"] = _at(ref(FileType))
    defs = schema["$defs"]
    defs[ref(FileType)] = file_type = _without(defs[ref(FileType)], "name")
    file_type["properties"]["format"]["enum"] = [name for name, _ in _plugins(formats.GROUP, formats.open_format)]
    own = defs[ref(Checks)]["properties"]
    offered = {
        name: {"description": _words(inspect.getdoc(kind)), **_about(own.get(name, {})), **_at(ref(kind.Options))}
        for name, kind in known.items()
    }
    several = {f"^{name}/.": each for name, each in offered.items()}
    closed = {"properties": offered, "patternProperties": several, "additionalProperties": False}
    defs[ref(WarningChecks)] |= closed
    defs[ref(Checks)] |= {**closed, "properties": {**offered, "warn": own["warn"]}}
    return schema


def _pipeline() -> Schema:
    known = {name: lookup.options for name, lookup in _plugins(lookups.GROUP, lookups.lookup_named)}
    schema, ref = _made(Pipeline, Stage, Step, LookupSetting, *known.values())
    defs, keys = schema["$defs"], {"pipeline": "name"}
    defs[ref(Stage)] = stage = _without(defs[ref(Stage)], "name")
    defs["NamedStep"] = _without(defs[ref(Step)], "name")
    steps = [
        {"type": "array", "items": _at(ref(Step))},
        {"type": "object", "additionalProperties": _at("NamedStep")},
    ]
    stage["properties"]["steps"] = {**_about(stage["properties"]["steps"]), "anyOf": steps}
    setting = defs[ref(LookupSetting)]
    defs[ref(LookupSetting)] = {
        "description": setting["description"],
        "type": "object",
        "anyOf": [_lookup(name, setting, defs[ref(options)]) for name, options in known.items()],
    }
    stages = schema["properties"]["stages"]
    properties = {key: schema["properties"][keys.get(key, key)] for key in pipeline.KEYS}
    properties["stages"] = {**_about(stages), "type": "object", "additionalProperties": _at(ref(Stage))}
    names = {name: key for key, name in keys.items()}
    return {**schema, "properties": properties, "required": [names.get(name, name) for name in schema["required"]]}


def _changes(file: type[Changes]) -> Schema:
    """Make the schema of a document over a pipeline: what it overrides is one of which it says as much as it likes."""
    whole, part = _made(file)[0], _pipeline()
    defs = {
        name: {key: each for key, each in body.items() if key != "required"} for name, body in part["$defs"].items()
    }
    defs["Step"]["required"] = ["name"]
    for each in defs["LookupSetting"]["anyOf"]:
        del each["required"]
    for each in (whole, whole["$defs"]["UnitChoices"]):
        overrides = each["properties"]["overrides"]
        overrides["properties"] = {"stages": part["properties"]["stages"]}
        overrides["additionalProperties"] = False
        each["properties"]["inputs"]["additionalProperties"] = _at("Input")
    return {**whole, "$defs": {**defs, **whole["$defs"]}}


def _lookup(name: str, setting: Schema, options: Schema) -> Schema:
    strategy = {**_about(setting["properties"]["strategy"]), "const": name}
    return {
        "properties": {"strategy": strategy, **options["properties"]},
        "required": ["strategy", *options.get("required", ())],
        "additionalProperties": False,
    }


class _Generator(GenerateJsonSchema):
    """Tells what keys mean by the docstrings below them, and has no titles, which would only say the names again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> Schema:
        found: Schema = super().model_schema(schema)
        if "description" in found:
            found["description"] = _words(found["description"])
        told = _docstrings(schema["cls"])
        for name, each in found.get("properties", {}).items():
            if name in told:
                each["description"] = told[name]
            if isinstance(each.get("default"), dict | list):  # nothing that anybody wants to be written for him
                del each["default"]
        return found


def _made(root: type[BaseModel], *others: type[BaseModel]) -> tuple[Schema, Callable[[type[BaseModel]], str]]:
    """Return the schema of a model, and what tells the names of others in its definitions."""
    models = dict.fromkeys((root, *others))
    places, made = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF, schema_generator=_Generator
    )
    names = {model: str(place["$ref"]).rpartition("/")[2] for (model, _), place in places.items()}
    defs = made["$defs"]
    for each in defs.values():
        each.pop("title", None)
    return {**defs.pop(names[root]), "$defs": defs}, lambda model: names[model]


def _plugins(group: str, load: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """Yield the plug-ins of a group; one that cannot be used is told where a document asks for it."""
    for name in plugins.names(group):
        try:
            yield name, load(name)
        except BadPlugin:
            continue


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return what stands below the fields of a model in its source."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        try:
            [body] = ast.parse(dedent(inspect.getsource(each))).body
        except (OSError, TypeError):  # one that is made while the program runs, or is not of Python
            continue
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[field.target.id] = _words(inspect.cleandoc(str(below.value.value)))
    return found


def _words(text: str | None) -> str:
    """Write a docstring as editors show it: without the sections and roles of Sphinx, a paragraph a line."""
    told = re.split(r"\n\n\w+\n-+\n", text or "")[0]
    told = re.sub(r":[a-z:]+:`(?:[^`<]*<)?~?([^`>]+)>?`", lambda found: f"`{found[1].rpartition('.')[2]}`", told)
    return "\n\n".join(" ".join(part.split()) for part in told.replace("``", "`").split("\n\n"))


def _without(schema: Schema, *names: str) -> Schema:
    """Return the schema of an object without some of its keys."""
    properties = {name: each for name, each in schema["properties"].items() if name not in names}
    required = [name for name in schema.get("required", ()) if name not in names]
    return {**schema, "properties": properties, "required": required}


def _about(schema: Schema) -> Schema:
    return {key: schema[key] for key in _ABOUT if key in schema}


def _at(name: str) -> Schema:
    return {"$ref": _REF.format(model=name)}


def _or_variable(schema: Any) -> Any:
    """Let a variable stand wherever a value is wanted that is not any text."""
    if isinstance(schema, list):
        return [_or_variable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        own = {key: each for key, each in schema.items() if key not in _ABOUT}
        return {**_about(schema), "anyOf": [own, _VARIABLE]}
    return {key: each if key in _ABOUT else _or_variable(each) for key, each in schema.items()}


def _used(schema: Schema) -> Schema:
    """Return a schema with those of its definitions that it refers to, sorted by name."""
    defs: Mapping[str, Schema] = schema["$defs"]
    body = {key: each for key, each in schema.items() if key != "$defs"}
    used: set[str] = set()
    open_ = list(_references(body))
    while open_:
        if (name := open_.pop()) not in used:
            used.add(name)
            open_ += _references(defs[name])
    return {**body, "$defs": {name: defs[name] for name in sorted(used)}}


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        yield schema["$ref"].rpartition("/")[2]
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _references(each)
