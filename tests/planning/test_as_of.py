"""What a plan as of then takes from the catalogue, question by question."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from nightmill.backbone.catalogue import exclusions
from nightmill.backbone.catalogue.exclusions import NewExclusion
from nightmill.backbone.catalogue.files import names_like, names_taken, selected
from nightmill.backbone.catalogue.withdrawals import versions, withdraw
from nightmill.backbone.schema import ReplicaRow
from nightmill.backbone.work.left_out import LeftOut, leave_out, stages_with_left_out
from nightmill.backbone.work.saved_plans import number_of
from nightmill.planning.plan import plan_campaign
from nightmill.planning.planned import CampaignPlan
from tests.planning.world import BIAS, NIGHT, SCIENCE, World, changed, make_campaign

HOUR = timedelta(hours=1)
COADD = {
    "name": "coadd",
    "per": ["instrument", "detector"],
    "inputs": {"images": {"type": "image", "source": {"campaigns": ["night1"], "stage": "science"}, "max": None}},
    "steps": [
        {
            "name": "add",
            "argv": ["add", "{inputs.images}", "{outputs.cut}"],
            "inputs": ["images"],
            "outputs": {"cut": {"type": "master_bias"}},
        }
    ],
}


def as_of(world: World, at: datetime, *stages: Any, name: str = "night2") -> CampaignPlan:
    with world.database.reading() as session:
        number = number_of(session, name, as_of=at)
        return plan_campaign(session, make_campaign(*stages, name=name), world.site, number, as_of=at)


def units(plan: CampaignPlan) -> list[str]:
    return [job.unit for stage in plan.stages for job in stage.jobs]


def test_an_exclusion_that_has_ended_since_was_in_force(world: World) -> None:
    world.add_raw("raw_bias", [1, 2, 3], detectors=[1])
    new = NewExclusion(expression="exposure == 3", written="exposure == 3", expires_at=NIGHT + 2 * HOUR)
    world.database.write(lambda session: exclusions.exclude(session, new, who="me", why="", now=NIGHT + HOUR))
    read = {
        hours: len(as_of(world, NIGHT + hours * HOUR, BIAS).stages[0].jobs[0].choices[0].files) for hours in range(3)
    }
    assert read == {0: 3, 1: 2, 2: 3}


def test_results_of_another_campaign_are_those_recorded_by_then(world: World) -> None:
    world.add_raw("raw_science", [7], detectors=[1])
    world.add_calibration("bias.fits", detector=1)
    world.seal(make_campaign(SCIENCE), "science")
    [order] = world.issue("science")
    world.end(order)
    assert units(as_of(world, NIGHT, COADD)) == ["instrument=nmcam,detector=1"]
    [problem] = as_of(world, NIGHT - HOUR, COADD).problems
    assert "no campaign named 'night1'" in problem
    assert as_of(world, NIGHT - HOUR, COADD).number == 1
    assert as_of(world, NIGHT, COADD).number == 2


def test_files_that_are_listed_by_name_are_those_there_by_then(small_world: World) -> None:
    world = small_world
    listed = changed(SCIENCE, "bias", source={}, lookup={"strategy": "list", "files": ["bias.fits"]})
    world.add_raw("raw_science", [7], detectors=[1])
    world.now = NIGHT + HOUR
    world.add_calibration("bias.fits", detector=1)
    with world.database.writing() as session:
        [bias] = versions(session, "bias.fits")
        withdraw(session, [(bias, None)], who="me", why="", now=NIGHT + 2 * HOUR)
    seen = [units(as_of(world, NIGHT + hours * HOUR, listed)) for hours in range(3)]
    assert seen == [[], ["exposure=7,detector=1"], []]


def test_copies_are_not_asked_of_then(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7], detectors=[1])
    world.add_calibration("bias.fits", detector=1)
    with world.database.writing() as session:
        session.query(ReplicaRow).delete()
    assert world.plan(make_campaign(SCIENCE)).problems
    plan = as_of(world, NIGHT, SCIENCE)
    assert plan.problems == ()
    assert units(plan) == ["exposure=7,detector=1"]


def test_a_name_that_was_taken_later_is_free(world: World) -> None:
    world.now = NIGHT + HOUR
    world.add_raw("raw_science", [7], detectors=[1])
    name = "raw_science_000007_01.fits"
    with world.database.reading() as session:
        for at, there in ((NIGHT, []), (NIGHT + HOUR, [name])):
            assert list(names_taken(session, [name], as_of=at)) == there
            assert list(names_like(session, "raw_", ".fits", as_of=at)) == there


def test_a_question_without_a_time_is_what_it_was(small_world: World) -> None:
    with small_world.database.reading() as session:
        now, then = (str(selected(session, type="image", as_of=at)) for at in (None, NIGHT))
    assert "registered_at" not in now
    assert "withdrawal.at" not in now
    assert then.count("registered_at <=") == 1
    assert then.count("withdrawal.at <=") == 1


def test_before_anything_came_there_is_nothing_to_do(small_world: World) -> None:
    small_world.add_raw("raw_bias", [1, 2])
    [problem] = as_of(small_world, NIGHT - HOUR, BIAS).problems
    assert "no raw_bias raw or manual: there is nothing to do" in problem


def test_units_that_a_later_plan_left_out_were_not(world: World) -> None:
    number = world.submit(make_campaign(SCIENCE))
    unit = LeftOut("exposure=7,detector=1", "bias", "master_bias", "hold", "")
    world.database.write(lambda session: leave_out(session, number, "science", [unit], watermark=0, now=NIGHT + HOUR))
    with world.database.reading() as session:
        stages = [stages_with_left_out(session, "night1", as_of=at) for at in (NIGHT, NIGHT + HOUR, None)]
    assert stages == [set(), {"science"}, {"science"}]
