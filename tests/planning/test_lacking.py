"""Units that lack an input are refused, skipped or held, as the input says; the others run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from nightmill.backbone.schema import LeftOutRow, PlanRow
from nightmill.backbone.work import campaigns
from nightmill.backbone.work.left_out import SLACK, has_come, holding_campaigns, left_out_units
from nightmill.backbone.work.news import has_news
from nightmill.errors import PlanRefused
from nightmill.model.calibration import Maturity
from nightmill.model.campaign import Campaign
from nightmill.model.file_type import FileType, MetadataKey
from tests.planning.world import BIAS, SCIENCE, World, changed, make_campaign

HOUR = timedelta(hours=1)


def lacking(missing: str, **changes: Any) -> dict[str, Any]:
    return changed(SCIENCE, "bias", missing=missing, **changes)


def two_detectors(world: World, missing: str) -> Campaign:
    """Give a campaign of two detectors, one of which has a bias."""
    world.add_raw("raw_science", [7, 8])
    world.add_calibration("bias.fits", detector=1)
    world.now += HOUR
    return make_campaign(lacking(missing))


def on_record(world: World, campaign: str = "night1") -> list[tuple[str, str, str]]:
    with world.database.reading() as session:
        number = campaigns.campaign_named(session, campaign).id
        found = left_out_units(session, [number]).get(number, [])
    return [(unit.unit, unit.role, unit.missing) for unit in found]


def come(world: World, stage: str = "science") -> bool:
    with world.database.reading() as session:
        return has_come(session, campaigns.campaign_named(session, "night1").id, stage)


@pytest.mark.req("X03")
def test_a_unit_that_lacks_an_input_is_refused_unless_the_input_says_otherwise(small_world: World) -> None:
    plan = small_world.plan(two_detectors(small_world, "refuse"))
    [problem] = plan.problems
    assert "no certified master_bias in set ccd for instrument=nmcam,detector=2" in problem
    assert plan.stages[0].left_out == ()


@pytest.mark.req("X03", "REQ-0031")
@pytest.mark.parametrize(("missing", "told"), [("skip", "; skipped: "), ("hold", "; held until it comes: ")])
def test_units_that_lack_an_input_are_left_out_and_the_others_planned(world: World, missing: str, told: str) -> None:
    campaign = two_detectors(world, missing)
    plan = world.plan(campaign).stages[0]
    assert (plan.problems, [job.unit for job in plan.jobs]) == ((), ["exposure=7,detector=1", "exposure=8,detector=1"])
    assert [(unit.unit, unit.role, unit.types, unit.missing) for unit in plan.left_out] == [
        (f"exposure={exposure},detector=2", "bias", "master_bias", missing) for exposure in (7, 8)
    ]
    assert "no certified master_bias in set ccd" in plan.left_out[0].why
    assert "detector is 2, and there is 1" in plan.left_out[0].why
    [sentence] = plan.lacking
    assert sentence.startswith("stage 'science', input 'bias': no certified master_bias")
    assert f"{told}2 units, as exposure=7,detector=2" in sentence
    sealed = world.seal(campaign, "science")
    assert (sealed.jobs, sealed.left_out) == (2, plan.lacking)
    assert on_record(world) == [(f"exposure={exposure},detector=2", "bias", missing) for exposure in (7, 8)]


@pytest.mark.req("F43", "F44")
def test_a_key_that_data_and_ground_have_otherwise_holds_the_units_that_have_it(small_world: World) -> None:
    world = small_world
    key = {"setup": MetadataKey(keywords=("SETUP",))}
    for name in ("raw_science", "master_bias"):
        world.types[name] = world.types[name].model_copy(update={"metadata": key})
    world.types["raw_bias"] = FileType(name="raw_bias", format="fits", metadata=key)
    world.add_raw("raw_science", [1], metadata={"setup": "A12"})
    world.add_raw("raw_science", [2], metadata={"setup": "B7"})
    world.add_raw("raw_bias", [3, 4], metadata={"setup": "A12"})
    bias = {**BIAS, "per": ["instrument", "detector", "setup"]}
    science = lacking("hold", source={"stage": "bias"}, lookup=None, match={"also": ["setup"]})
    plan = world.plan(make_campaign(bias, science)).stages[1]
    assert [job.unit for job in plan.jobs] == ["exposure=1,detector=1", "exposure=1,detector=2"]
    assert [unit.unit for unit in plan.left_out] == ["exposure=2,detector=1", "exposure=2,detector=2"]
    assert "setup is B7, and there is A12" in plan.left_out[0].why


@pytest.mark.req("X03")
def test_what_one_input_skips_no_other_holds(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7])
    world.add_calibration("bias.fits", detector=1)
    held = lacking("hold")
    stage = {**held, "inputs": {**held["inputs"], "flat": {"type": "raw_flat", "missing": "skip"}}}
    plan = world.plan(make_campaign(stage)).stages[0]
    assert {unit.unit: unit.missing for unit in plan.left_out} == dict.fromkeys(
        ["exposure=7,detector=1", "exposure=7,detector=2"], "skip"
    )
    assert len(plan.lacking) == 2


@pytest.mark.req("X03")
def test_held_units_join_the_plan_when_their_input_comes(world: World) -> None:
    campaign = two_detectors(world, "hold")
    assert world.seal(campaign, "science").jobs == 2
    world.now += HOUR
    assert not come(world)
    world.add_raw("raw_flat", [9])
    assert not come(world)  # of another type
    world.add_calibration("late.fits", detector=2)
    assert come(world)
    world.now += HOUR
    with world.database.reading() as session:
        assert holding_campaigns(session) == ["night1"]
        assert has_news(session, 1, "science", upstream=[])
    sealed = world.seal(campaign, "science")
    assert (sealed.revision, sealed.jobs, sealed.slices) == (2, 2, (1,))
    assert on_record(world) == []
    assert not come(world)


@pytest.mark.req("X03")
def test_a_draft_that_is_certified_later_releases_what_waits_for_it(world: World) -> None:
    campaign = two_detectors(world, "hold")
    world.add_calibration("draft.fits", detector=2, maturity=Maturity.DRAFT)
    world.now += HOUR
    assert world.seal(campaign, "science").jobs == 2
    world.now += HOUR
    assert not come(world)
    world.add_calibration("draft2.fits", detector=2)
    assert come(world)


@pytest.mark.req("X03")
def test_what_was_registered_while_the_plan_was_made_is_not_overlooked(world: World) -> None:
    """Its transaction may have ended after the plan was made, with an ID below the plan's watermark."""
    campaign = two_detectors(world, "hold")
    world.seal(campaign, "science")
    world.now += HOUR
    world.add_calibration("late.fits", detector=2)
    late = world.now + HOUR
    world.database.write(lambda session: session.execute(update(LeftOutRow).values(watermark=1_000, planned_at=late)))
    assert not come(world)
    early = world.now + SLACK / 2
    world.database.write(lambda session: session.execute(update(LeftOutRow).values(planned_at=early)))
    assert come(world)


@pytest.mark.req("X03")
def test_a_stage_of_held_units_alone_is_planned_and_so_are_those_after_it(world: World) -> None:
    world.add_raw("raw_science", [7])
    images: Mapping[str, Any] = {"images": {"type": "image", "source": {"stage": "science"}, "max": None}}
    after = {
        "name": "after",
        "per": ["exposure"],
        "inputs": images,
        "steps": [{"name": "join", "argv": ["join"], "inputs": ["images"]}],
    }
    both = {"raw": {"type": "raw_science", "max": None}, **images}
    last = {**after, "name": "last", "inputs": both}
    world.add_calibration("other.fits", detector=9)
    campaign = make_campaign(lacking("hold"), after, last)
    plan = world.plan(campaign)
    assert plan.problems == ()
    assert [len(stage.jobs) for stage in plan.stages] == [0, 0, 0]
    assert "no image made by stage science: there is nothing to do" in plan.stages[1].waiting[0]
    assert "no image at all" in plan.stages[2].waiting[0]
    for stage in ("science", "after", "last"):
        assert world.seal(campaign, stage).jobs == 0
    with world.database.reading() as session:
        stages = campaigns.progress(session, 1)
        assert [(stage.revisions, stage.total, dict(stage.left_out)) for stage in stages] == [
            (1, 0, {"hold": 2}),
            (1, 0, {}),
            (1, 0, {}),
        ]
        assert campaigns.is_complete(session, 1)
        assert session.scalar(select(func.count()).select_from(PlanRow)) == 3


def test_a_stage_that_makes_nothing_is_refused_where_nothing_is_left_out(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_bias", [1, 2])
    campaign = make_campaign(BIAS, changed(SCIENCE, "raw", type="master_bias", source={"stage": "bias"}))
    world.seal(campaign, "bias")
    with pytest.raises(PlanRefused, match="there is nothing to do"):
        world.seal(campaign, "science")


@pytest.mark.req("X03")
def test_what_came_while_a_long_plan_was_made_is_not_overlooked(world: World) -> None:
    """It is newer than what the plan could see, and older than its end by more than the slack."""
    campaign = two_detectors(world, "hold")
    plan = world.plan_stage(campaign, "science", world.submit(campaign))
    world.add_raw("master_bias", [9])
    world.now += HOUR
    world.seal_plan(campaign, plan)
    assert come(world)
