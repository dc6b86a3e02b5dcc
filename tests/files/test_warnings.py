"""Checks that warn, all that is wrong told at once, and several checks of one plug-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightmill.config.file_types import load_file_types
from nightmill.errors import BadFile, ConfigErrors
from nightmill.files.inspection import inspect_file
from nightmill.model.base import canonical_json
from nightmill.model.file_type import Checks, FileType
from tests.files.test_checks import image


def of(**checks: Any) -> FileType:
    return FileType.model_validate({"name": "frame", "format": "fits", "checks": checks})


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    """Give an image of which a quarter is NaN."""
    return image(tmp_path / "holed.fits", (10, 10), bad=25)


def test_what_warns_holds_no_file_back(holed: Path) -> None:
    with holed.open("rb") as file:
        found = inspect_file("holed.fits", of(finite={"max_fraction": 0.5}, warn={"finite": {}}), file.fileno())
    [warning] = found.warnings
    assert (warning.check, warning.reason) == ("finite", "not_finite")
    assert warning.message.startswith("holed.fits: 25% of the 100 pixels of HDU 0 are not finite, at most 0% may")
    assert warning.message.endswith("; look at the file, or raise max_fraction of check 'finite' in its type")
    assert inspect_file(holed, of(warn={"finite": {"max_fraction": 0.5}})).warnings == ()


def test_all_that_is_wrong_is_told_at_once_and_has_the_reason_of_the_first(holed: Path) -> None:
    wanted = of(min_hdus=2, finite={}, warn={"min_bytes": 10_000})
    lacking = wanted.model_copy(update={"metadata": of().model_validate(
        {"name": "x", "metadata": {"gain": {"keywords": ["GAIN"], "required": True}}}).metadata})  # fmt: skip
    with pytest.raises(BadFile) as caught:
        inspect_file(holed, lacking)
    assert (caught.value.reason, caught.value.check) == ("too_few_hdus", "min_hdus")
    told = str(caught.value)
    assert told.startswith(f"{holed}: 3 things are wrong: (a) {holed} has 1 of at least 2 HDUs; it may be cut off")
    assert "; (b) 25% of the 100 pixels" in told
    assert "; (c) " in told
    assert "GAIN" in told
    assert "10000" not in told


def test_one_check_may_be_asked_for_several_times(holed: Path) -> None:
    wanted = of(**{"min_hdus/images": 1, "warn": {"min_bytes/large": 10_000, "min_bytes/larger": 20_000}})
    told = [(each.check, each.message) for each in inspect_file(holed, wanted).warnings]
    assert [name for name, _ in told] == ["min_bytes/large", "min_bytes/larger"]
    assert told[1][1].endswith("of at least 20000 bytes")


def test_types_without_what_is_new_are_written_as_they_were() -> None:
    assert canonical_json(Checks(min_hdus=2).model_dump(mode="json")) == (
        '{"checksum":"if_present","min_bytes":1,"min_hdus":2}'
    )
    new = of(warn={"finite": {"max_fraction": 0.1}})
    assert FileType.model_validate_json(new.model_dump_json()) == new
    assert new.checks != of(warn={"finite": {"max_fraction": 0.2}}).checks


def test_a_mistake_in_what_warns_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "types.yaml"
    path.write_text(
        "file_types:\n  notes:\n    checks:\n      warn:\n        finite: {}\n        finit: {}\n"
        "        min_bytes/all: -1\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        load_file_types([path])
    told = str(caught.value)
    assert "file_types.notes.checks.warn.finite: check 'finite' looks at files of format fits, not any" in told
    assert "unknown key file_types.notes.checks.warn.finit (did you mean 'finite'?)" in told
    assert "file_types.notes.checks.warn.min_bytes/all" in told
    assert f"{path}:7" in told
