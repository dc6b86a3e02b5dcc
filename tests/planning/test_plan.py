from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from nightmill.backbone.catalogue import NewFile
from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow, JobRow, PlannedInputRow
from nightmill.errors import PlanRefused
from nightmill.model.fate import Maturity, Origin
from nightmill.planning.outputs import claims
from nightmill.planning.plan import CampaignPlan, PlannedJob, StagePlan
from tests.planning.world import BIAS, NIGHT, SCIENCE, World, file_types, make_campaign


def chosen(plan: StagePlan, job: PlannedJob) -> dict[str, list[tuple[str, str]]]:
    """Give the files of each role with the rule that chose them."""
    return {
        role: [(file.name, plan.common.rules[choice.rule]) for file in choice.files]
        for role, choice in zip(plan.stage.inputs, job.inputs, strict=True)
    }


def changed(stage: Mapping[str, Any], role: str, **changes: Any) -> dict[str, Any]:
    """Give a stage with one of its inputs changed."""
    return {**stage, "inputs": {**stage["inputs"], role: {**stage["inputs"][role], **changes}}}


def test_units_inputs_and_rules(world: World) -> None:
    world.add_raw("raw_science", [7, 8], band="g")
    for detector in (1, 2):
        world.add_calibration(f"near{detector}.fits", detector=detector, at=NIGHT - timedelta(days=0.4))
        world.add_calibration(f"far{detector}.fits", detector=detector, at=NIGHT + timedelta(days=9))
    plan = world.plan(make_campaign(SCIENCE, where="night == 20260110"))
    (stage,) = plan.stages
    assert plan.problems == ()
    assert [job.unit for job in stage.jobs] == [f"exposure={e},detector={d}" for e in (7, 8) for d in (1, 2)]
    assert stage.jobs[0].data_id == {
        "instrument": "nmcam",
        "night": 20260110,
        "exposure": 7,
        "detector": 1,
        "band": "g",
    }
    assert chosen(stage, stage.jobs[1]) == {
        "raw": [("raw_science_000007_02.fits", "raw or manual, where night == 20260110; its files make the units")],
        "bias": [("near2.fits", "nearest in set ccd: 0.4 d before, of 2 candidates")],
    }


def test_the_number_of_queries_does_not_depend_on_the_number_of_units(small_world: World) -> None:
    small_world.add_calibration("bias1.fits", detector=1)
    small_world.add_raw("raw_science", [1], [1])

    def queries() -> tuple[int, int]:
        count = 0

        def seen(*_: object) -> None:
            nonlocal count
            count += 1

        event.listen(small_world.database.engine, "before_cursor_execute", seen)
        jobs = len(small_world.plan(make_campaign(SCIENCE)).stages[0].jobs)
        event.remove(small_world.database.engine, "before_cursor_execute", seen)
        return jobs, count

    few, queries_of_few = queries()
    small_world.add_raw("raw_science", range(2, 200), [1])
    many, queries_of_many = queries()
    assert (few, many) == (1, 199)
    assert queries_of_many == queries_of_few


def test_a_later_stage_is_projected_from_what_the_first_is_planned_to_make(world: World) -> None:
    world.add_raw("raw_bias", [1, 2, 3])
    world.add_raw("raw_science", [7])
    science = changed(SCIENCE, "bias", source={"stage": "bias"}, lookup=None)
    bias, projected = world.plan(make_campaign(BIAS, science), number=12).stages
    assert (bias.projected, projected.projected) == (False, True)
    assert [job.unit for job in bias.jobs] == ["instrument=nmcam,detector=1", "instrument=nmcam,detector=2"]
    assert chosen(projected, projected.jobs[1])["bias"] == [
        ("nmcam_02_bias_c0012a01.fits", "made by stage bias, same detector")
    ]


# ---------------------------------------------------------------------------------- choices of an operator


def use_set(name: str) -> dict[str, Any]:
    return changed(SCIENCE, "bias", source={"calibrations": [name]})


@pytest.mark.req("B15")
def test_another_set_of_calibrations_changes_nothing_but_the_calibrations(world: World) -> None:
    world.add_raw("raw_science", [7, 8], [1])
    world.add_calibration("a.fits", detector=1, set_name="set-a")
    world.add_calibration("b.fits", detector=1, set_name="set-b")
    orders = {}
    for name in ("set-a", "set-b"):
        world.seal(make_campaign(use_set(name), name=f"with-{name}"), "science")
        orders[name] = world.issue("science", campaign=f"with-{name}")
    inputs = {
        name: [{file.role: file.name for file in order.inputs} for order in each] for name, each in orders.items()
    }
    assert [each["raw"] for each in inputs["set-a"]] == [each["raw"] for each in inputs["set-b"]]
    assert {each["bias"] for each in inputs["set-a"]} == {"a.fits"}
    assert {each["bias"] for each in inputs["set-b"]} == {"b.fits"}
    with world.database.reading() as session:
        recorded = session.execute(
            select(CampaignRow.name, FileRow.name, PlannedInputRow.rule)
            .join(JobRow, JobRow.campaign_id == CampaignRow.id)
            .join(AttemptRow, AttemptRow.job_id == JobRow.id)
            .join(PlannedInputRow, PlannedInputRow.attempt_id == AttemptRow.id)
            .join(FileRow, FileRow.id == PlannedInputRow.file_id)
            .where(PlannedInputRow.role == "bias", JobRow.unit == "exposure=7,detector=1")
            .order_by(CampaignRow.name)
        ).all()
    assert [tuple(row) for row in recorded] == [
        ("with-set-a", "a.fits", "nearest in set set-a: 0.1 h before, the only candidate"),
        ("with-set-b", "b.fits", "nearest in set set-b: 0.1 h before, the only candidate"),
    ]


def test_sets_are_searched_in_their_order(world: World) -> None:
    world.add_raw("raw_science", [7], [1, 2])
    world.add_calibration("own1.fits", detector=1, set_name="own", at=NIGHT - timedelta(days=20))
    for detector in (1, 2):
        world.add_calibration(f"ccd{detector}.fits", detector=detector)
    stage = world.plan(make_campaign(changed(SCIENCE, "bias", source={"calibrations": ["own", "ccd"]}))).stages[0]
    assert [chosen(stage, job)["bias"][0] for job in stage.jobs] == [
        ("own1.fits", "nearest in set own: 20.0 d before, the only candidate"),
        ("ccd2.fits", "nearest in set ccd: 0.1 h before, the only candidate"),
    ]


@pytest.mark.parametrize(
    ("lookup", "bias"),
    [
        ({"strategy": "nearest"}, ("near.fits", "nearest in set ccd: 0.5 d before, of 2 candidates")),
        ({"strategy": "valid"}, ("wide.fits", "valid in set ccd: 2025-12-17 to 2026-02-11, the latest added")),
        (
            {"strategy": "list", "files": ["wide.fits", "other.fits"]},
            ("wide.fits", "listed in set ccd: by name"),
        ),
    ],
)
def test_the_lookup_is_chosen_by_name(world: World, lookup: dict[str, Any], bias: tuple[str, str]) -> None:
    world.add_raw("raw_science", [7], [1])
    world.add_calibration("near.fits", detector=1, at=NIGHT - timedelta(days=0.5))
    world.add_calibration("wide.fits", detector=1, at=NIGHT + timedelta(days=4), days=28)
    world.add_calibration("other.fits", detector=2)
    (stage,) = world.plan(make_campaign(changed(SCIENCE, "bias", lookup=lookup))).stages
    assert chosen(stage, stage.jobs[0])["bias"] == [bias]


def test_a_list_without_a_source_takes_files_by_name_wherever_they_are_from(world: World) -> None:
    world.add_raw("raw_science", [7], [1])
    world.add_calibration("pinned.fits", detector=1, set_name="elsewhere", maturity=Maturity.DRAFT)
    pinned = changed(SCIENCE, "bias", source={}, lookup={"strategy": "list", "files": ["pinned.fits"]})
    (stage,) = world.plan(make_campaign(pinned, where="night == 20260110")).stages
    assert chosen(stage, stage.jobs[0])["bias"] == [("pinned.fits", "listed of the catalogue: by name")]


def test_results_of_named_campaigns_and_of_no_other(world: World) -> None:
    world.add_raw("raw_bias", [1, 2], [1])
    for name in ("cals-a", "cals-b"):
        world.seal(make_campaign(BIAS, name=name), "bias")
    world.add_raw("raw_science", [7], [1])
    plans = {}
    for name in ("cals-a", "cals-b"):
        for order in world.issue("bias", campaign=name):
            world.end(order)
        science = changed(SCIENCE, "bias", source={"campaigns": [name]}, lookup=None)
        plans[name] = world.plan(make_campaign(science, name=f"sci-{name}")).stages[0]
    rules = {name: chosen(plan, plan.jobs[0])["bias"] for name, plan in plans.items()}
    assert rules == {
        "cals-a": [("nmcam_01_bias_c0001a01.fits", "results of campaign cals-a, same detector")],
        "cals-b": [("nmcam_01_bias_c0002a01.fits", "results of campaign cals-b, same detector")],
    }


def test_flats_match_the_band_and_biases_need_not(world: World) -> None:
    world.add_raw("raw_science", [7], [1], band="g")
    world.add_raw("raw_science", [8], [1], band="r")
    world.add_calibration("bias.fits", detector=1, night=20250101)
    for band in ("g", "r"):
        world.add_calibration(f"flat_{band}.fits", detector=1, type="master_flat", band=band)
    flat = {"type": "master_flat", "source": {"calibrations": ["ccd"]}, "lookup": {"strategy": "nearest"}}
    (stage,) = world.plan(make_campaign({**SCIENCE, "inputs": {**SCIENCE["inputs"], "flat": flat}})).stages
    assert [(chosen(stage, job)["bias"][0][0], chosen(stage, job)["flat"][0][0]) for job in stage.jobs] == [
        ("bias.fits", "flat_g.fits"),
        ("bias.fits", "flat_r.fits"),
    ]


# --------------------------------------------------------------------------------------------- problems


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
        f"{topic},detector=4 within 30 d: 2 units, as exposure=7,detector=4; exposure=8,detector=4",
    ]


def test_ten_thousand_units_without_a_bias_are_one_problem(small_world: World) -> None:
    small_world.add_raw("raw_science", range(10_000), [3])
    small_world.add_calibration("other.fits", detector=4)
    assert problems_of(small_world, SCIENCE) == [
        "stage 'science', input 'bias': no certified master_bias in set ccd for instrument=nmcam,detector=3 within 30"
        " d: 10,000 units, as exposure=0,detector=3; exposure=1,detector=3; exposure=2,detector=3; ..."
    ]


def test_too_many_files_of_a_role(world: World) -> None:
    full(world)
    assert problems_of(world, {**SCIENCE, "per": ["exposure"]}) == [
        "stage 'science', input 'raw': 2 files of type raw_science fit where at most 1 may be; choose by 'match',"
        " 'where' (as \"origin == 'raw'\") or 'lookup', or raise 'max': 2 units, as exposure=7 (raw_science_000007_01.fits, raw_science_000007_02.fits);"
        " exposure=8 (raw_science_000008_01.fits, raw_science_000008_02.fits)",
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
        "stage 'science', input 'bias': a listed file is no master_bias in set ccd: file bais2.fits"
        " (did you mean 'bias2.fits'?)",
        "stage 'science', input 'bias': no certified master_bias in set ccd among the listed files for"
        " instrument=nmcam,detector=2: 2 units, as exposure=7,detector=2; exposure=8,detector=2",
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
        " '{instrument}_{exposure:06d}_{detector:02d}_{role}_c{campaign:04d}a{attempt:02d}.fits', lacks {n}: it cannot"
        " tell the up to 4 files of the output apart",
        f"{topic} 'master': a calibration must be kept in a store, and it goes to 'quicklook'",
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
        "stage 'science': band is '../../etc', which is not fit for a file name; use letters, digits and . _ + - alone:"
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
