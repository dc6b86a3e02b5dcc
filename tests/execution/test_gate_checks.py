"""Checks of a file type in the gate of a job: of an output alone, and of what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType
from nightmill.model.order import JobOrder, OrderStep
from tests.execution.failing import must_fail
from tests.support.orders import Bench, fits_bytes, output, python, shell
from tests.support.packages import package

COPY = "cp ../inputs/raw.fits image.fits"
CUT = (
    "from astropy.io import fits; data, header = fits.getdata('../inputs/raw.fits', header=True);"
    "fits.writeto('image.fits', data[:8], header, checksum=True)"
)
HOLE = "import numpy; " + CUT.replace("data[:8]", "numpy.where(data == data[0, 0], numpy.nan, data)")
RASH = """
from nightmill.model.base import Frozen

class Rash:
    class Options(Frozen):
        pass
    formats = ()
    compares = False
    def __init__(self, options):
        pass
    def look(self, file, inputs):
        raise KeyError("oops")
"""
IMAGE = output("image", "image.fits", type="image")


def order(bench: Bench, wanted: Mapping[str, object], *steps: OrderStep) -> JobOrder:
    """Make an order whose images have some checks, and whose one input is a raw frame."""
    raw = bench.put("raw.fits", fits_bytes(), role="raw")
    made = bench.order(*steps, inputs=(raw,))
    image = FileType.model_validate({"name": "image", "format": "fits", "checks": wanted})
    return made.model_copy(update={"file_types": {**made.file_types, "image": image}})


def test_an_output_that_passes_its_checks_is_published(bench: Bench) -> None:
    wanted = {"finite": {}, "same_shape": {"role": "raw"}}
    report = bench.run_one(order(bench, wanted, shell("s", COPY, IMAGE, inputs=("raw.fits",))))
    assert report.fate is Fate.PUBLISHED, report.evidence
    assert "image.fits" in bench.stored()


def test_an_output_that_a_check_refuses_is_told_with_its_remedy(bench: Bench) -> None:
    steps = order(bench, {"finite": {}}, python("s", HOLE, IMAGE, inputs=("raw.fits",)))
    told = (
        "step 's' made a bad image (image): image.fits: 0.0977% of the 1,024 pixels of HDU 0 are not finite, at most"
        " 0% may be; look at the file, or raise max_fraction of check 'finite' in its type"
    )
    assert must_fail(bench, steps, Fate.BAD_OUTPUT, told).published[0].role == "log"
    [log] = (bench.root / "stores").rglob("*.log")
    assert log.read_text().endswith(f"== failed: {told}\n")


def test_an_output_of_another_shape_than_an_input(bench: Bench) -> None:
    steps = order(bench, {"same_shape": {"role": "raw"}}, python("s", CUT, IMAGE, inputs=("raw.fits",)))
    told = "image.fits is 32 × 8 pixels, and raw.fits (raw), of which it was made, 32 × 32 pixels; does the step cut"
    must_fail(bench, steps, Fate.BAD_OUTPUT, told)


def test_an_input_that_is_staged_by_another_name_is_compared(bench: Bench) -> None:
    cut = python("s", CUT.replace("raw.fits", "e1.fits"), IMAGE, inputs=("raw.fits",))
    made = order(bench, {"same_shape": {"role": "raw"}}, cut)
    [raw] = made.inputs
    renamed = made.model_copy(update={"inputs": (raw.model_copy(update={"staged_as": "e1.fits"}),)})
    must_fail(bench, renamed, Fate.BAD_OUTPUT, "image.fits is 32 × 8 pixels, and raw.fits (raw), of which it was made")


def test_what_an_earlier_step_made_is_compared_as_well(bench: Bench) -> None:
    first = output("first", "first.fits", type="image")
    one = shell("one", COPY.replace("image.fits", "first.fits"), first, inputs=("raw.fits",))
    cut = CUT.replace("../inputs/raw.fits", "../outputs/first.fits")
    plain = order(
        bench, {}, one, python("two", cut, output("second", "image.fits", type="cut"), inputs=("first.fits",))
    )
    compared = FileType.model_validate({"name": "cut", "format": "fits", "checks": {"same_shape": {"role": "first"}}})
    steps = plain.model_copy(update={"file_types": {**plain.file_types, "cut": compared}})
    must_fail(
        bench, steps, Fate.BAD_OUTPUT, "image.fits is 32 × 8 pixels, and first.fits (first), of which it was made"
    )


def test_a_step_that_reads_nothing_with_the_role(bench: Bench) -> None:
    steps = order(bench, {"same_shape": {"role": "bias"}}, shell("s", COPY, IMAGE, inputs=("raw.fits",)))
    must_fail(bench, steps, Fate.BAD_OUTPUT, "its step reads nothing with the role 'bias'; roles of what it reads: raw")


def test_a_mistake_of_a_check_ends_the_job_and_not_the_night(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    package(tmp_path / "site", "rash_checks", RASH, {"nightmill.checks": {"rash": "Rash"}}, "0.3")
    monkeypatch.syspath_prepend(tmp_path / "site")
    bad = order(bench, {"rash": {}}, shell("s", COPY, IMAGE, inputs=("raw.fits",)))
    good = bench.order(shell("s", "echo 1 > first.txt", output("first", "first.txt")), unit="exposure=13")
    reports = bench.run(bad, good)
    assert [report.fate for report in reports] == [Fate.BAD_OUTPUT, Fate.PUBLISHED]
    assert reports[0].evidence == (
        "step 's' made a bad image (image): check 'rash' of rash_checks 0.3 failed on image.fits: KeyError:"
        " 'oops'; tell whoever maintains the check; the file may be good"
    )
    assert "image.fits" not in bench.stored()


def test_a_check_that_is_not_installed_where_the_job_runs(bench: Bench) -> None:
    steps = order(bench, {"elsewhere": {}}, shell("s", COPY, IMAGE, inputs=("raw.fits",)))
    told = "image.fits cannot be looked at: no check named 'elsewhere'; known checks: checksum, columns, command,"
    must_fail(bench, steps, Fate.BAD_OUTPUT, told)


def test_a_warning_is_in_the_journal_and_the_log_and_holds_nothing_back(bench: Bench) -> None:
    report = bench.run_one(order(bench, {"warn": {"finite": {}}}, python("s", HOLE, IMAGE, inputs=("raw.fits",))))
    assert report.fate is Fate.PUBLISHED, report.evidence
    made = next(file for file in report.published if file.role == "image")
    [warning] = made.warnings
    assert (warning.check, warning.reason) == ("finite", "not_finite")
    assert warning.message.startswith("image.fits: 0.0977% of the 1,024 pixels of HDU 0 are not finite")
    [log] = (bench.root / "stores").rglob("*.log")
    assert "== check finite warns of image.fits: 0.0977%" in log.read_text()


def test_all_outputs_that_are_bad_are_told_at_once(bench: Bench) -> None:
    first, second = output("first", "a.fits", type="image"), output("second", "b.fits", type="image")
    code = HOLE.replace("image.fits", "a.fits") + "; open('b.fits', 'w').write('x')"
    make = python("s", code, first, second, inputs=("raw.fits",))
    told = "step 's' made 2 bad files: (1) first (image): a.fits: 2 things are wrong: (a) "
    report = must_fail(bench, order(bench, {"finite": {}, "min_hdus/more": 2}, make), Fate.BAD_OUTPUT, told)
    assert "(a) 0.0977% of the 1,024 pixels of HDU 0 are not finite" in report.evidence
    assert "a.fits has 1 of at least 2 HDUs" in report.evidence
    assert "; (2) second (image): b.fits " in report.evidence
    assert [file.role for file in report.published] == ["log"]
