from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow, JobRow, PlannedInputRow
from nightmill.model.calibration import Maturity
from nightmill.planning.planned import CampaignPlan, StagePlan
from nightmill.planning.sealed import PlannedJob
from tests.planning.world import BIAS, NIGHT, SCIENCE, World, changed, file_types, make_campaign, use_set


def chosen(plan: StagePlan, job: PlannedJob) -> dict[str, list[tuple[str, str]]]:
    """Give the files of each role with the rule that chose them."""
    return {role: [(file.name, rule) for file in files] for role, rule, _origin, files, _level in plan.inputs(job)}


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


def test_results_of_one_stage_of_named_campaigns(world: World) -> None:
    world.add_raw("raw_bias", [1, 2], [1])
    step = {"name": "look", "argv": ["look"], "outputs": {"picture": {"type": "image"}}}
    again = {**BIAS, "name": "again", "steps": [step]}
    other = {**BIAS, "name": "other"}
    world.types = file_types(
        master_bias="{stage}_{detector:02d}_c{campaign:04d}a{attempt:02d}.fits",
        image="{stage}_{detector:02d}_{role}_c{campaign:04d}a{attempt:02d}.fits",
    )
    for name, stages in (("cals-a", (BIAS, other, again)), ("cals-b", (other,))):
        for stage in stages:
            world.seal(make_campaign(*stages, name=name), stage["name"])
            for order in world.issue(stage["name"], campaign=name):
                world.end(order)
    world.add_raw("raw_science", [7], [1])

    def plan(stage: str, *campaigns: str, **changes: object) -> CampaignPlan:
        source = {"campaigns": list(campaigns), "stage": stage}
        science = changed(SCIENCE, "bias", source=source, lookup=None, **changes)
        science["steps"] = [{**science["steps"][0], "outputs": {"image": {"type": "image"}}}]
        return world.plan(make_campaign(science, name="sci"))

    (stage_plan,) = plan("bias", "cals-a", "cals-b").stages
    assert chosen(stage_plan, stage_plan.jobs[0])["bias"] == [
        ("bias_01_c0001a01.fits", "made by stage bias of campaign cals-a or cals-b, same detector")
    ]
    (stage_plan,) = plan("other", "cals-a", "cals-b", max=None).stages
    names = [name for name, _rule in chosen(stage_plan, stage_plan.jobs[0])["bias"]]
    assert names == ["other_01_c0001a01.fits", "other_01_c0002a01.fits"]
    topic = "stage 'science', input 'bias': "
    (unknown,) = plan("bais", "cals-a", "cals-b").problems
    assert unknown == (
        f"{topic}no stage of campaign cals-a or cals-b named 'bais' (did you mean 'bias'?); there is bias, other, again"
    )
    assert plan("bias", "cals-b").problems == (f"{topic}no stage of campaign cals-b named 'bias'; there is other",)
    assert plan("again", "cals-a").problems == (
        f"{topic}stage 'again' of campaign cals-a keeps no files of type 'master_bias'; it makes image",
    )


def test_a_stage_of_another_campaign_is_not_waited_for_in_the_own_one(world: World) -> None:
    world.add_raw("raw_bias", [1, 2], [1])
    world.seal(make_campaign(BIAS, name="cals"), "bias")
    for order in world.issue("bias", campaign="cals"):
        world.end(order)
    world.add_raw("raw_science", [7], [1])
    science = changed(SCIENCE, "bias", source={"campaigns": ["cals"], "stage": "bias"}, lookup=None)
    plan = world.plan(make_campaign(BIAS, science), number=2)
    assert (plan.problems, plan.stages[1].projected, plan.stages[1].stage.upstream) == ((), False, ())
    assert [name for name, _ in chosen(plan.stages[1], plan.stages[1].jobs[0])["bias"]] == [
        "nmcam_01_bias_c0001a01.fits"
    ]


@pytest.mark.parametrize("exposures", [[1], [1, 2], [1, 2, 31]])
def test_what_a_product_is_of_does_not_depend_on_the_members_of_its_unit(
    small_world: World, exposures: list[int]
) -> None:
    for exposure in exposures:
        small_world.add_raw("raw_bias", [exposure], [1], night=NIGHT + timedelta(days=exposure // 30), band="g")
    some = {**BIAS, "inputs": {"frames": {"type": "raw_bias", "max": None}}}
    after = {**some, "name": "after", "inputs": {"master": {"type": "master_bias", "source": {"stage": "bias"}}}}
    after["steps"] = [{"name": "look", "argv": ["look"], "outputs": {"flat": {"type": "master_flat"}}}]
    small_world.types = file_types(master_flat="{instrument}_{detector}_flat_c{campaign:04d}a{attempt:02d}.fits")
    plan = small_world.plan(make_campaign(some, after))
    assert plan.problems == ()
    of = {"instrument": "nmcam", "detector": 1}
    assert [job.data_id for stage in plan.stages for job in stage.jobs] == [of, of]


def test_a_template_that_wants_more_than_the_stage_fixes_is_told(small_world: World) -> None:
    small_world.add_raw("raw_bias", [1], [1], band="g")
    some = {**BIAS, "inputs": {"frames": {"type": "raw_bias", "max": None}}}
    text = "{detector}_{band}_{night}_c{campaign:04d}a{attempt:02d}.fits"
    small_world.types = file_types(master_bias=text)
    assert small_world.plan(make_campaign(some)).problems == (
        "stage 'bias', step 'combine', output 'master': the template of file type 'master_bias',"
        f" '{text}', has {{band}} and {{night}}, which may differ between the files of one unit; add band and night to"
        " 'per' of the stage, or to 'tells' of the output where its files tell it",
    )
    one = {**BIAS, "inputs": {"frames": {"type": "raw_bias"}}}
    (job,) = small_world.plan(make_campaign(one)).stages[0].jobs
    assert (job.data_id["band"], job.data_id["exposure"]) == ("g", 1)


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
