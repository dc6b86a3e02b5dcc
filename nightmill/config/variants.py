"""What a campaign does otherwise for some of its units, layer by layer like the campaign itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from nightmill.config.changes import laid
from nightmill.config.document import Key, leaves
from nightmill.config.layers import Tree
from nightmill.errors import ConfigError
from nightmill.model.campaign import Campaign, Layer, Variant, unit_keys

_OF_INPUT: Final = ("where", "source", "lookup", "match", "min", "max", "missing", "why")
_OF_STEP: Final = ("argv", "arguments", "environment", "files", "image", "wall_seconds")
"""What may differ from unit to unit; the rest is what a stage is planned, sliced and named by."""


def selectors(changes: Sequence[Tree]) -> list[str]:
    """Return the units that layers speak of, as they write them, each once."""
    return list(dict.fromkeys(units for layer in changes for units in layer.mapping("units")))


def wrong_selectors(changes: Tree) -> Iterator[ConfigError]:
    """Yield an error for each of the units that is not written as names of units are."""
    for units in changes.mapping("units"):
        if not unit_keys(units):
            yield ConfigError(
                f"units.{units!r} are not units", where=changes.where(("units", units)), remedy="write exposure=12"
            )


def changes_of(units: str, changes: Sequence[Tree]) -> list[Tree]:
    """Return what counts for some units: what each layer says of all, then of wider units, then of these."""
    wanted = unit_keys(units).items()
    layers = []
    for layer in changes:
        wider = [each for each in layer.mapping("units") if unit_keys(each).items() <= wanted]
        theirs = sorted(wider, key=lambda each: len(unit_keys(each)))
        layers.append(laid([layer.without("units"), *(layer.below("units", each).without("why") for each in theirs)]))
    return layers


def variant_of(units: str, campaign: Campaign, theirs: Campaign, changes: Tree) -> Variant:
    """Return how a campaign as it counts for some units differs from the campaign itself.

    Parameters
    ----------
    theirs
        The campaign as it would be, were what is said of these units said of all.
    """
    before = {stage.name: stage for stage in campaign.pipeline.stages}
    origins: dict[str, Layer] = {
        key: layer for key, layer in theirs.origins.items() if campaign.origins.get(key) != layer
    }
    return Variant(
        units=units,
        why=str(changes.mapping("units", units).get("why", "")),
        parameters=theirs.parameters,
        stages={stage.name: stage for stage in theirs.pipeline.stages if stage != before[stage.name]},
        origins=origins,
    )


def wrong_variant(units: str, campaign: Campaign, theirs: Sequence[Tree]) -> Iterator[ConfigError]:
    """Yield an error for each value that some units cannot have of their own.

    Parameters
    ----------
    theirs
        What layers say of these units alone, with the pipeline's keys under ``pipeline``.
    """
    for layer in theirs:
        for stage in campaign.pipeline.stages:
            for key, _ in leaves(layer.mapping("pipeline", "stages", stage.name)):
                if not may_differ(key, stage.making, stage.tables):
                    yield ConfigError(
                        f"units.{units!r}: {'.'.join(map(str, key[:3]))} of stage {stage.name!r} is the same for all"
                        " units of the stage",
                        where=layer.where(("pipeline", "stages", stage.name, *key)),
                        remedy="what may differ: parameters, what is chosen for inputs that do not make the units,"
                        f" and {', '.join(_OF_STEP)} of steps",
                    )
                    break


def may_differ(key: Key, making: str, tables: frozenset[str]) -> bool:
    """Say whether what stands under a key of a stage may differ from unit to unit."""
    match key:
        case ["inputs", role, *rest]:
            return role != making and role not in tables and (not rest or rest[0] in _OF_INPUT)
        case ["steps", _, *rest]:
            return not rest or rest[0] in (*_OF_STEP, "name")
        case [single]:
            return single in ("inputs", "steps")
        case _:
            return False
