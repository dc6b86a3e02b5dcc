"""What a pipeline says of lookups: each is a plug-in, which knows its own options and what it cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from traceback import extract_tb
from typing import Any, Final

from nightmill import plugins
from nightmill.config.build import build
from nightmill.config.document import Finder, Key, Plain, dotted
from nightmill.config.layers import LAYERS, Tree
from nightmill.errors import BadPlugin, ConfigError, ConfigErrors, NightmillError, UnknownName, guess
from nightmill.model.base import Frozen
from nightmill.model.lookup import Lookup, Need
from nightmill.model.pipeline import Input, LookupSetting, Pipeline

GROUP: Final = "nightmill.lookups"
"""Of the entry points: a strategy's name to its class."""


def lookup_named(name: str) -> Lookup[Any]:
    """Return the lookup that an installed package offers under a name.

    Raises
    ------
    UnknownName
        Where none does.
    BadPlugin
        Where several do, or what the one offers is not a lookup.
    """
    remedy = f"install the package that offers it; there is {', '.join(plugins.names(GROUP))}"
    return _made(name, plugins.load(GROUP, name, what="lookup", remedy=remedy))


@lru_cache(maxsize=64)
def _made(name: str, offered: Callable[[], object]) -> Lookup[Any]:
    of = f"lookup {name!r} of {plugins.package(GROUP, name)}"
    try:
        made = offered()
    except Exception as error:
        raise broken(name, error) from error
    wanted = "a class that is derived from nightmill.model.lookup.Lookup"
    if not isinstance(made, Lookup) or not _are_options(made.options):
        raise BadPlugin(f"{of} is not a lookup with options", remedy=f"its entry point should name {wanted}")
    if made.name != name:
        raise BadPlugin(f"{of} calls itself {made.name!r}", remedy="its entry point should have the same name")
    return made


def _are_options(options: object) -> bool:
    own = LookupSetting.model_fields
    return isinstance(options, type) and issubclass(options, Frozen) and own.keys().isdisjoint(options.model_fields)


def broken(name: str, error: Exception) -> BadPlugin:
    """Return the error to raise where the code of a lookup fails: with the package, and the line of it."""
    [*_, frame] = extract_tb(error.__traceback__)
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return broken_promise(name, f"failed with {type(error).__name__}: {error} ({where})")


def broken_promise(name: str, what: str) -> BadPlugin:
    """Return the error to raise where a lookup does what none may."""
    remedy = "tell those who maintain that package, or choose another lookup"
    return BadPlugin(f"lookup {name!r} of {plugins.package(GROUP, name)} {what}", remedy=remedy)


def options_of(lookup: Lookup[Any], given: Mapping[str, Plain], where: Finder, prefix: Key) -> Frozen:
    """Make the options of a lookup of plain data.

    Raises
    ------
    ConfigErrors
        Everything that is wrong with them, as :func:`nightmill.config.build.build` tells it.
    BadPlugin
        Where the lookup fails to tell.
    """
    try:
        options: Frozen = build(lookup.options, dict(given), where, prefix=prefix)
    except NightmillError:
        raise
    except Exception as error:
        raise broken(lookup.name, error) from error
    return options


def with_lookups(pipeline: Pipeline, tree: Tree) -> tuple[Pipeline, list[ConfigError]]:
    """Return a pipeline with every option of its lookups, and what is wrong with them.

    Parameters
    ----------
    tree
        What the pipeline was made of, with the place of each key.
    """
    errors: list[ConfigError] = []
    stages = []
    for stage in pipeline.stages:
        inputs = dict(stage.inputs)
        for role, declared in stage.inputs.items():
            key: Key = ("stages", stage.name, "inputs", role, "lookup")
            several = isinstance(declared.lookup, tuple)
            settings = []
            for place, way in enumerate(declared.ways if declared.lookup else ()):
                assert isinstance(way.lookup, LookupSetting)
                try:
                    settings.append(_with_options(way, way.lookup, (*key, place) if several else key, tree))
                except ConfigError as error:
                    errors.append(error)
            if settings:
                chosen = tuple(settings) if several else settings[0]
                inputs[role] = declared.model_copy(update={"lookup": chosen})
        stages.append(stage.model_copy(update={"inputs": inputs}))
    return pipeline.model_copy(update={"stages": tuple(stages)}), errors


def _with_options(declared: Input, setting: LookupSetting, key: Key, tree: Tree) -> LookupSetting:
    at = (*key, "strategy")
    known = plugins.names(GROUP)
    if setting.strategy not in known:
        names = [repr(each) for each in known]
        wanted = " or ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)
        near = guess(setting.strategy, known)
        text = f"{dotted(at)} is {setting.strategy!r} and should be {wanted or 'the name of a lookup'}{near}"
        remedy = "" if near else "install the package that offers it"
        raise ConfigError(text, where=tree.where(at), remedy=remedy)
    try:
        lookup = lookup_named(setting.strategy)
        options = options_of(lookup, _left(setting, lookup, key, tree), tree.where, key)
        wrong = [
            ConfigError(f"{dotted(key)}: {text}", where=tree.where(key)) for text in _lacking(declared, lookup, options)
        ]
    except (BadPlugin, UnknownName) as error:
        raise ConfigError(f"{dotted(at)}: {error.message}", where=tree.where(at), remedy=error.remedy) from error
    if wrong:
        raise ConfigErrors(wrong)
    return setting.with_options(options)


def _left(setting: LookupSetting, lookup: Lookup[Any], key: Key, tree: Tree) -> dict[str, Plain]:
    """Return the options of a lookup without those that belong to the one that a later layer replaced by it."""

    def layer(name: str) -> int:
        place = tree.places.get((*key, name))
        return LAYERS.index(place.layer.name) if place is not None else len(LAYERS)

    chosen = layer("strategy")
    known = lookup.options.model_fields
    return {name: value for name, value in setting.options.items() if name in known or layer(name) >= chosen}


def _lacking(declared: Input, lookup: Lookup[Any], options: Frozen) -> Iterator[str]:
    """Yield what a lookup needs of its input and does not have."""
    source = declared.source
    if Need.FILES in lookup.needs:
        if not lookup.names(options):
            yield f"lookup strategy {lookup.name} needs files: the names to choose from"
        if source.stage or source.campaigns:
            yield f"lookup strategy {lookup.name} chooses from its files; take out the source"
    if Need.CALIBRATIONS in lookup.needs and not source.calibrations:
        yield f"lookup strategy {lookup.name} needs source: {{calibrations: [SET]}}"
