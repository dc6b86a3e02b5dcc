"""What a stage says of tries after failures, by fate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.test_pipeline import problems


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("retries: -1", "retries is -1 and should be greater than or equal to 0 or a mapping"),
        (
            "retries: {out_of_memry: {tries: 1}}",
            "unknown key stages.science.retries.out_of_memry (did you mean 'out_of_memory'?)",
        ),
        (
            "retries: {lost: {wait_seconds: 3}}",
            "stages.science.retries.lost: tries is missing: how often a job is tried again after this",
        ),
        (
            "retries: {lost: {tries: 1, exit: {'3': {tries: 1}}}}",
            "retries.lost.exit: where the fate is lost no step exits; exit goes under step_failed",
        ),
        (
            "retries: {published: {tries: 1}}",
            "retries.published: a job that ended as published is not one that failed; leave it out",
        ),
    ],
)
def test_refusal(tmp_path: Path, said: str, expected: str) -> None:
    found = problems(tmp_path, ("  science:\n", f"  science:\n    {said}\n"))
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith("pipeline.yaml:") for problem in found)
