"""Pipeline documents: stages by name, in their order, each with steps that are addressed by name too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nightmill.config.build import build, named, raise_all, refuse_unknown
from nightmill.config.differences import with_differences
from nightmill.config.document import Document, Key, Plain, dotted, kind_of, load_document
from nightmill.config.images import check_images, with_images
from nightmill.config.layers import Tree, tree_of
from nightmill.config.leftovers import with_leftovers
from nightmill.config.lookups import with_lookups
from nightmill.config.rules import check_pipeline
from nightmill.errors import ConfigError, ConfigErrors
from nightmill.model.pipeline import Pipeline

SETTABLE: Final = ("stages", "image", "junk", "intermediates", "differences")
"""What a campaign may say otherwise."""
KEYS: Final = ("pipeline", "version", "description", "parameters", "bundle", *SETTABLE)


def load_pipeline(path: Path, named_at: str = "") -> Pipeline:
    """Load a pipeline document and check it in itself.

    Parameters
    ----------
    named_at
        As :func:`nightmill.config.document.load_document` takes it.

    Raises
    ------
    ConfigErrors
        Everything that is wrong with it.
    ConfigError
        Where it cannot be read at all.
    """
    return pipeline_of(load_pipeline_tree(path, named_at), path.parent)


def load_pipeline_tree(path: Path, named_at: str = "") -> Tree:
    """Load a pipeline document as a tree in which stages and steps have their names as keys.

    Parameters
    ----------
    named_at
        As :func:`nightmill.config.document.load_document` takes it.

    Raises
    ------
    ConfigError, ConfigErrors
        Where it cannot be read, or a step has no name, or that of another.
    """
    return tree_of(by_step_name(load_document(path, named_at)), "pipeline")


def by_step_name(document: Document, prefix: Key = ()) -> Document:
    """Turn the lists of steps of a document to mappings by the steps' names.

    Parameters
    ----------
    prefix
        Of ``stages`` in the document.

    Raises
    ------
    ConfigErrors
        Where a step has no name, or that of another.
    """
    stages: Plain = document.data
    for part in (*prefix, "stages"):
        stages = stages.get(part) if isinstance(stages, dict) else None
    if not isinstance(stages, dict):
        return document
    errors: list[ConfigError] = []
    renamed: dict[Key, Key] = {}
    lists = {name: stage["steps"] for name, stage in stages.items() if _has_list(stage)}
    mappings: dict[str, dict[str, Plain]] = {}
    for stage, steps in lists.items():
        mapping = mappings[stage] = {}
        for number, step in enumerate(steps):
            key = (*prefix, "stages", stage, "steps", number)
            name = step.get("name") if isinstance(step, dict) else None
            if not isinstance(name, str) or not name:
                what = "has no name" if isinstance(step, dict) else f"is a {kind_of(step)} and should be a mapping"
                errors.append(ConfigError(f"{dotted(key)} {what}", where=document.where(key)))
            elif name in mapping:
                errors.append(ConfigError(f"{dotted(key)} has the name {name!r} of another", where=document.where(key)))
            else:
                mapping[name] = {each: value for each, value in step.items() if each != "name"}
                renamed[key] = (*key[:-1], name)
    raise_all(errors)
    changed = {name: {**stages[name], "steps": mapping} for name, mapping in mappings.items()}
    data = _replaced(document.data, (*prefix, "stages"), {**stages, **changed})
    depth = len(prefix) + 4
    lines = {renamed.get(key[:depth], key[:depth]) + key[depth:]: line for key, line in document.lines.items()}
    return Document(data, document.name, lines)


def pipeline_of(tree: Tree, directory: Path) -> Pipeline:
    """Make the pipeline of a tree, and check it in itself.

    Parameters
    ----------
    directory
        The folder of its document.

    Raises
    ------
    ConfigErrors
        Everything that is wrong with it.
    """
    errors = refuse_unknown(tree.data, KEYS, (), tree.where)
    data: dict[str, Plain] = {key: value for key, value in tree.data.items() if key in KEYS and key != "pipeline"}
    if "pipeline" in tree.data:
        data["name"] = tree.data["pipeline"]
    if "stages" in data:
        data["stages"] = _stages(data["stages"], tree, errors)
    try:
        pipeline = build(Pipeline, data, tree.where, written=tree.data, renamed="pipeline")
    except ConfigErrors as error:
        raise ConfigErrors([*errors, *error.errors]) from error
    pipeline, wrong = with_lookups(pipeline, tree)
    errors += wrong
    errors += [ConfigError(f"{dotted(key)}: {text}", where=tree.where(key)) for key, text in check_pipeline(pipeline)]
    errors += [ConfigError(f"{dotted(key)}: {text}", where=tree.where(key)) for key, text in check_images(pipeline)]
    raise_all(errors)
    loaded = with_differences(with_leftovers(with_images(pipeline)))
    return loaded.model_copy(update={"directory": str(directory.resolve())})


def _stages(stages: Plain, tree: Tree, errors: Sequence[ConfigError]) -> list[Plain]:
    """Turn the mapping of stages to the list that the model has; raise what is not a mapping with the errors so far."""
    if not isinstance(stages, dict):
        what = f"stages is a {kind_of(stages)} and should be a mapping of names to stages"
        raise ConfigErrors([*errors, ConfigError(what, where=tree.where(("stages",)))])
    found, wrong = [], []
    for name, stage in stages.items():
        key = ("stages", name)
        try:
            body = named(name, stage, key, tree.where)
            if isinstance(steps := body.get("steps"), dict):
                body["steps"] = [named(step, each, (*key, "steps", step), tree.where) for step, each in steps.items()]
            found.append(body)
        except ConfigError as error:
            wrong.append(error)
    if wrong:
        raise ConfigErrors([*errors, *wrong])
    return found


def _has_list(stage: Plain) -> bool:
    return isinstance(stage, dict) and isinstance(stage.get("steps"), list)


def _replaced(data: Plain, key: Key, value: Plain) -> Plain:
    if not key:
        return value
    return {**data, key[0]: _replaced(data[key[0]], key[1:], value)}
