"""Plans have a digest, and how two of them differ is told both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import CampaignRow
from nightmill.model.campaign import Campaign
from nightmill.planning.compare import Change, Comparison, UnitChange, compare
from nightmill.planning.digest import PlanLines, sealed_first, sealed_text, text_of
from tests.planning.world import BIAS, SCIENCE, World, changed, make_campaign

AFTER_BIAS = changed(SCIENCE, "bias", source={"stage": "bias"}, lookup=None, match={"also": ["detector"]})


def fill(world: World, *, backwards: bool = False) -> None:
    step = -1 if backwards else 1
    world.add_raw("raw_science", [1, 2, 10][::step], (1, 2)[::step])
    world.add_raw("raw_bias", [90, 91][::step])
    for name, detector in [("b1.fits", 1), ("b2.fits", 2)][::step]:
        world.add_calibration(name, detector=detector)
        world.add_calibration(f"other_{name}", detector=detector, set_name="other")


def text(world: World, campaign: Campaign, number: int = 1) -> PlanLines:
    plan = world.plan(campaign, number)
    plan.require()
    return text_of(plan)


def swapped(change: UnitChange) -> UnitChange:
    kinds = {Change.ADDED: Change.DROPPED, Change.DROPPED: Change.ADDED}
    pairs = ("", "rule_", "origin_", "level_")
    values: dict[str, Any] = {f"{each}before": getattr(change, f"{each}after") for each in pairs}
    values |= {f"{each}after": getattr(change, f"{each}before") for each in pairs}
    return change._replace(change=kinds.get(change.change, change.change), **values)


def both_ways(before: PlanLines, after: PlanLines) -> Comparison:
    """Compare, and check that the other way tells the same."""
    there, back = compare(before, after), compare(after, before)
    assert sorted(map(swapped, back.changes()), key=str) == sorted(there.changes(), key=str)
    assert sorted((each.key, repr(each.after), repr(each.before)) for each in back.config) == sorted(
        (each.key, repr(each.before), repr(each.after)) for each in there.config
    )
    for one, other in zip(
        sorted(there.stages, key=lambda each: each.stage), sorted(back.stages, key=lambda each: each.stage), strict=True
    ):
        assert (one.before, one.after) == (other.after, other.before)
        assert sum(one.counts.values()) == sum(other.counts.values())
    return there


def test_a_digest_is_the_same_in_every_database_and_order(sqlite_url: str, postgres_url: str, tmp_path: Path) -> None:
    one, two = (World(Database(url), tmp_path / place) for url, place in ((sqlite_url, "one"), (postgres_url, "two")))
    try:
        fill(one)
        two.add_calibration("not_of_it.fits", detector=9, set_name="apart")  # IDs are others from here on
        fill(two, backwards=True)
        campaign = make_campaign(BIAS, AFTER_BIAS)
        here, there = text(one, campaign), text(two, campaign)
    finally:
        one.database.close()
        two.database.close()
    assert here.digest == there.digest
    assert compare(here, there).same
    assert here.later == ["science"]


def test_a_digest_covers_names_checksums_rules_and_configuration(small_world: World) -> None:
    fill(small_world)
    base = make_campaign(SCIENCE)
    digests = {
        text(small_world, each, number).digest
        for each, number in [
            (base, 1),
            (base, 2),  # the names of outputs
            (make_campaign(SCIENCE, where="exposure > 0"), 1),
            (make_campaign(SCIENCE, where="exposure > 1"), 1),
            (make_campaign({**SCIENCE, "retries": 3}), 1),
            (make_campaign(changed(SCIENCE, "bias", why="it is better")), 1),
        ]
    }
    assert len(digests) == 6
    same = make_campaign(SCIENCE, description="in other words", execution={"threads": 1})
    assert text(small_world, same).digest == text(small_world, base).digest


def test_what_was_written_is_read_again(small_world: World) -> None:
    fill(small_world)
    whole = text(small_world, make_campaign(BIAS, AFTER_BIAS))
    again = PlanLines.read(whole.lines(), "again")
    assert (again.digest, list(again.lines())) == (whole.digest, list(whole.lines()))
    assert compare(whole, again).same


@pytest.mark.req("B14")
def test_another_lookup_and_set_change_calibrations_alone(small_world: World) -> None:
    fill(small_world)
    before = make_campaign(changed(SCIENCE, "bias", source={"calibrations": ["ccd"]}))
    after = make_campaign(changed(SCIENCE, "bias", source={"calibrations": ["other"]}), name="night2")
    found = both_ways(text(small_world, before), text(small_world, after, 2))
    changes = list(found.changes())
    assert [(each.unit, each.change, each.role) for each in changes] == [
        (f"exposure={exposure},detector={detector}", Change.INPUT, "bias")
        for exposure in (1, 2, 10)
        for detector in (1, 2)
    ]
    assert (changes[0].before, changes[0].after) == (("b1.fits",), ("other_b1.fits",))
    assert "set ccd" in changes[0].rule_before
    assert "set other" in changes[0].rule_after
    assert [each.key for each in found.config] == ["pipeline.stages.science.inputs.bias.source.calibrations"]
    assert [dict(stage.counts) for stage in found.stages] == [{Change.INPUT: 6}]


def test_units_come_and_go_with_what_makes_them(small_world: World) -> None:
    fill(small_world)
    everything = text(small_world, make_campaign(SCIENCE))
    fewer = text(small_world, make_campaign(SCIENCE, exclude=[{"where": "exposure == 2", "why": "clouds"}]))
    found = both_ways(everything, fewer)
    dropped = list(found.changes())
    assert [(each.unit, each.change) for each in dropped] == [
        ("exposure=2,detector=1", Change.DROPPED),
        ("exposure=2,detector=2", Change.DROPPED),
    ]
    assert "exposure == 2; clouds" in dropped[0].rule_after
    assert (found.stages[0].before, found.stages[0].after) == (6, 4)


def test_stages_that_only_one_plan_has_and_outputs_that_move(small_world: World) -> None:
    fill(small_world)
    steps = [
        {**SCIENCE["steps"][0], "outputs": {"image": {"type": "image", "to": "quicklook"}}},
        SCIENCE["steps"][1],
    ]
    before = text(small_world, make_campaign(BIAS, SCIENCE))
    after = text(small_world, make_campaign({**SCIENCE, "steps": steps}))
    found = both_ways(before, after)
    assert {each.stage: dict(each.counts) for each in found.stages} == {
        "bias": {Change.DROPPED: 2},
        "science": {Change.OUTPUT: 6},
    }
    moved = next(found.changes("science"))
    assert (moved.role, moved.before, moved.after) == (
        "reduce.image",
        ("nmcam_000001_01_image_c0001a01.fits in backbone",),
        ("nmcam_000001_01_image_c0001a01.fits in quicklook",),
    )
    assert str(moved) == (
        "stage science, unit exposure=1,detector=1: output reduce.image:"
        " nmcam_000001_01_image_c0001a01.fits in backbone"
        " -> nmcam_000001_01_image_c0001a01.fits in quicklook"
    )


def test_what_ran_is_compared_with_what_would_run_now(world: World) -> None:
    fill(world)
    campaign = make_campaign(BIAS, AFTER_BIAS)
    plan = world.plan(campaign)
    world.submit(campaign)
    world.seal_plan(campaign, plan.stages[0])

    def sealed() -> PlanLines:
        with world.database.reading() as session:
            return sealed_text(session, session.scalars(select(CampaignRow)).one())

    with world.database.reading() as session:
        assert sealed_first(session, 1) == {"bias": text_of(plan).stages["bias"].digest}
    early = both_ways(sealed(), text_of(plan))
    assert early.same
    assert [(each.stage, each.before, each.after) for each in early.stages] == [("bias", 2, 2), ("science", None, 6)]
    for order in world.issue("bias"):
        world.end(order, published=False)
    for order in world.issue("bias"):
        world.end(order)  # by the second attempt, whose names have another number
    world.seal(campaign, "science")
    later = make_campaign(BIAS, AFTER_BIAS, name="night2")
    found = both_ways(sealed(), text(world, later, 2))
    assert found.same, found.sentences(10)
    world.add_raw("raw_science", [11], [1])
    more = both_ways(sealed(), text(world, later, 2))
    assert [(each.stage, each.unit, each.change) for each in more.changes()] == [
        ("science", "exposure=11,detector=1", Change.ADDED)
    ]
