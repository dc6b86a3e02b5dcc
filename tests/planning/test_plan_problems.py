"""What is wrong with a plan, all of it at once, in words that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from nightmill.backbone.catalogue.registration import NewFile
from nightmill.errors import PlanRefused
from nightmill.model.calibration import Maturity
from nightmill.model.file_type import FileType
from nightmill.model.origin import Origin
from nightmill.planning.outputs import claims
from nightmill.planning.planned import CampaignPlan
from tests.planning.world import BIAS, NIGHT, SCIENCE, World, changed, file_types, make_campaign, use_set


def full(world: World) -> None:
    """Fill the world so that a plan of science has no problem."""
    world.add_raw("raw_science", [7, 8])
    for detector in (1, 2):
        world.add_calibration(f"bias{detector}.fits", detector=detector)


def problems_of(world: World, *stages: Mapping[str, Any], **changes: Any) -> list[str]:
    plan: CampaignPlan = world.plan(make_campaign(*stages, **changes))
    assert plan.problems
    with pytest.raises(PlanRefused) as refused:
        plan.require()
    assert refused.value.problems == plan.problems
    return list(plan.problems)


def test_nothing_to_do(world: World) -> None:
    full(world)
    assert problems_of(world, SCIENCE, where="night == 20260111") == [
        "stage 'science', input 'raw': no raw_science raw or manual, where night == 20260111: there is nothing to do"
    ]


def test_every_problem_of_every_stage_is_told_at_once(world: World) -> None:
    world.add_raw("raw_bias", [1], [1])
    world.add_raw("raw_science", [7], [1])
    broken = {**SCIENCE, "name": "broken", "inputs": {"raw": {"type": "raw_scence"}}, "steps": [
        {"name": "s", "argv": ["s"], "outputs": {"image": {"type": "imag", "to": "quiklook"}}},
    ]}  # fmt: skip
    assert problems_of(world, BIAS, use_set("cdd"), broken) == [
        "stage 'bias', input 'frames': at least 2 raw_bias needed, 1 found (raw or manual): unit"
        " instrument=nmcam,detector=1",
        "stage 'science', input 'bias': no calibration set named 'cdd'; see 'nightmill calib list' for the sets",
        "stage 'broken', input 'raw': no file type named 'raw_scence' (did you mean 'raw_science'?)",
        "stage 'broken', step 's', output 'image': no store or working area named 'quiklook' (did you mean"
        " 'quicklook'?)",
        "stage 'broken', step 's', output 'image': no file type named 'imag' (did you mean 'image'?)",
    ]


def test_a_missing_calibration_says_for_what_and_what_was_near(world: World) -> None:
    world.add_raw("raw_science", [7, 8], [1, 2, 3, 4])
    world.add_calibration("good.fits", detector=1)
    world.add_calibration("old.fits", detector=2, at=NIGHT - timedelta(days=41.2))
    world.add_calibration("draft.fits", detector=3, maturity=Maturity.DRAFT)
    world.add_calibration("gone.fits", detector=4, maturity=Maturity.WITHDRAWN)
    topic = "stage 'science', input 'bias': no certified master_bias in set ccd for instrument=nmcam"
    assert problems_of(world, SCIENCE) == [
        f"{topic},detector=2 within 30 d: 2 units, as"
        " exposure=7,detector=2 (the nearest, old.fits, is 41.2 d before);"
        " exposure=8,detector=2 (the nearest, old.fits, is 41.2 d before)",
        f"{topic},detector=3 within 30 d: 2 units, as"
        " exposure=7,detector=3 (draft.fits is a draft: 'nightmill calib certify' makes it fit for use);"
        " exposure=8,detector=3 (draft.fits is a draft: 'nightmill calib certify' makes it fit for use)",
        f"{topic},detector=4 within 30 d: 2 units, as exposure=7,detector=4 (detector is 4, and there is 2, 1);"
        " exposure=8,detector=4 (detector is 4, and there is 2, 1)",
    ]


def test_ten_thousand_units_without_a_bias_are_one_problem(small_world: World) -> None:
    small_world.add_raw("raw_science", range(10_000), [3])
    small_world.add_calibration("other.fits", detector=4)
    assert problems_of(small_world, SCIENCE) == [
        "stage 'science', input 'bias': no certified master_bias in set ccd for instrument=nmcam,detector=3 within 30"
        " d: 10,000 units, as exposure=0,detector=3 (detector is 3, and there is 4);"
        " exposure=1,detector=3 (detector is 3, and there is 4);"
        " exposure=2,detector=3 (detector is 3, and there is 4); ..."
    ]


def test_too_many_files_of_a_role(world: World) -> None:
    full(world)
    assert problems_of(world, {**SCIENCE, "per": ["exposure"]}) == [
        "stage 'science', input 'raw': 2 files of type raw_science fit where at most 1 may be; choose by 'match',"
        " 'where' (as \"origin == 'raw'\") or 'lookup', or raise 'max': 2 units, as"
        " exposure=7 (raw_science_000007_01.fits, raw_science_000007_02.fits);"
        " exposure=8 (raw_science_000008_01.fits, raw_science_000008_02.fits)",
        "stage 'science', input 'bias': the files of a unit differ in detector, by which this input is chosen; add"
        " detector to 'per', or say in 'match' on what they must agree: 2 units, as exposure=7; exposure=8",
    ]


def test_a_known_file_that_no_store_has(world: World) -> None:
    full(world)
    world.add_raw("raw_science", [9], [1], stored=False)
    assert problems_of(world, SCIENCE) == [
        "stage 'science', input 'raw': a raw_science is chosen that is known and in no store: file"
        " raw_science_000009_01.fits"
    ]


def test_listed_files_that_are_not_there(world: World) -> None:
    full(world)
    lookup = {"strategy": "list", "files": ["bias1.fits", "bais2.fits"]}
    assert problems_of(world, changed(SCIENCE, "bias", lookup=lookup)) == [
        "stage 'science', input 'bias': a listed file is not a master_bias in set ccd: file bais2.fits"
        " (did you mean 'bias2.fits'?)",
        "stage 'science', input 'bias': no certified master_bias in set ccd for"
        " instrument=nmcam,detector=2 among the listed files: 2 units, as"
        " exposure=7,detector=2 (detector is 2, and there is 1); exposure=8,detector=2 (detector is 2, and there is 1)",
    ]


def test_unknown_campaigns_and_wrong_expressions(world: World) -> None:
    full(world)
    world.seal(make_campaign(SCIENCE, name="calibrations"), "science")
    wrong = changed(SCIENCE, "bias", source={"campaigns": ["calibration"]}, lookup=None)
    expression, campaign = problems_of(world, changed(wrong, "raw", where="night > 1 and detectr == 1"))
    assert expression.startswith(
        "stage 'science', input 'raw': nothing is named 'detectr' (did you mean 'detector'?)\n"
        "    night > 1 and detectr == 1\n"
        "                  ^; "
    )
    assert campaign == (
        "stage 'science', input 'bias': no campaign named 'calibration' (did you mean 'calibrations'?);"
        " see 'nightmill status' for the campaigns"
    )


def test_what_cannot_be_known_of_a_calibration_cannot_be_asked(world: World) -> None:
    full(world)
    (problem,) = problems_of(world, changed(SCIENCE, "bias", where='origin == "raw"'))
    assert "origin cannot be asked of calibrations, nor of files that are yet to be made" in problem


def test_units_cannot_be_made_of_calibrations(world: World) -> None:
    full(world)
    assert problems_of(world, {**SCIENCE, "units_from": "bias"}) == [
        "stage 'science': input 'bias' makes its units, and so cannot be a calibration or have a lookup"
    ]


def test_outputs_that_cannot_be_named_or_kept(world: World) -> None:
    full(world)
    outputs = {
        "raw": {"type": "raw_flat"},
        "cuts": {"type": "image", "produces": "*.fits", "max": 4},
        "master": {"type": "master_bias", "to": "quicklook", "calibration": {"set": "ccd"}},
    }
    topic = "stage 'science', step 's', output"
    assert problems_of(world, {**SCIENCE, "steps": [{"name": "s", "argv": ["s"], "outputs": outputs}]}) == [
        f"{topic} 'raw': file type 'raw_flat' has no template to name outputs with: its files keep the names they come"
        " with",
        f"{topic} 'cuts': the template of file type 'image',"
        " '{instrument}_{exposure:06d}_{detector:02d}_{role}_c{campaign:04d}a{attempt:02d}.fits', lacks {n}, and keys"
        " that the files tell: it cannot tell the up to 4 files of the output apart",
        f"{topic} 'master': a calibration must be kept in a store, and it goes to 'quicklook'",
    ]


def test_outputs_are_compared_with_inputs_that_their_step_reads(world: World) -> None:
    full(world)
    checks = {
        "same_shape": {"role": "rwa"},
        "like_input": {"role": "raw", "max": 4},
        "warn": {"command": {"argv": ["look", "{file}", "{inputs.sky}"]}},
    }
    image = world.types["image"].model_dump(exclude_defaults=True)
    world.types["image"] = FileType.model_validate({**image, "checks": checks})
    topic = f"stage 'science', step {SCIENCE['steps'][0]['name']!r}, output 'image': check"
    read = "compares it with input"
    assert problems_of(world, SCIENCE) == [
        f"{topic} 'same_shape' of file type 'image' {read} 'rwa', which its step does not read (did you mean 'raw'?)",
        f"{topic} 'command' of file type 'image' {read} 'sky', which its step does not read (it reads raw, bias)",
    ]


def test_inputs_from_a_working_area(world: World) -> None:
    world.add_raw("raw_bias", [1, 2])
    world.add_raw("raw_science", [7])
    step = {**BIAS["steps"][0], "outputs": {"master": {"type": "master_bias", "to": "quicklook"}}}
    science = changed(SCIENCE, "bias", source={"stage": "bias"}, lookup=None)
    assert problems_of(world, {**BIAS, "steps": [step]}, science) == [
        "stage 'science', input 'bias': stage 'bias' delivers its master_bias to a working area, and jobs read from"
        " stores alone; send it to a store"
    ]


def test_a_calibration_needs_times_for_its_validity(world: World) -> None:
    of: dict[str, str | int] = {"instrument": "nmcam", "detector": 1}
    files = [
        NewFile(f"b{n}.fits", "raw_bias", Origin.RAW, 1, "0" * 64, of, store="backbone", path=f"b{n}") for n in (1, 2)
    ]
    world.register(files)
    assert problems_of(world, BIAS) == [
        "stage 'bias': output 'master' becomes a calibration, and the unit's files tell no times for its validity: unit"
        " instrument=nmcam,detector=1"
    ]


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.req("B12")
def test_templates_make_the_names_and_one_that_cannot_tell_units_apart_is_refused(world: World) -> None:
    full(world)
    (stage,) = world.plan(make_campaign(SCIENCE), number=12).stages
    assert [claim.name for claim in claims(stage.common, stage.jobs[1].data_id)] == [
        "nmcam_000007_02_image_c0012a01.fits",
        "nmcam_000007_02_cat_c0012a01.fits",
        "ccd_science_7-2_c0012a01.log",
    ]
    world.types = file_types(catalog="{instrument}_{exposure:06d}_cat_c{campaign:04d}a{attempt:02d}.fits")
    assert problems_of(world, SCIENCE) == [
        "stage 'science': the template of file type 'catalog',"
        " '{instrument}_{exposure:06d}_cat_c{campaign:04d}a{attempt:02d}.fits', lacks {detector}: it cannot tell units"
        " apart: 2 names, as nmcam_000007_cat_c0001a01.fits; nmcam_000008_cat_c0001a01.fits"
    ]


@pytest.mark.req("B08")
def test_steps_and_stages_that_would_make_the_same_name_are_refused_before_anything_runs(world: World) -> None:
    full(world)
    same = {"image": {"type": "catalog"}}
    clashing = {**SCIENCE, "steps": [{**SCIENCE["steps"][0], "outputs": same}, SCIENCE["steps"][1]]}
    template = "'{instrument}_{exposure:06d}_{detector:02d}_cat_c{campaign:04d}a{attempt:02d}.fits'"
    names = (
        "4 names, as nmcam_000007_01_cat_c0001a01.fits; nmcam_000007_02_cat_c0001a01.fits;"
        " nmcam_000008_01_cat_c0001a01.fits; ..."
    )
    assert problems_of(world, clashing) == [
        f"stage 'science': the template of file type 'catalog', {template}, gives outputs 'image' of step 'reduce' and"
        f" 'catalog' of step 'detect' the same name; add {{role}}: {names}"
    ]
    again = {**SCIENCE, "name": "again"}
    assert (
        f"stage 'again': the template of file type 'catalog', {template}, gives outputs of stages 'science' and 'again'"
        f" the same name; add {{stage}}: {names}"
    ) in problems_of(world, SCIENCE, again)


def test_a_name_that_the_catalogue_has_is_refused(world: World) -> None:
    full(world)
    world.add_calibration("nmcam_000007_02_cat_c0001a01.fits", detector=1, type="catalog")
    assert problems_of(world, SCIENCE) == [
        "stage 'science': the name of output 'catalog' (catalog) is taken: the catalogue has a file of that name: name"
        " nmcam_000007_02_cat_c0001a01.fits"
    ]


def test_a_name_that_needs_what_a_unit_does_not_have(world: World) -> None:
    full(world)
    world.types = file_types(
        image="{instrument}_{exposure:06d}_{detector:02d}_{band}_c{campaign:04d}a{attempt:02d}.fits"
    )
    (problem,) = problems_of(world, SCIENCE)
    assert "needs 'band', and there is none" in problem
    assert problem.endswith(": 4 units, as exposure=7,detector=1; exposure=7,detector=2; exposure=8,detector=1; ...")


def test_a_value_of_a_header_that_is_not_fit_for_a_name(world: World) -> None:
    full(world)
    world.types = file_types(image="{exposure:06d}_{detector:02d}_{band}_c{campaign:04d}a{attempt:02d}.fits")
    world.add_raw("raw_science", [9], [1], band="../../etc")
    problems = problems_of(world, SCIENCE, where="exposure == 9")
    assert problems == [
        "stage 'science': band is '../../etc', which is not fit for a file name; use letters, digits and . _ + - alone,"
        " not . or - first:"
        " unit exposure=9,detector=1"
    ]


def test_units_whose_logs_would_have_one_name(world: World) -> None:
    world.add_raw("raw_science", [7], [1], band="a-b", tile="c")
    world.add_raw("raw_science", [8], [1], band="a", tile="b-c")
    per = {**SCIENCE, "per": ["band", "tile"], "inputs": {"raw": {"type": "raw_science"}}, "steps": [
        {"name": "s", "argv": ["s", "{inputs.raw}"], "inputs": ["raw"]},
    ]}  # fmt: skip
    assert problems_of(world, per) == [
        "stage 'science': the logs of two units would have the same name; their dimensions' values differ only in '-':"
        " name ccd_science_a-b-c_c0001a01.log"
    ]


def test_a_bias_that_a_broken_stage_would_make_is_not_told_as_missing(world: World) -> None:
    world.add_raw("raw_bias", [1], [1])
    world.add_raw("raw_bias", [2, 3], [2])
    world.add_raw("raw_science", [7])
    science = changed(SCIENCE, "bias", source={"stage": "bias"}, lookup=None)
    assert problems_of(world, BIAS, science) == [
        "stage 'bias', input 'frames': at least 2 raw_bias needed, 1 found (raw or manual): unit"
        " instrument=nmcam,detector=1"
    ]


def test_nothing_is_said_of_what_only_follows_from_another_problem(world: World) -> None:
    world.add_raw("raw_science", [7])
    science = changed(SCIENCE, "raw", type="image", source={"stage": "first"})
    first = {**use_set("none"), "name": "first"}
    assert problems_of(world, first, science) == [
        "stage 'first', input 'bias': no calibration set named 'none'; see 'nightmill calib list' for the sets",
        "stage 'science', input 'bias': no calibration set named 'ccd'; see 'nightmill calib list' for the sets",
    ]
