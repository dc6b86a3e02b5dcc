"""What was sealed of a stage, with other values: only what may differ from job to job can be changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightmill.config.campaign import ChangedValue, revised
from nightmill.config.layers import Tree
from nightmill.model.campaign import Campaign, Variant
from nightmill.planning.origins import origin_of
from nightmill.planning.sealed import StageCommon, StageVariant


@dataclass(frozen=True)
class Changed:
    """A stage with other values.

    Parameters
    ----------
    campaign
        As it counts for the jobs of the plan, changed: what they would be planned anew with.
    common
        What the jobs share, changed.
    values
        What is otherwise now; of variants, what is not the same for the other jobs.
    """

    campaign: Campaign
    common: StageCommon
    values: tuple[ChangedValue, ...]

    @property
    def other_inputs(self) -> bool:
        """Whether what is chosen for inputs may differ."""
        return any(value.key.startswith(f"stages.{self.common.stage.name}.inputs.") for value in self.values)

    @property
    def steps(self) -> frozenset[str]:
        """The steps that have other values of their own."""
        prefix = f"stages.{self.common.stage.name}.steps."
        names = [step.name for step in self.common.stage.steps]
        return frozenset(name for name in names if any(each.key.startswith(f"{prefix}{name}.") for each in self.values))


def as_planned(campaign: Campaign, common: StageCommon) -> Campaign:
    """Return a campaign as it counts for the jobs of a plan, which may have been changed since the submission."""
    own = _with(campaign, common)
    by_units = {variant.units: variant for variant in common.variants}
    variants = [_variant(each, by_units.get(each.units), common.stage.name) for each in campaign.variants]
    return own.model_copy(update={"variants": tuple(variants)})


def change(campaign: Campaign, common: StageCommon, layers: Sequence[Tree]) -> Changed:
    """Lay other values over a sealed stage.

    Parameters
    ----------
    campaign
        As it was submitted.
    layers
        What an operator says, the last one on top.

    Raises
    ------
    ConfigErrors
        Everything that is wrong with it, or that a rerun cannot change.
    """
    name = common.stage.name
    after, values = revised(_with(campaign, common), name, layers)
    told = {value.key: value for value in values}
    variants: list[StageVariant] = []
    for variant in common.variants:
        theirs, of_variant = revised(_with(campaign, variant), name, layers)
        for value in of_variant:
            told.setdefault(value.key, value)
        stage = theirs.pipeline.stage(name)
        origins = {role: origin_of(theirs, name, role) for role in stage.inputs}
        update = {"parameters": theirs.parameters, "stage": stage, "origins": origins}
        variants.append(variant.model_copy(update=update))
    own = common.model_copy(
        update={
            "parameters": after.parameters,
            "stage": after.pipeline.stage(name),
            "origins": {role: origin_of(after, name, role) for role in common.origins},
            "level": after.execution.level,
            "variants": tuple(variants),
        }
    )
    changed = as_planned(campaign.model_copy(update={"execution": after.execution, "origins": after.origins}), own)
    return Changed(changed, own, tuple(told.values()))


def _with(campaign: Campaign, counts: StageCommon | StageVariant) -> Campaign:
    stages = [counts.stage if each.name == counts.stage.name else each for each in campaign.pipeline.stages]
    pipeline = campaign.pipeline.model_copy(update={"stages": tuple(stages)})
    execution = campaign.execution
    if isinstance(counts, StageCommon):
        execution = execution.model_copy(update={"level": counts.level})
    update = {"pipeline": pipeline, "parameters": counts.parameters, "execution": execution}
    return campaign.model_copy(update=update)


def _variant(variant: Variant, sealed: StageVariant | None, stage: str) -> Variant:
    if sealed is None:
        return variant
    theirs = {"parameters": sealed.parameters, "stages": {**variant.stages, stage: sealed.stage}}
    return variant.model_copy(update=theirs)
