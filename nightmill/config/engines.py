"""Engines of a site: where its jobs may be carried out, as its nightmill.yaml says, and which a campaign names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, Final, cast

from nightmill import plugins
from nightmill.config.build import build
from nightmill.config.document import Document, Key, dotted, kind_of
from nightmill.config.layers import Tree
from nightmill.config.rules import check_fit
from nightmill.errors import BadPlugin, ConfigError, ConfigErrors, UnknownName, guess
from nightmill.model.base import Frozen
from nightmill.model.campaign import Campaign, ExecutionSettings
from nightmill.model.engine import THREADS, EngineKind, EngineSetting
from nightmill.model.ports import CarrierClass

GROUP: Final = "nightmill.engines"
"""Entry points: the kind of an engine to a class with what :class:`nightmill.model.ports.CarrierClass` promises."""


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
            said = {each: value for each, value in body.items() if each == "kind"}
            kind = build(EngineKind, said, document.where, prefix=key).kind
            options = Frozen if kind == THREADS else carrier_class(kind).Options
            rest = {each: value for each, value in body.items() if each != "kind"}
            found[name] = EngineSetting(name, kind, build(options, rest, document.where, prefix=key))
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
