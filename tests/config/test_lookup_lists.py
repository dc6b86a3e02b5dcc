"""What is wrong with a list of lookups, a level, a context or ``missing`` is refused where the pipeline is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.pipeline import load_pipeline
from tests.config.documents import PIPELINE, refusals, write

INPUT = "source: {stage: bias}"


@pytest.mark.req("X03", "X14")
@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (
            "lookup: [{strategy: nearest}, {strategy: valid, level: 2}]",
            "stages.science.inputs.bias.lookup[1]: lookup strategy valid needs source: {calibrations: [SET]}",
        ),
        (
            "source: {stage: bias}, lookup: [{strategy: nearest}, {strategy: nearest, max_dys: 2}]",
            "unknown key stages.science.inputs.bias.lookup[1].max_dys (did you mean 'max_days'?)",
        ),
        (
            "lookup: [{strategy: nearest, source: {stage: scince}}]",
            "stages.science.inputs.bias.lookup[0].source.stage: there is no stage 'scince'",
        ),
        ("lookup: []", "lookup is an empty list; leave it out, or say what chooses"),
        (
            "lookup: {strategy: nearest, level: -1}",
            "stages.science.inputs.bias.lookup.level is -1 and should be greater than or equal to 0",
        ),
        (
            "source: {context: release}",
            "context 'release' pins calibrations; name the sets in calibrations",
        ),
        (
            "source: {stage: bias}, missing: wait",
            "missing is 'wait' and should be 'refuse', 'skip' or 'hold'",
        ),
        (
            "source: {stage: bias}, min: 0, missing: skip",
            "'bias' has min 0, so that no unit lacks it; leave missing out",
        ),
    ],
)
def test_refusal(tmp_path: Path, new: str, expected: str) -> None:
    assert INPUT in PIPELINE
    found = refusals(load_pipeline, write(tmp_path, "pipeline.yaml", PIPELINE.replace(INPUT, new)))
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith("pipeline.yaml:") for problem in found)


@pytest.mark.req("X03")
def test_what_makes_the_units_cannot_be_missing(tmp_path: Path) -> None:
    text = PIPELINE.replace("frames: {type: raw_bias, ", "frames: {type: raw_bias, missing: hold, ")
    assert text != PIPELINE
    [problem] = refusals(load_pipeline, write(tmp_path, "pipeline.yaml", text))
    assert "'frames' makes the units of the stage, so that no unit lacks it; leave missing out" in problem
