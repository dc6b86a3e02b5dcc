"""What is excluded is left out before anything is chosen, told by rule, and never begun with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from nightmill.backbone.catalogue import exclusions
from nightmill.backbone.catalogue.exclusions import Exclusion, NewExclusion, in_force
from nightmill.backbone.schema import JobRow
from nightmill.backbone.work.campaigns import campaign_named, make_ready
from nightmill.clock import utc_now
from nightmill.errors import PlanRefused
from nightmill.model.exclusion import CampaignExclusion
from nightmill.model.states import JobState
from nightmill.planning.again import issued_order
from nightmill.planning.planned import StagePlan
from tests.planning.world import BIAS, NIGHT, SCIENCE, World, changed, file_types, make_campaign, write_campaign

STACK: Mapping[str, Any] = {
    "name": "stack",
    "per": ["detector"],
    "inputs": {"images": {"type": "image", "source": {"stage": "science"}, "max": None}},
    "steps": [
        {
            "name": "add",
            "argv": ["add", "{inputs.images}", "{outputs.stack}"],
            "inputs": ["images"],
            "outputs": {"stack": {"type": "stack"}},
        }
    ],
}
FROM_OWN = changed(SCIENCE, "bias", source={"stage": "bias"})


def with_stacks(world: World) -> None:
    world.types = file_types(stack="stack_{detector:02d}_c{campaign:04d}a{attempt:02d}.fits")


def add(world: World, expression: str, **more: Any) -> int:
    new = NewExclusion(expression=expression, written=expression, **more)
    return world.database.write(
        lambda session: exclusions.exclude(session, new, who="ada", why="clouds", now=utc_now())
    )


def lift(world: World, number: int) -> None:
    world.database.write(lambda session: exclusions.lift(session, number, who="bob", why="clear", now=utc_now()))


def reads(plan: StagePlan, role: str) -> dict[str, list[str]]:
    return {
        job.unit: [file.name for each in job.choices if each.role == role for file in each.files] for job in plan.jobs
    }


def told(plan: StagePlan) -> list[str]:
    return [str(each) for each in plan.excluded]


def states(world: World) -> dict[str, str]:
    with world.database.reading() as session:
        return {unit: state for unit, state in session.execute(select(JobRow.unit, JobRow.state))}


@pytest.mark.req("B16")
def test_excluded_files_are_left_out_and_told_by_rule(world: World) -> None:
    world.add_raw("raw_science", [7, 8])
    world.add_calibration("bias1.fits", detector=1)
    world.add_calibration("bias2.fits", detector=2)
    number = add(world, "exposure == 7 and detector == 2")
    [stage] = world.plan(make_campaign(SCIENCE)).stages
    assert set(reads(stage, "raw")) == {
        "exposure=7,detector=1",
        "exposure=8,detector=1",
        "exposure=8,detector=2",
    }
    assert told(stage) == [
        f"input 'raw': 1 file excluded (exclusion {number} by ada: exposure == 7 and detector == 2; clouds):"
        " raw_science_000007_02.fits; a unit is not there for it: exposure=7,detector=2"
    ]
    lift(world, number)
    [stage] = world.plan(make_campaign(SCIENCE)).stages
    assert len(stage.jobs) == 4
    assert stage.excluded == ()


@pytest.mark.req("B16")
def test_an_excluded_calibration_never_takes_the_slot_of_a_good_one(world: World) -> None:
    world.add_raw("raw_science", [7], [1])
    world.add_calibration("near.fits", detector=1)
    world.add_calibration("far.fits", detector=1, at=NIGHT - timedelta(days=3))
    assert reads(world.plan(make_campaign(SCIENCE)).stages[0], "bias") == {"exposure=7,detector=1": ["near.fits"]}
    number = add(world, "origin == 'manual' and name == 'near.fits'")  # what only the catalogue knows
    [stage] = world.plan(make_campaign(SCIENCE)).stages
    assert reads(stage, "bias") == {"exposure=7,detector=1": ["far.fits"]}
    assert [(each.role, each.number, each.names) for each in stage.excluded] == [("bias", number, ("near.fits",))]
    listed = changed(SCIENCE, "bias", lookup={"strategy": "list", "files": ["near.fits"]})
    [lookup] = [each for each in world.plan(make_campaign(listed)).problems if f"exclusion {number}" in each]
    assert "near.fits" in lookup


@pytest.mark.req("B16")
def test_what_is_yet_to_be_made_and_what_was_made_are_left_out_alike(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7, 8], [1])
    with_stacks(world)
    world.add_raw("raw_bias", [1, 2], [1])
    campaign = make_campaign(BIAS, FROM_OWN, STACK)
    add(world, "exposure == 7", types=("image",))
    add(world, "origin == 'raw' and exposure == 8", types=("image",))  # images are made, so this is about none
    projected = world.plan(campaign).stages[2]
    assert not world.plan(campaign).problems
    assert [(each.names, each.units) for each in projected.excluded] == [(("nmcam_000007_01_image_c0001a01.fits",), 0)]
    for stage in ("bias", "science"):
        world.seal(campaign, stage)
        for order in world.issue(stage):
            world.end(order)
    made = world.plan_stage(campaign, "stack")
    assert reads(made, "images") == {"detector=1": ["nmcam_000008_01_image_c0001a01.fits"]}
    assert made.excluded == projected.excluded


@pytest.mark.req("B16")
def test_scopes_are_global_campaign_and_attempt(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7, 8, 9], [1])
    world.add_calibration("bias.fits", detector=1)
    add(world, "exposure == 7", campaign="night2")
    mine = CampaignExclusion(where="exposure == 8", why="dome closed")
    own = make_campaign(SCIENCE, exclude=[mine.model_dump()])
    assert list(reads(world.plan(own).stages[0], "raw")) == ["exposure=7,detector=1", "exposure=9,detector=1"]
    assert [(each.place, each.number, each.why) for each in world.plan(own).stages[0].excluded] == [
        ("exclude, rule 1", 0, "dome closed")
    ]
    second = make_campaign(SCIENCE, name="night2")
    assert list(reads(world.plan(second).stages[0], "raw")) == ["exposure=8,detector=1", "exposure=9,detector=1"]
    assert "exclude" not in make_campaign(SCIENCE).model_dump()  # campaigns without keep their digest


def test_a_wrong_rule_of_a_campaign_is_a_problem_with_its_place(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7], [1])
    world.add_calibration("bias.fits", detector=1)
    for rule, message in (
        ({"where": "exposur == 7"}, "exposur"),
        ({"where": "exposure == 7", "types": ["raw_scince"]}, "did you mean 'raw_science'?"),
        ({"where": "exposure == 7", "up_to": "sience"}, "did you mean 'science'?"),
    ):
        [problem, *_] = world.plan(make_campaign(SCIENCE, exclude=[{"why": "bad", **rule}])).problems
        assert problem.startswith("exclude, rule 1: ")
        assert message in problem
    add(world, "exposure == 99", campaign="night1", up_to="sience")
    [problem] = world.plan(make_campaign(SCIENCE)).problems
    assert problem == "exclusion 1: it ends with stage 'sience', which the pipeline has not (it has science)"


def test_a_key_that_the_site_does_not_know_excludes_nothing(small_world: World) -> None:
    small_world.add_raw("raw_science", [7], [1], metadata={"seeing": float(9)})
    small_world.add_calibration("bias.fits", detector=1)
    for expression in ("metadata.transparency < 0.5", "not (metadata.transparency > 0.5)", "tile != 'a'"):
        add(small_world, expression)
    [stage] = small_world.plan(make_campaign(SCIENCE)).stages
    assert (len(stage.jobs), stage.excluded) == (1, ())


def test_when_everything_is_excluded_the_refusal_says_by_which_rule(small_world: World) -> None:
    small_world.add_raw("raw_science", [7], [1])
    small_world.add_calibration("bias.fits", detector=1)
    add(small_world, "night == 20260110")
    plan = small_world.plan(make_campaign(SCIENCE))
    assert "there is nothing to do" in plan.problems[0]
    assert plan.problems[1].startswith("stage 'science', input 'raw': 1 file excluded (exclusion 1 by ada:")


@pytest.mark.req("X25")
def test_units_are_processed_up_to_a_stage(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7, 8], [1, 2])
    with_stacks(world)
    world.add_raw("raw_bias", [1, 2], [1, 2])
    campaign = make_campaign(BIAS, FROM_OWN, STACK)
    add(world, "exposure == 7", up_to="science")
    bias, science, stack = world.plan(campaign).stages
    assert (len(bias.jobs), len(science.jobs), science.excluded) == (2, 4, ())
    assert reads(stack, "images") == {
        f"detector={number}": [f"nmcam_000008_0{number}_image_c0001a01.fits"] for number in (1, 2)
    }
    assert "which ends with stage science; clouds" in told(stack)[0]
    add(world, "exposure == 8", up_to="science")
    plan = world.plan(campaign)
    assert plan.problems == ()  # nobody wants anything of the last stage
    assert "there is nothing to do" in plan.stages[2].waiting[0]
    for stage in ("bias", "science"):
        world.seal(campaign, stage)
        for order in world.issue(stage):
            world.end(order)
    assert world.seal(campaign, "stack").revision == 1


@pytest.mark.req("B16")
def test_a_part_is_handed_to_the_step_and_stands_in_the_order(world: World) -> None:
    world.add_raw("raw_science", [7, 8], [1])
    world.add_calibration("bias.fits", detector=1)
    stage = {**SCIENCE, "steps": [{**SCIENCE["steps"][0]}, SCIENCE["steps"][1]]}
    stage["steps"][0] |= {
        "argv": ["reduce", "--without={inputs.raw.excluded}", "{inputs.raw}", "{outputs.image}"],
        "files": {"list": {"lines": ["{inputs.raw} {inputs.raw.excluded}"]}},
    }
    add(world, "exposure == 7", part="im07")
    add(world, "exposure == 7 and detector == 1", part="12")
    add(world, "detector == 1", part="im07", types=("raw_science",))
    campaign = make_campaign(stage)
    [planned] = world.plan(campaign).stages
    assert [(each.part, each.files, each.units) for each in planned.excluded] == [
        ("im07", 1, 0),
        ("12", 1, 0),
        ("im07", 1, 0),
    ]
    world.seal(campaign, "science")
    seven, eight = world.issue("science")
    assert [file.excluded for file in seven.inputs] == [("im07", "12"), ()]
    assert seven.steps[0].argv[1] == "--without=im07,12"
    assert seven.steps[0].files[0].text.endswith(" im07,12\n")
    assert eight.steps[0].argv[1] == "--without=im07"
    with world.database.reading() as session:
        assert issued_order(session, "night1", "science", seven.attempt.unit) == seven


def test_orders_without_exclusions_are_as_they_were(small_world: World) -> None:
    small_world.add_raw("raw_science", [7], [1])
    small_world.add_calibration("bias.fits", detector=1)
    small_world.seal(make_campaign(SCIENCE), "science")
    [order] = small_world.issue("science")
    assert "excluded" not in order.model_dump_json(exclude_defaults=True)


@pytest.mark.req("B16")
def test_no_attempt_begins_with_what_was_excluded_since(world: World) -> None:
    world.add_raw("raw_science", [7, 8, 9], [1])
    world.add_calibration("bias.fits", detector=1)
    campaign = make_campaign(SCIENCE)
    world.seal(campaign, "science")
    first = {order.attempt.unit: order for order in world.issue("science", limit=2)}
    world.end(first["exposure=7,detector=1"], published=False)
    number = add(world, "exposure in [7, 9]", types=("raw_science",))
    assert world.issue("science") == []  # neither the retry nor the one that was not begun
    assert states(world) == {
        "exposure=7,detector=1": JobState.HELD,
        "exposure=8,detector=1": JobState.ACTIVE,
        "exposure=9,detector=1": JobState.HELD,
    }
    again(world)
    assert world.issue("science") == []
    lift(world, number)
    assert world.issue("science") == []  # held until somebody says so
    again(world)
    assert [(order.attempt.unit, order.attempt.number) for order in world.issue("science")] == [
        ("exposure=9,detector=1", 1),
        ("exposure=7,detector=1", 2),
    ]


def again(world: World) -> None:
    world.database.write(lambda session: make_ready(session, campaign_named(session, "night1").id))


def test_jobs_that_stay_are_issued_past_those_that_are_held(small_world: World) -> None:
    small_world.add_raw("raw_science", range(10, 40), [1])
    small_world.add_calibration("bias.fits", detector=1)
    small_world.seal(make_campaign(SCIENCE), "science")
    add(small_world, "exposure < 37")
    assert [order.data_id["exposure"] for order in small_world.issue("science", limit=2)] == [37, 38]


def test_a_part_that_a_job_knows_of_holds_it_not_and_a_new_one_does(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7, 8], [1])
    world.add_calibration("bias.fits", detector=1)
    add(world, "exposure == 7", part="im07")
    world.seal(make_campaign(SCIENCE), "science")
    add(world, "exposure == 8", part="im09")
    [order] = world.issue("science")
    assert order.data_id["exposure"] == 7
    assert states(world)["exposure=8,detector=1"] == JobState.HELD


def test_a_plan_that_was_made_before_an_exclusion_is_not_sealed(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7], [1])
    world.add_calibration("bias.fits", detector=1)
    campaign = make_campaign(SCIENCE)
    plan = world.plan_stage(campaign, "science", world.submit(campaign))
    add(world, "exposure == 7")
    with pytest.raises(PlanRefused, match=r"exclusion 1 was added by ada meanwhile: clouds; plan again"):
        world.seal_plan(campaign, plan)


def test_a_later_plan_marks_jobs_stale_whose_parts_were_excluded_since(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7], [1])
    world.add_calibration("bias.fits", detector=1)
    campaign = make_campaign(SCIENCE)
    world.seal(campaign, "science")
    add(world, "exposure == 7", part="im07")
    assert world.seal(campaign, "science").stale == 1


@pytest.mark.req("B16")
def test_what_was_in_force_at_any_time_can_be_asked(world: World) -> None:
    hour = timedelta(hours=1)
    begin = utc_now() - 10 * hour

    def put(expression: str, at: int, until: int | None = None) -> int:
        expires = None if until is None else begin + until * hour
        new = NewExclusion(expression=expression, written=expression, expires_at=expires)
        return world.database.write(
            lambda session: exclusions.exclude(session, new, who="ada", why="x", now=begin + at * hour)
        )

    first, second = put("exposure == 1", 1, until=3), put("exposure == 2", 2)
    world.database.write(lambda session: exclusions.lift(session, second, who="b", why="y", now=begin + 4 * hour))

    def held(at: int | None) -> list[int]:
        as_of = None if at is None else begin + at * hour
        with world.database.reading() as session:
            return [each.number for each in in_force(session, "night1", as_of=as_of)]

    assert [held(at) for at in (0, 1, 2, 3, 4, None)] == [[], [first], [first, second], [second], [], []]


def test_thousands_of_exclusions_are_heeded(world: World) -> None:
    world.add_raw("raw_science", [7, 8], [1])
    world.add_calibration("bias.fits", detector=1)
    rows = [NewExclusion(expression=f"exposure == {number}", written="x") for number in range(8, 3008)]
    world.database.write(
        lambda session: [exclusions.exclude(session, each, who="a", why="b", now=utc_now()) for each in rows] and None
    )
    [stage] = world.plan(make_campaign(SCIENCE)).stages
    assert list(reads(stage, "raw")) == ["exposure=7,detector=1"]
    assert [each.number for each in stage.excluded] == [1]
    world.seal(make_campaign(SCIENCE), "science")
    assert len(world.issue("science")) == 1


def test_without_exclusions_a_plan_costs_one_query_more(small_world: World) -> None:
    small_world.add_raw("raw_science", [7, 8])
    small_world.add_calibration("bias1.fits", detector=1)
    small_world.add_calibration("bias2.fits", detector=2)
    asked: list[str] = []
    event.listen(small_world.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    small_world.plan(make_campaign(SCIENCE))
    assert len([text for text in asked if "exclusion" in text]) == 1


def test_an_exclusion_is_of_the_catalogue_and_the_layer_of_a_rule_is_told(small_world: World) -> None:
    from nightmill.config.campaign import load_campaign

    path = write_campaign(
        small_world.directory, "exclude:\n  - {where: exposure == 7, types: [raw_science], why: dome}\n"
    )
    campaign = load_campaign(path, exclude=["FILE raw_science_000008_01.fits", "detector == 2"])
    assert [each.where for each in campaign.exclude] == [
        "exposure == 7",
        "name == 'raw_science_000008_01.fits'",
        "detector == 2",
    ]
    small_world.add_raw("raw_science", [7, 8, 9])
    small_world.add_calibration("bias.fits", detector=1)
    [stage] = small_world.plan(campaign).stages
    assert list(reads(stage, "raw")) == ["exposure=9,detector=1"]
    assert [(each.place, each.files) for each in stage.excluded] == [
        (f"exclude of the campaign ({path}:5)", 2),
        ("exclude of the command line", 1),
        ("exclude of the command line", 2),
    ]


def test_the_record_of_an_exclusion_says_whether_it_holds() -> None:
    now = utc_now()
    known = Exclusion(expression="x", written="x", number=1, who="a", why="b", at=now)
    assert known.holds(now)
