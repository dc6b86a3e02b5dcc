"""What a pipeline says of differences between what was planned, seen and told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.config.pipeline import load_pipeline
from nightmill.errors import ConfigErrors
from nightmill.model.observed import DifferenceKind, Policy
from tests.config.documents import write

TEXT = """\
pipeline: p
version: "1"
{pipeline}
stages:
  one:
    per: [night]
    inputs: {{raw: {{type: raw}}}}
    differences: {stage}
    steps:
      - {{name: a, argv: [a]}}
      - {{name: b, argv: [b], may_eliminate: true, differences: {step}}}
"""
KINDS = DifferenceKind


def pipeline(folder: Path, *, pipeline: str = "", stage: str = "{}", step: str = "{}") -> Path:
    return write(folder, "pipeline.yaml", TEXT.format(pipeline=pipeline, stage=stage, step=step))


def said(path: Path, *settings: str) -> list[Mapping[DifferenceKind, Policy]]:
    (path.parent / "c.yaml").write_text("campaign: c\npipeline: pipeline.yaml\n")
    loaded = load_campaign(path.parent / "c.yaml", settings=settings).pipeline
    assert (loaded.differences, loaded.stages[0].differences) == ({}, {})
    found = [step.differences for step in loaded.stages[0].steps]
    assert not any(isinstance(each, str) for each in found)
    return [each for each in found if not isinstance(each, str)]


def test_a_steps_own_word_goes_over_that_of_its_stage_and_this_over_the_pipelines(tmp_path: Path) -> None:
    path = pipeline(tmp_path, pipeline="differences: {extra: fail, lied: warn}", stage="{extra: warn}",
                    step="{lied: note}")  # fmt: skip
    assert said(path) == [
        {KINDS.EXTRA: Policy.WARN, KINDS.LIED: Policy.WARN},
        {KINDS.EXTRA: Policy.WARN, KINDS.LIED: Policy.NOTE},
    ]
    assert load_pipeline(path).stages[0].steps[1].may_eliminate


@pytest.mark.req("B40")
def test_strict_is_every_kind_and_a_campaign_can_set_it(tmp_path: Path) -> None:
    path = pipeline(tmp_path, step="{never_read: note}")
    strict = dict.fromkeys(KINDS, Policy.FAIL)
    for setting in ("pipeline.differences=strict", "pipeline.stages.one.differences=strict"):
        assert said(path, setting) == [strict, {**strict, KINDS.NEVER_READ: Policy.NOTE}]
    assert said(path, "pipeline.stages.one.steps.a.differences=strict") == [strict, {KINDS.NEVER_READ: Policy.NOTE}]


def test_a_plan_that_says_nothing_keeps_its_digest(tmp_path: Path) -> None:
    text = load_pipeline(pipeline(tmp_path)).model_copy(update={"stages": ()}).model_dump_json()
    assert "differences" not in text
    step = load_pipeline(pipeline(tmp_path)).stages[0].steps[0].model_dump_json()
    assert "differences" not in step
    assert "may_eliminate" not in step


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strikt", "8: stages.one.differences"),
        ("{extra: fails}", "8: stages.one.differences.extra is 'fails' and should be 'note', 'warn' or 'fail'"),
        ("{extras: fail}", "8: "),
    ],
)
def test_what_is_not_a_kind_or_a_consequence_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as told:
        load_pipeline(pipeline(tmp_path, stage=text))
    assert message in str(told.value)
