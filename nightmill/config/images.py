"""Images of steps: what a stage, or the pipeline, says for those that name none."""

from __future__ import annotations

from collections.abc import Iterator

from nightmill.config.document import Key
from nightmill.model.container import HERE, is_image
from nightmill.model.pipeline import Pipeline


def check_images(pipeline: Pipeline) -> Iterator[tuple[Key, str]]:
    """Yield what is wrong with the images of a pipeline, with the key where it is."""
    said: dict[Key, str] = {("image",): pipeline.image}
    for stage in pipeline.stages:
        key: Key = ("stages", stage.name)
        said[(*key, "image")] = stage.image
        said |= {(*key, "steps", step.name, "image"): step.image for step in stage.steps}
    for key, image in said.items():
        if image and image != HERE and not is_image(image):
            yield key, f"{image!r} does not say which image for ever, as a tag may change: write NAME@sha256:DIGEST"


def with_images(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline in which each step has the image that it runs in, and nothing else has one."""
    stages = []
    for stage in pipeline.stages:
        steps = tuple(
            [step.model_copy(update={"image": _own(step.image, stage.image, pipeline.image)}) for step in stage.steps]
        )
        stages.append(stage.model_copy(update={"steps": steps, "image": ""}))
    return pipeline.model_copy(update={"stages": tuple(stages), "image": ""})


def _own(*said: str) -> str:
    """Return the first image that is named; nothing where that is none."""
    image = next((each for each in said if each), HERE)
    return "" if image == HERE else image
