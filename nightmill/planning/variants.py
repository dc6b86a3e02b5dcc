"""Which units of a stage are planned and carried out otherwise than the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from nightmill.errors import guess
from nightmill.model.campaign import Campaign, Variant, unit_keys
from nightmill.model.dimensions import DataId, KeyType, written
from nightmill.model.pipeline import Stage
from nightmill.planning.origins import origin_of
from nightmill.planning.planned import StagePlan
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import StageVariant

NONE: Final = 0
"""The place of what counts for all units."""


class Variants:
    """The variants of a campaign that make a difference in a stage; their places count from 1.

    Parameters
    ----------
    campaign, stage
        Which stage.
    """

    def __init__(self, campaign: Campaign, stage: Stage) -> None:
        self.campaign = campaign
        self.stage = stage
        self.all = [
            each for each in campaign.variants if stage.name in each.stages or each.parameters != campaign.parameters
        ]
        self.used: dict[int, int] = {}
        """Places to the number of units."""
        self._places: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
        for place, variant in enumerate(self.all, start=1):
            keys = unit_keys(variant.units)
            names = tuple(sorted(keys))
            self._places.setdefault(names, {})[tuple([keys[name] for name in names])] = place

    def place(self, data_id: DataId, unit: str, problems: Problems) -> int:
        """Return the place of what counts for a unit: of several, that which says the most of it.

        None of several may say what another does not: that is a problem of the plan.
        """
        if not self.all:
            return NONE
        fit = {
            names: place
            for names, places in self._places.items()
            if data_id.keys() >= set(names)
            and (place := places.get(tuple([written(data_id[name]) for name in names]))) is not None
        }
        if not fit:
            return NONE
        names = max(fit, key=len)
        for other, place in fit.items():
            if not set(other) <= set(names):
                both = ",".join(f"{name}={written(data_id[name])}" for name in sorted({*names, *other}))
                units = [self.all[each - 1].units for each in (fit[names], place)]
                reason = f"it is of units {units[0]} and of units {units[1]}; say under units what counts for {both}"
                problems.add(f"stage {self.stage.name!r}", reason, unit)
        self.used[fit[names]] = self.used.get(fit[names], 0) + 1
        return fit[names]

    def stages(self) -> list[Stage]:
        """Return the stage as it is for each of them, in their order."""
        return [self.stage_of(place) for place in range(1, len(self.all) + 1)]

    def stage_of(self, place: int) -> Stage:
        """Return the stage as it is for the units of a variant."""
        return self.all[place - 1].stages.get(self.stage.name, self.stage)

    def sealed(self) -> tuple[StageVariant, ...]:
        """Return what is sealed of them."""
        return tuple(
            [
                StageVariant(
                    units=each.units,
                    why=each.why,
                    parameters=each.parameters,
                    stage=self.stage_of(place),
                    origins=self._origins(each, self.stage_of(place)),
                )
                for place, each in enumerate(self.all, start=1)
            ]
        )

    def _origins(self, variant: Variant, stage: Stage) -> Mapping[str, str]:
        pipeline = self.campaign.pipeline
        stages = [stage if each.name == stage.name else each for each in pipeline.stages]
        theirs = self.campaign.model_copy(
            update={
                "origins": {**self.campaign.origins, **variant.origins},
                "pipeline": pipeline.model_copy(update={"stages": tuple(stages)}),
            }
        )
        return {role: origin_of(theirs, stage.name, role) for role in stage.inputs}


def wrong_units(campaign: Campaign, keys: Mapping[str, KeyType], stages: Sequence[StagePlan]) -> Iterator[str]:
    """Yield what is wrong with the units of which a campaign says something: the key is not one, or there are none.

    Parameters
    ----------
    keys
        Those of the site.
    stages
        The plan of each stage.
    """
    used = {units for stage in stages for units in stage.variants}
    all_known = not any(stage.known_after or stage.incomplete or stage.problems for stage in stages)
    for units in (variant.units for variant in campaign.variants):
        unknown = [name for name in unit_keys(units) if name not in keys]
        for name in unknown:
            yield f"units {units!r}: {name!r} is not a key of any file type{guess(name, list(keys))}"
        if not unknown and units not in used and all_known:
            yield f"units {units!r}: no unit of the campaign is of these, or what is said of them changes nothing"
