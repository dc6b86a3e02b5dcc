"""What goes over and under a pipeline: a site's defaults, a campaign, an operator's file, flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from nightmill.config.build import build
from nightmill.config.document import Key, Plain, load_document
from nightmill.config.layers import LAYERS, OVERRIDE, Tree, tree_of, tree_of_setting
from nightmill.config.pipeline import by_step_name
from nightmill.errors import ConfigError, guess
from nightmill.model.base import Frozen
from nightmill.model.breakpoint import Breakpoint
from nightmill.model.campaign import ExecutionSettings, Home
from nightmill.model.exclusion import CampaignExclusion
from nightmill.model.pipeline import Parameter, Resources
from nightmill.model.retries import Retries

SPREAD: Final = ("inputs", "calibrations", "units")
"""What a layer says of all stages at once, or of some units alone."""


class Choices(Frozen):
    """What may be said of a whole campaign, and of some of its units alone."""

    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    """Values in the place of the pipeline's defaults."""
    calibrations: Mapping[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Calibration sets in the place of others, wherever the pipeline takes from these: ``{ccd: ccd-2026b}``."""
    inputs: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Keys of inputs, by role, in every stage that has an input of that role; with ``why``, which the plan shows."""
    overrides: Mapping[str, Any] = Field(default_factory=dict)
    """What else of the pipeline it changes: mappings are merged key by key, anything else is replaced."""


class UnitChoices(Choices):
    """What is said of some units alone."""

    why: str = ""
    """The reason, which the plan shows."""


class Changes(Choices):
    """What a campaign, or an operator's file over it, changes of what lies below."""

    where: str = ""
    """An expression over raw and manual files: what the campaign works on."""
    execution: ExecutionSettings = ExecutionSettings()
    """How its jobs are carried out."""
    home: Home = Home()
    """Where its outputs come home to."""
    exclude: tuple[CampaignExclusion, ...] = ()
    """What must not be an input, beside what is excluded in the catalogue and by other layers."""
    breakpoints: tuple[Breakpoint, ...] = ()
    """Where it waits for a sign-off."""
    units: Mapping[str, UnitChoices] = Field(default_factory=dict)
    """What is otherwise for some units, by the keys that they have: ``{"exposure=12,detector=3": {...}}``."""


class OverrideFile(Changes):
    """What an operator changes of a campaign, in a file of its own, and why."""

    why: str
    """The reason, which goes on record."""


class StageDefaults(Frozen):
    """What stages have that do not say it themselves."""

    resources: Resources = Resources()
    """What one job needs."""
    retries: Retries = 0
    """How often a job is tried again by itself, or what is done by fate."""


class StepDefaults(Frozen):
    """What steps have that do not say it themselves."""

    wall_seconds: float = Field(default=3600.0, gt=0)
    """How long a step may run, seconds."""
    environment: Mapping[str, str] = Field(default_factory=dict)
    """Variables that it sees."""


class Defaults(Frozen):
    """What a site sets for every campaign, below what pipelines and campaigns say."""

    execution: ExecutionSettings = ExecutionSettings()
    """How jobs are carried out."""
    home: Home = Home()
    """Where outputs come home to."""
    stage: StageDefaults = StageDefaults()
    """For each stage."""
    step: StepDefaults = StepDefaults()
    """For each step."""


def read_override(path: Path) -> Tree:
    """Read an operator's file as a layer.

    Raises
    ------
    ConfigError, ConfigErrors
        Where it cannot be read, gives no reason, or has keys that such a file does not have.
    """
    tree = read_changes(path, OVERRIDE)
    if not build(OverrideFile, tree.data, tree.where).why.strip():
        raise ConfigError("why is empty", where=tree.where(("why",)), remedy="say why the campaign is changed")
    return tree


def read_changes(path: Path, layer: str) -> Tree:
    """Read a document that changes a pipeline as a layer; raises as :func:`~nightmill.config.pipeline.by_step_name`."""
    document = by_step_name(load_document(path), ("overrides",))
    units = document.data.get("units")
    for name in units if isinstance(units, dict) else ():
        document = by_step_name(document, ("units", name, "overrides"))
    return tree_of(document, layer)


def read_setting(setting: str) -> Tree:
    """Read one ``KEY=VALUE`` of a command line as a layer; raises as :func:`tree_of_setting`."""
    tree = tree_of_setting(setting)
    of_pipeline = tree.data.get("pipeline")
    return tree.below("pipeline").moved("overrides") if isinstance(of_pipeline, dict) else tree


def laid(layers: Sequence[Tree]) -> Tree:
    """Lay layers over each other, the last one on top."""
    return reduce(lambda below, layer: layer.over(below), layers, Tree())


def chain(defaults: Tree, pipeline: Tree, changes: Sequence[Tree]) -> list[Tree]:
    """Return all layers of a campaign, the lowest first, with keys as ``--set`` writes them.

    Parameters
    ----------
    defaults
        Of the site.
    pipeline
        The pipeline's document.
    changes
        The campaign's document and what goes over it, as they are written.
    """
    site = laid([of_campaigns(defaults), _of_stages(defaults, pipeline).moved("pipeline")])
    own = pipeline.below("parameters").moved("parameters").over(pipeline.without("parameters").moved("pipeline"))
    return [site, own, *(brought(layer, pipeline) for layer in changes)]


def of_campaigns(defaults: Tree) -> Tree:
    """Return what a site sets for campaigns themselves."""
    return laid([defaults.below(key).moved(key) for key in ("execution", "home")])


def with_all_exclusions(merged: Tree, changes: Sequence[Tree]) -> Tree:
    """Put the exclusions of all layers in the place of those of the highest: each of them leaves something out."""
    layers = [layer for layer in changes if isinstance(layer.data.get("exclude"), list)]
    if not layers:
        return merged
    places = {key: place for key, place in merged.places.items() if key[:1] != ("exclude",)}
    rules: list[Plain] = []
    for layer in layers:
        for key, place in layer.places.items():
            match key:
                case ["exclude", int() as number, *rest]:
                    places[("exclude", len(rules) + number, *rest)] = place
                case ["exclude"]:
                    places[key] = place
                case _:
                    pass
        rules += layer.data["exclude"]
    return Tree({**merged.data, "exclude": rules}, places)


def unknown_inputs(changes: Tree, pipeline: Tree) -> Iterator[ConfigError]:
    """Yield an error for each role under ``inputs`` that no stage has."""
    known = {role for stage in _stages(pipeline) for role in pipeline.mapping("stages", stage, "inputs")}
    for role in changes.mapping("inputs"):
        if role not in known:
            near = guess(role, sorted(known)) or f" (there is {', '.join(sorted(known))})"
            yield ConfigError(f"no stage has an input {role!r}{near}", where=changes.where(("inputs", role)))


def with_other_sets(pipeline: Tree, changes: Tree) -> tuple[Tree, list[ConfigError]]:
    """Put calibration sets in the place of others, and return what could not be replaced.

    Parameters
    ----------
    changes
        With old names to new ones under ``calibrations``.
    """
    others = changes.mapping("calibrations")
    found: dict[str, None] = {}
    places = dict(pipeline.places)

    def replaced(value: Plain, key: Key) -> Plain:
        if isinstance(value, list) and key[-2:] == ("source", "calibrations"):
            names = [each for each in value if isinstance(each, str)]
            found.update(dict.fromkeys(names))
            if not (gone := [name for name in names if name in others]):
                return value
            places[key] = changes.places[("calibrations", gone[0])]
            return [name for each in value for name in (_names(others[each]) if each in gone else [each])]
        if isinstance(value, dict):
            return {name: replaced(each, (*key, name)) for name, each in value.items()}
        if isinstance(value, list):
            return [replaced(each, (*key, place)) for place, each in enumerate(value)]
        return value

    tree = Tree(replaced(pipeline.data, ()), places)
    errors = [
        ConfigError(
            f"no input takes from calibration set {name!r}{guess(name, list(found)) or _there(found)}",
            where=changes.where(("calibrations", name)),
        )
        for name in others
        if name not in found
    ]
    return tree, errors


def without_old_reasons(pipeline: Tree) -> Tree:
    """Take ``why`` from inputs that a layer over the one that says it changed again: it is the reason of neither."""
    gone: set[Key] = set()
    for stage in _stages(pipeline):
        for role, body in pipeline.mapping("stages", stage, "inputs").items():
            key: Key = ("stages", stage, "inputs", role)
            said = pipeline.places.get((*key, "why"))
            if isinstance(body, dict) and said is not None:
                layers = [
                    place.layer for own, place in pipeline.places.items() if own[: len(key)] == key and own != key
                ]
                if max(LAYERS.index(layer.name) for layer in layers) > LAYERS.index(said.layer.name):
                    gone.add((*key, "why"))
    return pipeline.cut(gone)


def brought(layer: Tree, pipeline: Tree) -> Tree:
    """Bring what a layer says of inputs by their role alone to the stages; what it says of a stage goes over that."""
    roles = laid(
        [
            layer.below("inputs", role).moved("stages", stage, "inputs", role)
            for stage in _stages(pipeline)
            for role in layer.mapping("inputs")
            if role in pipeline.mapping("stages", stage, "inputs")
        ]
    )
    of_pipeline = layer.below("overrides").over(roles).moved("pipeline")
    return of_pipeline.over(layer.without("overrides", "pipeline", *SPREAD))


def _of_stages(defaults: Tree, pipeline: Tree) -> Tree:
    """Return what a site sets for every stage and step, by the names of those that a pipeline has."""
    of_stage, of_step = defaults.below("stage"), defaults.below("step")
    trees = []
    for stage in _stages(pipeline):
        trees.append(of_stage.moved("stages", stage))
        steps = pipeline.mapping("stages", stage, "steps")
        trees += [of_step.moved("stages", stage, "steps", step) for step in steps]
    return laid(trees)


def _stages(pipeline: Tree) -> list[str]:
    return [name for name, body in pipeline.mapping("stages").items() if isinstance(body, dict)]


def _names(name: Plain) -> list[Plain]:
    return list(name) if isinstance(name, list | tuple) else [name]


def _there(names: Mapping[str, None]) -> str:
    return f" (there is {', '.join(names)})" if names else " (no input takes from any)"
