"""Campaign documents: a pipeline with what to run it on and what to change, in layers.

The layers are pipeline < campaign < command line; each value that is set keeps the layer that it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from nightmill.config.build import build, raise_all, shown
from nightmill.config.document import Key, Plain, kind_of, load_document
from nightmill.config.layers import Tree, tree_of, tree_of_setting
from nightmill.config.pipeline import by_step_name, load_pipeline, load_pipeline_tree, pipeline_of
from nightmill.config.rules import check_fit
from nightmill.errors import ConfigError, ConfigErrors, guess
from nightmill.model.base import Frozen
from nightmill.model.campaign import Campaign, ExecutionSettings, Layer
from nightmill.model.exclusion import CampaignExclusion
from nightmill.model.pipeline import Parameter

__all__ = ["load_campaign", "load_pipeline"]


class CampaignFile(Frozen):
    """A pipeline with what to run it on, and what to change."""

    campaign: str
    """Name of the campaign; it stays the same when it is submitted again."""
    pipeline: str
    """Path of the pipeline document, from the folder of this one."""
    description: str = ""
    """What it is for, in words."""
    where: str = ""
    """An expression over raw and manual files: what the campaign works on."""
    exclude: tuple[CampaignExclusion, ...] = ()
    """What must not be an input of it, beside what is excluded in the catalogue."""
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    """Values in the place of the pipeline's defaults."""
    execution: ExecutionSettings = ExecutionSettings()
    """How its jobs are carried out."""
    overrides: Mapping[str, Any] = Field(default_factory=dict)
    """What else of the pipeline it changes: mappings are merged key by key, anything else is replaced."""


def load_campaign(path: Path, settings: Sequence[str] = (), exclude: Sequence[str] = ()) -> Campaign:
    """Load a campaign with its pipeline, merge the layers and check the result.

    Parameters
    ----------
    path
        Of the campaign document; that of the pipeline is relative to it.
    settings
        ``KEY=VALUE`` of a command line, the value being YAML: keys of the campaign (``parameters.sigma=3``,
        ``execution.threads=1``), or of its pipeline (``pipeline.stages.science.inputs.bias.lookup.max_days=3``).
    exclude
        Rules of a command line, beside those of the document: an expression over files each, or ``FILE NAME``.

    Returns
    -------
    Campaign
        Complete and consistent in itself; ``origins`` has the layer of every value that any layer sets, by its dotted
        key as ``settings`` write it.

    Raises
    ------
    ConfigErrors
        Everything that is wrong, each with its place, key and a guess of what was meant.
    ConfigError
        Where a document cannot be read at all.
    """
    tree = tree_of(by_step_name(load_document(path), ("overrides",)), "campaign")
    for setting in settings:
        tree = _pipeline_to_overrides(tree_of_setting(setting)).over(tree)
    try:
        file = build(CampaignFile, tree.data, tree.where)
    except ConfigErrors as error:
        raise ConfigErrors([*error.errors, *_wrong_pipeline(path.parent, tree)]) from error
    pipeline_path = path.parent / file.pipeline
    base = load_pipeline_tree(pipeline_path, tree.where(("pipeline",)))
    overrides = tree.below("overrides")
    unknown = list(_unknown_overrides(overrides, base))
    merged = base if unknown else overrides.over(base)
    errors = [ConfigError(text, where=tree.where(("campaign",))) for text in check_fit("campaign name", file.campaign)]
    errors += _wrong_parameters(file.parameters, base.mapping("parameters"), tree)
    errors += unknown
    try:
        pipeline = pipeline_of(merged, pipeline_path.parent)
    except ConfigErrors as error:
        raise ConfigErrors([*errors, *error.errors]) from error
    raise_all(errors)
    return Campaign(
        name=file.campaign,
        description=file.description,
        pipeline=pipeline,
        where=file.where,
        exclude=(*file.exclude, *map(_excluding, exclude)),
        parameters={
            name: _like(default, file.parameters.get(name, default)) for name, default in pipeline.parameters.items()
        },
        execution=file.execution,
        origins=_origins(tree, merged) | _exclusion_origins(tree, len(file.exclude), exclude),
    )


def _excluding(rule: str) -> CampaignExclusion:
    """Make an exclusion of a rule that was given on a command line."""
    name = rule.strip().removeprefix("FILE ")
    where = rule if name == rule.strip() else f"name == {name.strip()!r}"
    return CampaignExclusion(where=where, why="given with --exclude")


def _exclusion_origins(tree: Tree, count: int, given: Sequence[str]) -> dict[str, Layer]:
    """Return the layer of each exclusion: those of the document have their line."""
    whole = tree.places.get(("exclude",))
    places = {number: tree.places.get(("exclude", number), whole) for number in range(count)}
    own = {f"exclude.{number}": place.layer for number, place in places.items() if place is not None}
    return own | {f"exclude.{number}": Layer(name="command line") for number in range(count, count + len(given))}


def _wrong_pipeline(directory: Path, campaign: Tree) -> Sequence[ConfigError]:
    """Return what is wrong with the pipeline of a campaign whose own document is wrong, to be told with that."""
    name = campaign.data.get("pipeline")
    try:
        if isinstance(name, str):
            load_pipeline(directory / name, campaign.where(("pipeline",)))
    except ConfigErrors as error:
        return error.errors
    except ConfigError as error:
        return [error]
    return []


def _pipeline_to_overrides(tree: Tree) -> Tree:
    """Move the settings of a pipeline to where a campaign document has them."""
    if not isinstance(tree.data.get("pipeline"), dict):
        return tree
    places = {("overrides", *key[1:]): place for key, place in tree.places.items()}
    return Tree({"overrides": tree.data["pipeline"]}, places)


def _unknown_overrides(overrides: Tree, base: Tree) -> Iterator[ConfigError]:
    """Yield an error for each stage, step or role that the pipeline does not have: overrides change what is there.

    A new role is one if it says its type; without, it is a misspelt one.
    """
    for name in overrides.data:
        if name != "stages":
            remedy = "set it under 'parameters' of the campaign" if name == "parameters" else ""
            near = guess(name, ["stages"])
            yield ConfigError(f"overrides.{name} cannot be set{near}", where=overrides.where((name,)), remedy=remedy)
    for stage, body in _mappings(overrides, ("stages",)):
        yield from _unknown("stage", ("stages", stage), overrides, base)
        for role in _new_roles(body.get("inputs")):
            yield from _unknown("input", ("stages", stage, "inputs", role), overrides, base)
        for step, each in _mappings(overrides, ("stages", stage, "steps")):
            key: Key = ("stages", stage, "steps", step)
            yield from _unknown("step", key, overrides, base)
            for role in _new_roles(each.get("outputs")):
                yield from _unknown("output", (*key, "outputs", role), overrides, base)


def _unknown(kind: str, key: Key, overrides: Tree, base: Tree) -> Iterator[ConfigError]:
    *around, name = [str(part) for part in key]
    known = base.mapping(*around)
    if name not in known and (known or kind == "stage"):
        yield ConfigError(
            f"the pipeline has no {kind} {name!r} to override{guess(name, list(known))}", where=overrides.where(key)
        )


def _mappings(tree: Tree, key: tuple[str, ...]) -> list[tuple[str, Mapping[str, Plain]]]:
    return [(name, body) for name, body in tree.mapping(*key).items() if isinstance(body, dict)]


def _new_roles(roles: Plain) -> list[str]:
    if not isinstance(roles, dict):
        return []
    return [role for role, body in roles.items() if not (isinstance(body, dict) and "type" in body)]


def _wrong_parameters(
    given: Mapping[str, Parameter], defaults: Mapping[str, Plain], tree: Tree
) -> Iterator[ConfigError]:
    for name, value in given.items():
        where = tree.where(("parameters", name))
        if name not in defaults:
            near = guess(name, list(defaults)) or f" (it has {', '.join(defaults) or 'none'})"
            yield ConfigError(f"the pipeline has no parameter {name!r}{near}", where=where)
            continue
        default = defaults[name]
        if type(value) is not type(default) and not (type(value) is int and type(default) is float):
            kind = "whole number" if type(default) is int else kind_of(default)
            yield ConfigError(
                f"parameters.{name} is {shown(value)} and should be a {kind}, as its default {shown(default)} is",
                where=where,
            )


def _like(default: Parameter, value: Parameter) -> Parameter:
    """Keep a parameter's type: 3 for a default of 2.5 is 3.0."""
    return float(value) if isinstance(default, float) else value


def _origins(campaign: Tree, pipeline: Tree) -> dict[str, Layer]:
    stages = {f"pipeline.{key}": layer for key, layer in pipeline.without("parameters").origins().items()}
    parameters = campaign.below("parameters").over(pipeline.below("parameters")).origins()
    own = campaign.without("overrides").without("parameters").origins()
    return stages | {f"parameters.{key}": layer for key, layer in parameters.items()} | own
