"""What follows from differences: a step's own word over that of its stage, and this over that of the pipeline."""

from __future__ import annotations

from nightmill.model.observed import policies
from nightmill.model.pipeline import Pipeline


def with_differences(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline in which each step has what holds for it, and nothing else says anything."""
    stages = []
    for stage in pipeline.stages:
        above = [pipeline.differences, stage.differences]
        steps = [step.model_copy(update={"differences": policies([*above, step.differences])}) for step in stage.steps]
        stages.append(stage.model_copy(update={"steps": tuple(steps), "differences": {}}))
    return pipeline.model_copy(update={"stages": tuple(stages), "differences": {}})
