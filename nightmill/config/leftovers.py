"""What is kept beside outputs: junk and intermediate files, as the pipeline says for stages that say nothing."""

from __future__ import annotations

from nightmill.config.rules import NOWHERE
from nightmill.model.pipeline import Output, Pipeline, Step


def with_leftovers(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline in which each stage says what becomes of junk, and each output where it goes."""
    stages = []
    for stage in pipeline.stages:
        junk = stage.junk or pipeline.junk
        steps = tuple([_with_intermediates(step, pipeline.intermediates) for step in stage.steps])
        stages.append(stage.model_copy(update={"steps": steps, "junk": None if junk == "leave" else junk}))
    return pipeline.model_copy(update={"stages": tuple(stages), "junk": "leave", "intermediates": NOWHERE})


def _with_intermediates(step: Step, to: str) -> Step:
    if to == NOWHERE:
        return step
    outputs = {role: _kept(output, to) for role, output in step.outputs.items()}
    return step.model_copy(update={"outputs": outputs})


def _kept(output: Output, to: str) -> Output:
    return output.model_copy(update={"to": to}) if output.type and output.to == NOWHERE else output
