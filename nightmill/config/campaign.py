"""Campaign documents: a pipeline with what to run it on and what to change, in layers.

The layers are site < pipeline < campaign < operator's file < command line; each value that is set keeps the layer that
it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from nightmill.config.breakpoints import wrong_breakpoints
from nightmill.config.build import build, raise_all, shown
from nightmill.config.changes import (
    Changes,
    brought,
    chain,
    laid,
    of_campaigns,
    read_changes,
    read_override,
    read_setting,
    unknown_inputs,
    with_all_exclusions,
    with_other_sets,
    without_old_reasons,
)
from nightmill.config.document import Key, Plain, dotted, kind_of, leaves
from nightmill.config.engines import tree_of_engine, two_engines, wrong_stages
from nightmill.config.layers import CAMPAIGN, NOTHING, Tree
from nightmill.config.pipeline import SETTABLE, load_pipeline, load_pipeline_tree, pipeline_of
from nightmill.config.rules import check_fit
from nightmill.config.variants import changes_of, may_differ, selectors, variant_of, wrong_selectors, wrong_variant
from nightmill.errors import ConfigError, ConfigErrors, guess
from nightmill.model.campaign import Campaign, Layer
from nightmill.model.exclusion import CampaignExclusion
from nightmill.model.pipeline import Parameter, Pipeline

__all__ = ["ChangedValue", "load_campaign", "load_pipeline", "revised"]

REVISABLE: Final = ("parameters", "inputs", "calibrations", "overrides", "why", "execution.level")
"""What an operator may say of jobs that are sealed already."""


OF_JOBS: Final = ("resources", "keep_on_failure")
"""What of a stage may be said anew of jobs that are sealed already, and is not said of units alone."""


class CampaignFile(Changes):
    """A pipeline with what to run it on, and what to change."""

    campaign: str
    """Name of the campaign; it stays the same when it is submitted again."""
    pipeline: str
    """Path of the pipeline document, from the folder of this one."""
    description: str = ""
    """What it is for, in words."""


@dataclass(frozen=True)
class Written:
    """A campaign as its layers have it.

    Parameters
    ----------
    path
        Of the campaign document; that of the pipeline is relative to it.
    settings
        ``KEY=VALUE`` of a command line, the value being YAML: keys of the campaign (``parameters.sigma=3``,
        ``execution.threads=1``), or of its pipeline (``pipeline.stages.science.inputs.bias.lookup.max_days=3``).
    exclude
        Rules of a command line, beside those of the documents: an expression over files each, or ``FILE NAME``.
    overrides
        Operator's files, which go over the campaign document and under the settings.
    defaults
        Those of the site.
    engine
        The engine that carries out every job, as ``--engine`` of a command line names it.
    """

    path: Path
    settings: Sequence[str] = ()
    exclude: Sequence[str] = ()
    overrides: Sequence[Path] = ()
    defaults: Tree = NOTHING
    engine: str = ""

    def changes(self) -> list[Tree]:
        """Return what goes over the pipeline, as it is written; raises as :func:`load_campaign`."""
        document = read_changes(self.path, CAMPAIGN)
        settings = [*map(read_setting, self.settings), *([tree_of_engine(self.engine)] if self.engine else [])]
        return [document, *map(read_override, self.overrides), *settings]


def load_campaign(
    path: Path,
    settings: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    overrides: Sequence[Path] = (),
    defaults: Tree = NOTHING,
    engine: str = "",
) -> Campaign:
    """Load a campaign with its pipeline, merge the layers and check the result.

    Parameters
    ----------
    path, settings, exclude, overrides, defaults, engine
        As :class:`Written` has them.

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
    written = Written(path, settings, exclude, overrides, defaults, engine)
    changes = written.changes()
    campaign, base = _resolved(written, changes)
    variants, errors = [], list(wrong_selectors(laid(changes)))
    for units in selectors(changes) if not errors else ():
        alone = [brought(layer.below("units", units), base) for layer in changes]
        wrong = list(wrong_variant(units, campaign, alone))
        errors += wrong
        if not wrong:
            theirs, _base = _resolved(written, changes_of(units, changes))
            variants.append(variant_of(units, campaign, theirs, laid(changes)))
    raise_all(errors)
    return campaign.model_copy(update={"variants": tuple(variants)}) if variants else campaign


class ChangedValue(NamedTuple):
    """A value that is another now, and the layer that set it; as JSON, None where there was or is none."""

    key: str
    before: Plain
    after: Plain
    origin: str


def revised(campaign: Campaign, stage: str, layers: Sequence[Tree]) -> tuple[Campaign, list[ChangedValue]]:
    """Lay layers over a campaign that is sealed, for jobs of a stage, and say what is otherwise then.

    Parameters
    ----------
    layers
        As :func:`read_override` and :func:`read_setting` give them, the last one on top.

    Raises
    ------
    ConfigErrors
        Everything that is wrong with them. Only what may differ from unit to unit, and the resources of jobs, can be
        changed: by the rest a stage is planned, sliced and named.
    """
    base, said = _tree_of(campaign.pipeline), laid(layers)
    of_execution = [("execution", name) for name in said.mapping("execution")]
    errors = [
        ConfigError(
            f"{dotted(key)} cannot be changed for jobs that are planned", where=said.where(key), remedy=_MAY_BE_REVISED
        )
        for key in (*((name,) for name in said.data if name != "execution"), *of_execution)
        if dotted(key) not in REVISABLE
    ]
    errors += [*_unknown_overrides(said.below("overrides"), base), *unknown_inputs(said, base)]
    parameters = said.mapping("parameters")
    errors += _wrong_parameters(parameters, base.mapping("parameters"), said)
    raise_all(errors)
    level = build(Changes, {"execution": dict(said.mapping("execution"))}, said.where).execution.level
    if not of_execution:
        level = campaign.execution.level
    whole = laid([base.moved("pipeline"), *(brought(layer, base) for layer in layers)])
    merged, unused = with_other_sets(whole.below("pipeline"), said)
    before = campaign.pipeline.stage(stage)
    for key in merged.places:
        match key:
            case ["stages", name, *rest] if name == stage and rest:
                if not (may_differ(tuple(rest), before.making, before.tables) or rest[0] in OF_JOBS):
                    errors.append(
                        ConfigError(
                            f"{dotted(key)} cannot be changed for jobs that are planned",
                            where=merged.where(key),
                            remedy=_MAY_BE_REVISED,
                        )
                    )
    raise_all([*unused, *{str(error): error for error in errors}.values()])
    pipeline = pipeline_of(merged, Path(campaign.pipeline.directory))
    after = campaign.model_copy(
        update={
            "pipeline": pipeline.model_copy(update={"directory": campaign.pipeline.directory}),
            "parameters": {
                name: _like(value, parameters.get(name, value)) for name, value in campaign.parameters.items()
            },
            "execution": campaign.execution.model_copy(update={"level": level}),
            "origins": {**campaign.origins, **merged.moved("pipeline").origins(), **said.origins()},
        }
    )
    was, of_level = campaign.execution.level, ("execution", "level")
    told = [ChangedValue(dotted(of_level), was, level, _origin(said, of_level))] if level != was else []
    told += [
        ChangedValue(f"parameters.{name}", value, after.parameters[name], _origin(said, ("parameters", name)))
        for name, value in campaign.parameters.items()
        if after.parameters[name] != value
    ]
    old, new = (
        {key: value for key, value in leaves(_tree_of(each.pipeline).data) if key[:2] == ("stages", stage)}
        for each in (campaign, after)
    )
    told += [
        ChangedValue(dotted(key), old.get(key), new.get(key), _origin(merged, key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    return after, told


_MAY_BE_REVISED: Final = (
    "what may be: parameters, resources, keep_on_failure, what is chosen for inputs that do not make the units, and"
    " argv, arguments, environment, files, image and wall_seconds of steps; execution.level; for more, submit a"
    " campaign of another name"
)


def _tree_of(pipeline: Pipeline) -> Tree:
    """Write a pipeline as its document would have it, with every value in it."""
    data = pipeline.model_dump(mode="json", exclude={"name", "directory", "stages"})
    stages: dict[str, Plain] = {}
    for stage in pipeline.model_dump(mode="json")["stages"]:
        name, steps = stage.pop("name"), {step.pop("name"): step for step in stage.pop("steps")}
        stages[name] = {**stage, "steps": steps}
    return Tree({"pipeline": pipeline.name, **data, "stages": stages})


def _origin(tree: Tree, key: Key) -> str:
    """Name the layer that set a value, or what stands around it."""
    around = (tree.places.get(key[:length]) for length in range(len(key), 0, -1))
    return next((str(place.layer) for place in around if place is not None), "")


def _resolved(written: Written, changes: Sequence[Tree]) -> tuple[Campaign, Tree]:
    """Return the campaign that some changes make of a pipeline, and the pipeline's document."""
    path, defaults = written.path, written.defaults
    tree = with_all_exclusions(laid([of_campaigns(defaults), *changes]), changes)
    try:
        file = build(CampaignFile, tree.without("why").data, tree.where)
    except ConfigErrors as error:
        raise ConfigErrors([*error.errors, *_wrong_pipeline(path.parent, tree)]) from error
    pipeline_path = path.parent / file.pipeline
    base = load_pipeline_tree(pipeline_path, tree.where(("pipeline",)))
    unknown = [*_unknown_overrides(tree.below("overrides"), base), *unknown_inputs(tree, base)]
    whole = laid(chain(defaults, base, [] if unknown else changes))
    merged, unused = with_other_sets(without_old_reasons(whole.below("pipeline")), tree)
    errors = [ConfigError(text, where=tree.where(("campaign",))) for text in check_fit("campaign name", file.campaign)]
    errors += _wrong_parameters(file.parameters, base.mapping("parameters"), tree)
    errors += [*unknown, *unused]
    errors += wrong_stages(file.execution, base.mapping("stages"), tree)
    errors += two_engines(tree, changes, written.engine)
    errors += wrong_breakpoints(file.breakpoints, file.campaign, base.mapping("stages"), tree)
    try:
        pipeline = pipeline_of(base.below("parameters").moved("parameters").over(merged), pipeline_path.parent)
    except ConfigErrors as error:
        raise ConfigErrors([*errors, *error.errors]) from error
    raise_all(errors)
    campaign = Campaign(
        name=file.campaign,
        description=file.description,
        pipeline=pipeline,
        where=file.where,
        exclude=file.exclude,
        breakpoints=file.breakpoints,
        parameters={
            name: _like(default, file.parameters.get(name, default)) for name, default in pipeline.parameters.items()
        },
        execution=file.execution,
        home=file.home,
        origins=merged.moved("pipeline").origins()
        | whole.without("pipeline", "exclude").origins()
        | _exclusion_origins(tree, len(file.exclude)),
    )
    return excluding(campaign, written.exclude), base


def excluding(campaign: Campaign, rules: Sequence[str]) -> Campaign:
    """Return a campaign that excludes more: expressions, or ``FILE NAME``, as a command line has them."""
    numbers = range(len(campaign.exclude), len(campaign.exclude) + len(rules))
    origins = {f"exclude.{number}": Layer(name="command line") for number in numbers}
    exclude = (*campaign.exclude, *map(_exclusion, rules))
    return campaign.model_copy(update={"exclude": exclude, "origins": {**campaign.origins, **origins}})


def _exclusion(rule: str) -> CampaignExclusion:
    """Make an exclusion of a rule that was given on a command line."""
    name = rule.strip().removeprefix("FILE ")
    where = rule if name == rule.strip() else f"name == {name.strip()!r}"
    return CampaignExclusion(where=where, why="given with --exclude")


def _exclusion_origins(tree: Tree, count: int) -> dict[str, Layer]:
    """Return the layer of each exclusion of a document, with its line."""
    whole = tree.places.get(("exclude",))
    places = {number: tree.places.get(("exclude", number), whole) for number in range(count)}
    return {f"exclude.{number}": place.layer for number, place in places.items() if place is not None}


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


def _unknown_overrides(overrides: Tree, base: Tree) -> Iterator[ConfigError]:
    """Yield an error for each stage, step or role that the pipeline does not have: overrides change what is there.

    A new role is one if it says its type; without, it is a misspelt one.
    """
    for name in overrides.data:
        if name not in SETTABLE:
            remedy = "set it under 'parameters' of the campaign" if name == "parameters" else ""
            near = guess(name, SETTABLE)
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
