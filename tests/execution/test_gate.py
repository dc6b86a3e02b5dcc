"""Outputs that are missing, broken or not what the plan said: nothing but the log is published."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType, MetadataKey
from nightmill.model.journal import StepBegan
from tests.execution.failing import FIRST, SECOND, must_fail
from tests.support.orders import ENDS, Bench, fits_bytes, output, python, shell


@pytest.mark.req("B42")
def test_a_missing_output_ends_the_job_and_nothing_but_the_log_is_published(bench: Bench) -> None:
    later = shell("two", "echo ran > second.txt", SECOND)
    order = bench.order(shell("one", "echo 1 > frist.txt; echo 2 > other.txt", FIRST), later)
    report = must_fail(
        bench,
        order,
        Fate.MISSING_OUTPUT,
        "did not make first (text) first.txt (its folder holds frist.txt, other.txt); look at the log",
    )
    assert [entry.step for entry in bench.entries() if isinstance(entry, StepBegan)] == ["one"]
    assert [step.exit_code for step in report.steps] == [0]


@pytest.mark.req("B42")
def test_outputs_of_a_step_before_the_failing_one_are_not_published(bench: Bench) -> None:
    order = bench.order(shell("one", "echo 1 > first.txt", FIRST), shell("two", ":", SECOND))
    report = must_fail(
        bench, order, Fate.MISSING_OUTPUT, "did not make second (text) second.txt (its folder holds nothing)"
    )
    assert [file.name for file in report.made] == ["first.txt"]


def test_too_few_of_many(bench: Bench) -> None:
    cats = output("cats", "c1.txt", "c2.txt", "c3.txt", produces="*.cat", min=2)
    must_fail(
        bench,
        bench.order(shell("s", "echo 1 > a.cat", cats)),
        Fate.MISSING_OUTPUT,
        "cats (text): 1 of at least 2 files '*.cat'",
    )


def test_too_many_of_many(bench: Bench) -> None:
    cats = output("cats", "c1.txt", produces="*.cat")
    order = bench.order(shell("s", "echo 1 > a.cat; echo 2 > b.cat", cats))
    told = "step 's' made 2 files '*.cat' for cats, at most 1 are declared; raise the output's 'max' in the pipeline"
    must_fail(bench, order, Fate.BAD_OUTPUT, told)


def test_a_listing_of_very_many_files_is_cut(bench: Bench) -> None:
    report = must_fail(
        bench,
        bench.order(shell("s", "for n in $(seq 100 599); do : > f$n; done", FIRST)),
        Fate.MISSING_OUTPUT,
        "f119 and 480 more",
    )
    assert len(report.evidence) < 500


def test_a_file_name_that_is_no_text(bench: Bench) -> None:
    must_fail(
        bench, bench.order(python("s", r"open(b'\xff.txt', 'w')", FIRST)), Fate.MISSING_OUTPUT, "holds \ufffd.txt"
    )


@pytest.mark.parametrize("script", ["cd ..; rm -r work", "cd ..; rm -r work; ln -s /tmp work"])
def test_a_step_that_does_away_with_its_working_folder(bench: Bench, script: str) -> None:
    report = bench.run_one(bench.order(shell("s", script)))
    assert report.fate is Fate.BAD_OUTPUT
    assert report.evidence.startswith(
        "step 's' removed or replaced its working folder; a step may change what is in its"
    )


def test_any_pattern_is_one_of_names(bench: Bench) -> None:
    script = "mkdir a.txt; echo 1 > b.txt; echo 2 > .c.txt; echo 3 > d.dat"
    numbered = output("n", "n1.txt", "n2.txt", "n3.txt", produces="**.txt")
    report = bench.run_one(bench.order(shell("s", script, numbered)))
    assert [file.produced_name for file in report.published if file.step] == [".c.txt", "b.txt"]


def test_an_optional_output_may_be_missing(bench: Bench) -> None:
    optional = FIRST.model_copy(update={"required": False})
    assert bench.run_one(bench.order(shell("s", ":", optional))).fate is Fate.PUBLISHED


def test_an_empty_output(bench: Bench) -> None:
    order = bench.order(shell("s", ": > first.txt", FIRST))
    report = must_fail(bench, order, Fate.BAD_OUTPUT, "step 's' made a bad first (text): first.txt is empty")
    assert str(bench.scratch) not in report.evidence


@pytest.mark.parametrize("size", [2880 + 100, 2880, 100])
def test_a_truncated_fits_output(bench: Bench, size: int) -> None:
    frame = bench.put("frame.fits", fits_bytes())
    image = output("image", "image.fits", type="image")
    order = bench.order(shell("s", f"head -c {size} ../inputs/frame.fits > image.fits", image), inputs=(frame,))
    report = must_fail(bench, order, Fate.BAD_OUTPUT, "step 's' made a bad image (image): image.fits")
    assert "is cut off" in report.evidence or "is no FITS" in report.evidence


def test_a_fits_output_without_required_metadata(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes())
    image = output("image", "image.fits", type="image")
    code = (
        "from astropy.io import fits; data, header = fits.getdata('../inputs/frame.fits', header=True);"
        "del header['EXPNUM']; fits.writeto('image.fits', data, header, checksum=True)"
    )
    order = bench.order(python("s", code, image), inputs=(frame,))
    assert (
        "EXPNUM" in must_fail(bench, order, Fate.BAD_OUTPUT, "step 's' made a bad image (image): image.fits").evidence
    )


def test_an_output_of_another_detector_than_the_plans(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes(detector=4))
    image = output("image", "image.fits", type="image")
    order = bench.order(shell("s", "cp ../inputs/frame.fits image.fits", image), inputs=(frame,))
    must_fail(bench, order, Fate.BAD_OUTPUT, "image.fits: its header says detector=4, the plan detector=3")


def test_an_output_is_of_the_keys_of_its_unit(bench: Bench) -> None:
    """X01."""
    of_unit = {"exposure": 12, "detector": 3, "airmass": 1.5, "target": "NGC 4039", "name": "frame.fits"}
    frame = bench.put("frame.fits", fits_bytes())
    image = output("image", "image.fits", type="image", data_id=of_unit)
    order = bench.order(shell("s", "cp ../inputs/frame.fits image.fits", image), inputs=(frame,))
    order = order.model_copy(update={"data_id": of_unit})
    made, log = bench.run_one(order).published
    assert made.data_id == log.data_id == {"exposure": 12, "detector": 3}
    assert made.metadata == log.metadata == {"airmass": 1.5, "target": "NGC 4039"}


def test_an_output_of_another_key_than_the_plans(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes(AIRMASS=1.25))
    image = output("image", "image.fits", type="image", data_id={"exposure": 12, "airmass": 1.5})
    order = bench.order(shell("s", "cp ../inputs/frame.fits image.fits", image), inputs=(frame,))
    must_fail(bench, order, Fate.BAD_OUTPUT, "image.fits: its header says airmass=1.25, the plan airmass=1.5")


HEAD = FileType(name="head", name_pattern="im{exposure:06d}_{seq:02d}.head")


@pytest.mark.req("X11")
def test_the_name_that_a_step_gave_says_what_an_output_is_of(bench: Bench) -> None:
    heads = output("head", "one.head", type="head", produces="*.head")
    order = bench.order(shell("s", "echo 1 > im000012_07.head", heads))
    order = order.model_copy(update={"file_types": {**order.file_types, "head": HEAD}})
    [head] = [file for file in bench.run_one(order).published if file.role == "head"]
    assert (head.name, head.produced_name) == ("one.head", "im000012_07.head")
    assert (head.data_id, head.metadata) == ({"exposure": 12, "detector": 3}, {"seq": 7})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("im000013_01.head", "im000013_01.head: its header or name says exposure=13, the plan exposure=12"),
        ("im13.head", "im13.head: 'im13.head' does not fit 'im{exposure:06d}_{seq:02d}.head'"),
    ],
)
def test_a_name_that_a_step_gave_and_that_says_something_else_is_refused(bench: Bench, name: str, told: str) -> None:
    heads = output("head", "one.head", type="head", produces="*.head")
    order = bench.order(shell("s", f"echo 1 > {name}", heads))
    order = order.model_copy(update={"file_types": {**order.file_types, "head": HEAD}})
    must_fail(bench, order, Fate.BAD_OUTPUT, told)


def test_the_name_that_the_plan_gave_says_nothing(bench: Bench) -> None:
    order = bench.order(shell("s", "echo 1 > one.head", output("head", "one.head", type="head")))
    order = order.model_copy(update={"file_types": {**order.file_types, "head": HEAD}})
    assert bench.run_one(order).fate is Fate.PUBLISHED


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("ln -s ../inputs/frame.txt first.txt", "is a symbolic link"),
        ("ln -s nowhere first.txt", "is a symbolic link"),
        ("ln ../inputs/frame.txt first.txt", "is a hard link to a file that has another name too"),
        ("mkdir first.txt", "is not a regular file"),
        ("mkfifo first.txt", "is not a regular file"),
    ],
)
def test_an_output_that_is_no_file_of_its_own(bench: Bench, script: str, what: str) -> None:
    frame = bench.put("frame.txt", b"input", type="text")
    must_fail(bench, bench.order(shell("s", script, FIRST), inputs=(frame,)), Fate.BAD_OUTPUT, f"first.txt {what}")


def test_what_a_header_has_and_is_not_a_value_is_told_in_the_log(bench: Bench) -> None:
    frame = bench.put("raw.fits", fits_bytes(AIRMASS="nan"))
    made = output("image", "image.fits", type="image")
    order = bench.order(shell("s", "cp ../inputs/raw.fits image.fits", made, inputs=("raw.fits",)), inputs=(frame,))
    report = bench.run_one(order)
    assert report.fate is Fate.PUBLISHED
    log = (bench.root / "stores/backbone/logs" / order.log_name).read_text()
    assert "== left out of the metadata of image.fits: airmass: AIRMASS of HDU 0 is nan\n" in log


def test_times_are_all_of_the_header_or_all_of_the_order(bench: Bench) -> None:
    times = {"begins_at": MetadataKey(keywords=("DATE-OBS",), type="time")}
    dated = FileType(name="image", format="fits", metadata=times)
    after = (ENDS + timedelta(days=1)).replace(tzinfo=None).isoformat()
    cards: dict[str, Any] = {"DATE-OBS": after}
    frame = bench.put("raw.fits", fits_bytes(**cards))
    made = output("image", "image.fits", type="image")
    step = shell("s", "cp ../inputs/raw.fits image.fits", made, inputs=("raw.fits",))
    order = bench.order(step, inputs=(frame,)).model_copy(update={"file_types": {"image": dated}})
    (image,) = [file for file in bench.run_one(order).published if file.role == "image"]
    assert (image.begins_at, image.ends_at) == (ENDS + timedelta(days=1), None)
