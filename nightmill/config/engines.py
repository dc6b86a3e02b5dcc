"""Engines of a site: where its jobs may be carried out, as its nightmill.yaml says, and which a campaign names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, cast

from nightmill import plugins
from nightmill.config.build import build
from nightmill.config.document import Document, Key, Plain, dotted, kind_of, leaves
from nightmill.config.layers import COMMAND_LINE, Place, Tree
from nightmill.config.rules import check_fit
from nightmill.errors import BadPlugin, ConfigError, ConfigErrors, UnknownName, guess
from nightmill.model.base import Frozen
from nightmill.model.campaign import Campaign, ExecutionSettings, Layer
from nightmill.model.carrier import CarrierClass
from nightmill.model.engine import THREADS, EngineKind, EngineSetting

GROUP: Final = "nightmill.engines"
"""Entry points: the kind of an engine to a class with what :class:`nightmill.model.carrier.CarrierClass` promises."""


@cache
def carrier_class(kind: str) -> CarrierClass:
    """Return the class of a carrier, which is made with the name and the options of an engine.

    Raises
    ------
    UnknownName
        Where no plug-in offers it; with a guess and those that are known.
    BadPlugin
        Where the one that does cannot be used.
    """
    kinds = ", ".join(sorted([THREADS, *plugins.names(GROUP)]))
    remedy = f"install the package that offers it; there is {kinds}"
    return cast(CarrierClass, plugins.load_with_options(GROUP, kind, what="kind of engine", remedy=remedy))


def engines_of(bodies: Mapping[str, Any], document: Document, errors: list[ConfigError]) -> dict[str, EngineSetting]:
    """Return the engines of a site by their names; add everything that is wrong with them to errors."""
    found = {THREADS: EngineSetting(THREADS, THREADS, Frozen())}
    for name, body in bodies.items():
        key: Key = ("engines", name)
        errors += [ConfigError(text, where=document.where(key)) for text in check_fit("engine name", name)]
        if not isinstance(body, dict):
            what = f"{dotted(key)} is a {kind_of(body)} and should be a mapping"
            errors.append(ConfigError(what, where=document.where(key), remedy="give it a kind: processes, for one"))
            continue
        try:
            said = {each: value for each, value in body.items() if each in EngineKind.model_fields}
            every = build(EngineKind, said, document.where, prefix=key)
            options = Frozen if every.kind == THREADS else carrier_class(every.kind).Options
            rest = {each: value for each, value in body.items() if each not in EngineKind.model_fields}
            built = build(options, rest, document.where, prefix=key)
            found[name] = EngineSetting(name, every.kind, built, every.accelerators)
        except (UnknownName, BadPlugin) as error:
            own = (*key, "kind")
            told = f"{dotted(own)}: {error.message}"
            errors.append(ConfigError(told, where=document.where(own), remedy=error.remedy))
        except ConfigError as error:
            errors += error.errors if isinstance(error, ConfigErrors) else [error]
    return found


def wrong_stages(execution: ExecutionSettings, stages: Collection[str], tree: Tree) -> Iterator[ConfigError]:
    """Yield an error for each stage that is given an engine, and that the pipeline does not have."""
    for stage in execution.engines:
        if stage not in stages:
            told = f"the pipeline has no stage {stage!r} to give an engine to{guess(stage, list(stages))}"
            yield ConfigError(told, where=tree.where(("execution", "engines", stage)))


def tree_of_engine(engine: str) -> Tree:
    """Make the layer of ``--engine`` of a command line."""
    place = Place(Layer(name=COMMAND_LINE), f"--engine {engine}")
    return Tree({"execution": {"engine": engine}}, {("execution",): place, ("execution", "engine"): place})


def two_engines(tree: Tree, changes: Sequence[Tree], engine: str) -> Iterator[ConfigError]:
    """Yield an error for each stage, or all of them, that is given two engines at once.

    A stage's own engine beside that of the campaign is an exception beside a default. It is two at once where a command
    line says it twice, or where its ``--engine``, which is for every stage, meets the stage's own.

    Parameters
    ----------
    tree
        The merged layers.
    changes
        The layers.
    engine
        That of ``--engine``; empty where there is none.
    """
    said: dict[Key, tuple[Plain, str]] = {}
    for layer in changes:
        for key, value in leaves(layer.below("execution").data):
            place = layer.places.get(("execution", *key))
            if key[0] not in ("engine", "engines") or place is None or place.layer.name != COMMAND_LINE:
                continue
            before, where = said.setdefault(key, (value, place.where))
            if before != value:
                told = f"{dotted(('execution', *key))} is given two engines: {before!r} ({where}) and {value!r}"
                yield ConfigError(told, where=place.where, remedy="say one of them")
    for stage, own in tree.mapping("execution", "engines").items() if engine else ():
        if own != engine:
            where = tree.where(("execution", "engines", stage))
            told = (
                f"stage {stage!r} is given two engines: {own!r} by execution.engines.{stage} and {engine!r} by --engine"
            )
            remedy = f"leave out --engine, or say the same of the stage: --set execution.engines.{stage}={engine}"
            yield ConfigError(told, where=where, remedy=remedy)


def wrong_engines(campaign: Campaign, engines: Mapping[str, EngineSetting]) -> Iterator[str]:
    """Yield which engines a campaign names that the site does not have, or that lack what its stages ask for."""
    yield from unknown_engines(campaign, engines)
    yield from lacking_accelerators(campaign, engines)


def unknown_engines(campaign: Campaign, engines: Mapping[str, EngineSetting]) -> Iterator[str]:
    """Yield which engines a campaign names that the site does not have, with where they are written."""
    execution = campaign.execution
    named = {"execution.engine": execution.engine}
    named |= {f"execution.engines.{stage}": engine for stage, engine in execution.engines.items()}
    for key, name in named.items():
        if name and name not in engines:
            layer = campaign.origins.get(key) or "a default"
            near = guess(name, list(engines)) or f" (it has {', '.join(engines)})"
            yield f"{key}, {layer}: the site has no engine {name!r}{near}"


def lacking_accelerators(campaign: Campaign, engines: Mapping[str, EngineSetting]) -> Iterator[str]:
    """Yield which stages of a campaign ask for accelerators that the site does not say their engine to have."""
    stages = {stage.name: stage for stage in campaign.pipeline.stages}
    for stage in [*stages.values(), *(stage for it in campaign.variants for stage in it.stages.values())]:
        wanted, engine = stage.resources, engines.get(campaign.execution.engine_of(stage.name) or THREADS)
        if wanted.accelerators and engine is not None and wanted.accelerator not in engine.accelerators:
            which = [name for name, other in engines.items() if wanted.accelerator in other.accelerators]
            yield (
                f"stage {stage.name!r}: it asks for {wanted.accelerators} of accelerator {wanted.accelerator!r}, and"
                f" engine {engine.name!r} has {', '.join(engine.accelerators) or 'none'}; "
                + (
                    f"give it engine {' or '.join(which)}"
                    if which
                    else f"where its hosts have some, say so: engines.{engine.name}.accelerators of nightmill.yaml"
                )
            )
