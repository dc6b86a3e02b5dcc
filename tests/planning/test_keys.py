"""Keys: units, matches and names by whatever the file types of a site read, not by dimensions alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from nightmill.model.dimensions import unit_name
from nightmill.model.file_type import FileType, MetadataKey
from nightmill.planning.planned import CampaignPlan, StagePlan
from nightmill.planning.sealed import PlannedJob
from tests.planning.world import World, make_campaign

KEYS: Final = {
    "dit": MetadataKey(keywords=("DIT",), type="float"),
    "coadds": MetadataKey(keywords=("NDIT",), type="int"),
    "target": MetadataKey(keywords=("OBJECT",)),
    "plus": MetadataKey(keywords=("PLUS",), type="int"),
    "minus": MetadataKey(keywords=("MINUS",), type="int"),
}
DARKS: Final[Mapping[str, Any]] = {
    "name": "dark",
    "per": ["instrument", "dit", "coadds"],
    "inputs": {"frames": {"type": "dark", "max": None}},
    "steps": [
        {
            "name": "combine",
            "argv": ["combine", "--dit={unit.dit}", "{inputs.frames}"],
            "inputs": ["frames"],
            "outputs": {"master": {"type": "master_dark"}},
        }
    ],
}
SCIENCE: Final[Mapping[str, Any]] = {
    "name": "science",
    "per": ["target"],
    "inputs": {
        "raw": {"type": "science", "max": None},
        "dark": {"type": "master_dark", "source": {"stage": "dark"}, "match": {"also": ["dit", "coadds"]}},
    },
    "steps": [
        {"name": "jitter", "argv": ["jitter"], "inputs": ["raw", "dark"], "outputs": {"image": {"type": "mosaic"}}}
    ],
}
LOOK: Final[Mapping[str, Any]] = {
    "name": "look",
    "per": ["target"],
    "inputs": {"raw": {"type": "science"}},
    "steps": [{"name": "s", "argv": ["s", "{unit.target}"]}],
}


@pytest.fixture(autouse=True)
def types(request: pytest.FixtureRequest) -> None:
    """Let the world have types with metadata."""
    name = "world" if "world" in request.fixturenames else "small_world"
    world: World = request.getfixturevalue(name)
    names = {"master_dark": "{dit}_{coadds}_dark", "mosaic": "{target}_mosaic", "picture": "{stem}_{target}_{role}"}
    end = "_c{campaign:04d}a{attempt:02d}.fits"
    world.types = {each: FileType(name=each, metadata=KEYS) for each in ("dark", "science", "pair")}
    world.types |= {each: FileType(name=each, template=text + end) for each, text in names.items()}


def darks(world: World, *settings: tuple[float, int]) -> None:
    for number, (dit, coadds) in enumerate(settings):
        world.add_raw("dark", [2 * number, 2 * number + 1], [1], metadata={"dit": dit, "coadds": coadds})


def units(plan: CampaignPlan, stage: int = 0) -> list[str]:
    assert plan.problems == ()
    return [job.unit for job in plan.stages[stage].jobs]


def inputs(stage: StagePlan, role: str) -> dict[str, list[str]]:
    return {job.unit: names(stage, job, role) for job in stage.jobs}


def names(stage: StagePlan, job: PlannedJob, role: str) -> list[str]:
    [found] = [each for each in stage.inputs(job) if each.role == role]
    return [file.name for file in found.files]


def test_units_by_metadata_are_in_the_order_of_its_values(world: World) -> None:
    """X01."""
    darks(world, (10.0, 2), (9.5, 2), (10.0, 1), (0.1, 1), (1e16, 1))
    plan = world.plan(make_campaign(DARKS))
    assert units(plan) == [
        "instrument=nmcam,dit=0.1,coadds=1",
        "instrument=nmcam,dit=9.5,coadds=2",
        "instrument=nmcam,dit=10.0,coadds=1",
        "instrument=nmcam,dit=10.0,coadds=2",
        "instrument=nmcam,dit=1e+16,coadds=1",
    ]
    first = plan.stages[0].jobs[1]
    assert first.data_id == {"instrument": "nmcam", "dit": 9.5, "coadds": 2}
    assert names(plan.stages[0], first, "frames") == ["dark_000002_01.fits", "dark_000003_01.fits"]


def test_texts_are_grouped_by_code_points_whatever_the_language_of_the_database(world: World) -> None:
    for number, target in enumerate(["b", "A", "\u00e4", "a", "B", "a"]):
        world.add_raw("science", [number], [1], metadata={"target": target})
    stage = {**LOOK, "inputs": {"raw": {"type": "science", "max": None}}}
    assert units(world.plan(make_campaign(stage))) == ["target=A", "target=B", "target=a", "target=b", "target=\u00e4"]


def test_a_product_is_of_what_its_unit_is_of_and_the_next_stage_is_matched_by_it(world: World) -> None:
    """X01: darks by DIT and NDIT, projected and made."""
    darks(world, (10.0, 2), (2.0, 1))
    for number, (target, dit, coadds) in enumerate([("M31", 10.0, 2), ("M31", 10.0, 2), ("M33", 2.0, 1)]):
        world.add_raw("science", [100 + number], [1], metadata={"target": target, "dit": dit, "coadds": coadds})
    campaign = make_campaign(DARKS, SCIENCE)
    plan = world.plan(campaign)
    assert units(plan, 1) == ["target=M31", "target=M33"]
    assert inputs(plan.stages[1], "dark") == {
        "target=M31": ["10.0_2_dark_c0001a01.fits"],
        "target=M33": ["2.0_1_dark_c0001a01.fits"],
    }
    world.seal(campaign, "dark")
    orders = world.issue("dark")
    assert orders[0].steps[0].argv[1] == "--dit=2.0"
    for order in orders:
        world.end(order)
    made = world.plan_stage(campaign, "science")
    assert made.problems == ()
    assert inputs(made, "dark") == inputs(plan.stages[1], "dark")


def test_a_miss_says_which_key_and_shows_both_values(world: World) -> None:
    """F43: the keys of data and ground are both shown; X14."""
    darks(world, (10.0, 2), (30.0, 2), (5.0, 2), (300.0, 2))
    world.add_raw("science", [100], [1], metadata={"target": "M31", "dit": 12.0, "coadds": 2})
    world.add_raw("science", [101], [1], metadata={"target": "M33", "coadds": 2})
    assert list(world.plan(make_campaign(DARKS, SCIENCE)).problems) == [
        "stage 'science', input 'dark': at least 1 master_dark needed, none found (made by stage dark): 2 units, as"
        " target=M31 (dit is 12.0, and there is 10.0, 5.0, 30.0, ...); target=M33 (the unit has no dit)"
    ]


def test_a_unit_whose_files_differ_in_what_is_asked_of_it_is_refused(world: World) -> None:
    """X14: nothing is chosen by the first file of a mixed group."""
    darks(world, (10.0, 2), (2.0, 2))
    for number, dit in enumerate([10.0, 2.0]):
        world.add_raw("science", [100 + number], [1], metadata={"target": "M31", "dit": dit, "coadds": 2})
    [problem] = world.plan(make_campaign(DARKS, SCIENCE)).problems
    assert problem == (
        "stage 'science', input 'dark': the files of a unit differ in dit, by which this input is chosen; add dit to"
        " 'per', or say in 'match' on what they must agree: unit target=M31"
    )


def test_a_lookup_does_not_choose_by_the_first_file_of_a_mixed_group(world: World) -> None:
    from tests.planning.world import SCIENCE as REDUCE
    from tests.planning.world import file_types

    world.types = file_types()
    world.add_raw("raw_science", [7, 8], [1])
    world.add_raw("raw_science", [9], [2])
    for detector in (1, 2):
        world.add_calibration(f"bias{detector}.fits", detector=detector)
    whole = {**REDUCE, "per": ["night"], "inputs": {**REDUCE["inputs"], "raw": {"type": "raw_science", "max": None}}}
    problems = [each for each in world.plan(make_campaign(whole)).problems if "input 'bias'" in each]
    assert problems == [
        "stage 'science', input 'bias': the files of a unit differ in detector, by which this input is chosen; add"
        " detector to 'per', or say in 'match' on what they must agree: unit night=20260110"
    ]


def test_a_file_agrees_with_one_of_several_keys_of_the_unit(world: World) -> None:
    """X10: the two images of a pair."""
    world.add_raw("science", range(1, 6), [1])
    for number, (plus, minus) in enumerate([(1, 2), (2, 5)]):
        world.add_raw("pair", [100 + number], [1], metadata={"plus": plus, "minus": minus})
    stage = {
        "name": "difference",
        "per": ["plus", "minus"],
        "units_from": "pair",
        "inputs": {
            "pair": {"type": "pair"},
            "images": {"type": "science", "match": {"exposure": ["plus", "minus"]}, "min": 2, "max": 2},
        },
        "steps": [{"name": "s", "argv": ["s"]}],
    }
    plan = world.plan(make_campaign(stage))
    assert plan.problems == ()
    assert inputs(plan.stages[0], "images") == {
        "plus=1,minus=2": ["science_000001_01.fits", "science_000002_01.fits"],
        "plus=2,minus=5": ["science_000002_01.fits", "science_000005_01.fits"],
    }


def test_an_input_is_matched_by_the_files_of_another(world: World) -> None:
    """X10: one head an exposure, for the exposures that another input has."""
    world.add_raw("science", [1, 2, 3], [1], metadata={"target": "M31"})
    world.add_raw("dark", [2, 3, 4], [1])
    stage = {
        "name": "coadd",
        "per": ["target"],
        "inputs": {
            "heads": {"type": "dark", "match": {"exposure": "images.exposure"}, "max": None},
            "images": {"type": "science", "where": "exposure > 1", "max": None},
        },
        "units_from": "images",
        "steps": [{"name": "s", "argv": ["s"]}],
    }
    plan = world.plan(make_campaign(stage))
    assert plan.problems == ()
    assert inputs(plan.stages[0], "heads") == {"target=M31": ["dark_000002_01.fits", "dark_000003_01.fits"]}
    [job] = plan.stages[0].jobs
    assert [choice.role for choice in job.choices] == ["heads", "images"]


COADD: Final[Mapping[str, Any]] = {
    "name": "coadd",
    "per": ["target"],
    "inputs": {
        "images": {"type": "science", "max": None},
        "heads": {"type": "dark", "match": {"exposure": "images.exposure"}, "max": None},
    },
    "steps": [{"name": "s", "argv": ["s"]}],
}


def coadd(**heads: object) -> dict[str, Any]:
    inputs = COADD["inputs"]
    return {**COADD, "inputs": {**inputs, "heads": {**inputs["heads"], **heads}}}


@pytest.mark.parametrize("missing", ["refuse", "skip", "hold"])
def test_each_file_of_the_other_input_must_have_one(world: World, missing: str) -> None:
    """X10, X03: a coadd without the head of one of its images would be wrong, and nothing would say so."""
    world.add_raw("science", [0, 1, 2], [1], metadata={"target": "M31"})
    world.add_raw("science", [3], [1], metadata={"target": "M33"})
    world.add_raw("dark", [1, 3], [1])
    plan = world.plan(make_campaign(coadd(missing=missing)))
    reason = "each file of 'images' needs a dark of the same exposure (raw or manual)"
    detail = "none for science_000000_01.fits, exposure=0"
    if missing == "refuse":
        assert plan.problems == (f"stage 'coadd', input 'heads': {reason}: unit target=M31 ({detail})",)
    else:
        assert plan.problems == ()
        assert inputs(plan.stages[0], "heads") == {"target=M33": ["dark_000003_01.fits"]}
        [left] = plan.stages[0].left_out
        assert (left.unit, left.missing, left.why) == ("target=M31", missing, f"{reason} ({detail})")


def test_an_optional_input_has_what_is_there_for_the_files_of_another(world: World) -> None:
    world.add_raw("science", [0, 1, 2], [1], metadata={"target": "M31"})
    world.add_raw("dark", [1], [1])
    plan = world.plan(make_campaign(coadd(min=0)))
    assert plan.problems == ()
    assert inputs(plan.stages[0], "heads") == {"target=M31": ["dark_000001_01.fits"]}


def test_a_file_without_the_key_has_no_partner(world: World) -> None:
    world.add_raw("science", [1, 2], [1], metadata={"target": "M31", "dit": 2.0})
    world.add_raw("science", [3], [1], metadata={"target": "M31"})
    world.add_raw("dark", [4], [1], metadata={"dit": 2.0})
    plan = world.plan(make_campaign(coadd(match={"dit": "images.dit"})))
    reason = "each file of 'images' needs a dark of the same dit (raw or manual)"
    detail = "none for science_000003_01.fits"
    assert plan.problems == (f"stage 'coadd', input 'heads': {reason}: unit target=M31 ({detail})",)


def test_several_keys_are_those_of_one_file_of_the_other_input(world: World) -> None:
    """X10, X07: of detector 1 of one exposure and detector 2 of another, a job has two heads and not four."""
    world.add_raw("science", [1], [1], metadata={"target": "M31"})
    world.add_raw("science", [2], [2], metadata={"target": "M31"})
    world.add_raw("dark", [1, 2], [1, 2])
    match = {"exposure": "images.exposure", "detector": "images.detector"}
    plan = world.plan(make_campaign(coadd(match=match)))
    assert plan.problems == ()
    assert inputs(plan.stages[0], "heads") == {"target=M31": ["dark_000001_01.fits", "dark_000002_02.fits"]}


def test_one_job_a_file(world: World) -> None:
    """X15."""
    for number, target in enumerate(["M31", "M33"]):
        world.add_raw("science", [number], [1], metadata={"target": target})
    stage = {
        "name": "look",
        "per": ["name"],
        "inputs": {"raw": {"type": "science"}},
        "steps": [{"name": "s", "argv": ["s", "{unit.name}"], "outputs": {"png": {"type": "picture"}}}],
    }
    plan = world.plan(make_campaign(stage))
    assert units(plan) == ["name=science_000000_01.fits", "name=science_000001_01.fits"]
    world.seal(make_campaign(stage), "look")
    orders = world.issue("look")
    assert [order.steps[0].outputs[0].names for order in orders] == [
        ("science_000000_01_M31_png_c0001a01.fits",),
        ("science_000001_01_M33_png_c0001a01.fits",),
    ]


def test_a_text_of_any_kind_names_a_unit_and_its_log(world: World) -> None:
    for number, target in enumerate(["NGC 4039", "a,b=c/d", "M31", "100%"]):
        world.add_raw("science", [number], [1], metadata={"target": target})
    assert units(world.plan(make_campaign(LOOK))) == [
        "target=100%25",
        "target=M31",
        "target=NGC%204039",
        "target=a%2Cb%3Dc%2Fd",
    ]
    world.seal(make_campaign(LOOK), "look")
    orders = world.issue("look")
    assert [order.steps[0].argv[1] for order in orders] == ["100%", "M31", "NGC 4039", "a,b=c/d"]
    logs = [order.log_name for order in orders]
    assert logs[1] == "ccd_look_M31_c0001a01.log"
    assert logs[2].startswith("ccd_look_NGC_4039_")
    assert len(set(logs)) == 4


def test_a_value_that_is_not_fit_for_a_name_is_told_with_its_key(world: World) -> None:
    world.add_raw("science", [1], [1], metadata={"target": "NGC 4039"})
    alone = {**SCIENCE, "inputs": {"raw": SCIENCE["inputs"]["raw"]}}
    alone["steps"] = [{**SCIENCE["steps"][0], "inputs": ["raw"]}]
    [problem] = world.plan(make_campaign(alone)).problems
    assert problem.startswith("stage 'science': target is 'NGC 4039', which is not fit for a file name")


def test_a_value_of_another_type_than_the_site_has_now_is_told(world: World) -> None:
    world.add_raw("dark", [1], [1], metadata={"dit": "10", "coadds": 1})
    world.add_raw("dark", [2], [1], metadata={"dit": 10.0, "coadds": 1})
    assert list(world.plan(make_campaign(DARKS)).problems) == [
        "stage 'dark', input 'frames': a file has dit as str, and the site's type of it is float: file"
        " dark_000001_01.fits"
    ]


def test_a_key_that_no_file_type_has_is_told_with_a_guess(small_world: World) -> None:
    wrong = {
        "name": "dark",
        "per": ["instrument", "ditt"],
        "inputs": {"frames": {"type": "dark", "match": ["nditt"]}},
        "steps": [{"name": "s", "argv": ["s"]}],
    }
    assert list(small_world.plan(make_campaign(wrong)).problems) == [
        "stage 'dark': per names 'ditt', which is not a key of any file type (did you mean 'dit'?)",
        "stage 'dark', input 'frames': match names 'nditt', which is not a key of any file type (did you mean 'dit'?)",
    ]


def test_values_that_differ_are_different_units() -> None:
    written = {unit_name({"a": value}) for value in ("1", "1,b=2", "1%2Cb=2", "1 ", "1\n", "1\u00a0")}
    assert len(written) == 6
    assert unit_name({"flag": True, "dit": 10.0}) == "dit=10.0,flag=true"


def test_a_draft_by_a_key_in_which_a_unit_differs_is_told_and_not_an_error(world: World) -> None:
    from nightmill.model.calibration import Maturity
    from tests.planning.world import SCIENCE as REDUCE
    from tests.planning.world import file_types

    world.types = file_types()
    for exposure, band in ((7, "g"), (8, "r")):
        world.add_raw("raw_science", [exposure], [1], band=band)
    world.add_calibration("old.fits", detector=2)
    world.add_calibration("draft.fits", detector=1, maturity=Maturity.DRAFT, band="g")
    whole = {**REDUCE, "per": ["night"], "inputs": {**REDUCE["inputs"], "raw": {"type": "raw_science", "max": None}}}
    problems = [each for each in world.plan(make_campaign(whole)).problems if "input 'bias'" in each]
    assert len(problems) == 1
    assert "the files of a unit differ in band, by which this input is chosen" in problems[0]
