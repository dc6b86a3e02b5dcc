"""What a campaign relies on, told by a plan while it is made and of what is sealed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nightmill.backbone.work.left_out import leave_out, left_out_units
from nightmill.model.campaign import Campaign
from nightmill.planning.plan import plan_campaign, plan_stage
from nightmill.planning.reliance import Reliance, Wanted, tell_sealed
from tests.planning.world import NIGHT, SCIENCE, World, changed, make_campaign

DAY = timedelta(days=1)
NEAREST = {"strategy": "nearest", "max_days": 3}
FARTHER = {"strategy": "nearest", "max_days": 60}


def science(**bias: Any) -> dict[str, Any]:
    return changed(SCIENCE, "bias", **{"lookup": [NEAREST, FARTHER], "missing": "skip", **bias})


def fill(world: World) -> None:
    """Detector 1 has a bias of the night before, detector 2 an old one, and detector 3, in another night, none."""
    world.add_raw("raw_science", range(1, 5), detectors=[1, 2], band="r")
    world.add_raw("raw_science", [7, 8], detectors=[3], night=NIGHT + DAY, band="r")
    world.add_calibration("new.fits", detector=1, at=NIGHT - DAY)
    world.add_calibration("old.fits", detector=2, at=NIGHT - 35 * DAY)


def planned(world: World, campaign: Campaign, **options: Any) -> Reliance:
    reliance = Reliance(world.site.file_types, **options)
    with world.database.reading() as session:
        plan_campaign(session, campaign, world.site, 1, reliance=reliance)
    return reliance


def of(detector: int) -> tuple[tuple[str, str], ...]:
    return (("detector", str(detector)), ("instrument", "nmcam"))


def seen(reliance: Reliance) -> tuple[Any, ...]:
    [role] = reliance.roles
    counts = (role.units, role.lacking, role.poorer, role.older)
    return counts, dict(role.levels), dict(role.files), sorted(role.days), role.nights, reliance.wanted


def test_a_plan_tells_who_serves_whom_how_well_and_what_to_ask_for(small_world: World) -> None:
    fill(small_world)
    reliance = planned(small_world, make_campaign(science()))
    [role] = reliance.roles
    assert (role.stage, role.role, role.types, role.best) == ("science", "bias", ("master_bias",), 1)
    assert (role.units, role.lacking, role.poorer, role.older) == (10, 2, 4, 4)
    assert dict(role.levels) == {1: 4, 2: 4}
    assert dict(role.files) == {"new.fits": 4, "old.fits": 4}
    assert role.nights_without == [20260111]
    assert role.worst_days is not None
    assert role.median_days is not None
    assert (round(role.worst_days), round(role.median_days)) == (35, 18)
    lacking, old = reliance.wanted
    assert lacking == Wanted("master_bias", of(3), lacking=2, nights={20260111})
    assert (old.of, old.lacking, old.poorer, old.older, old.nights) == (of(2), 0, 4, 4, {20260110})
    assert old.worst_days == role.worst_days


def test_it_tells_of_units_whose_plan_is_refused(small_world: World) -> None:
    fill(small_world)
    refused, skipped = (planned(small_world, make_campaign(science(missing=word))) for word in ("refuse", "skip"))
    assert seen(refused) == seen(skipped)


def test_what_is_asked_for_without_a_candidate_is_what_the_type_tells(small_world: World) -> None:
    small_world.add_raw("raw_science", range(1, 3), detectors=[1, 2], band="r")
    small_world.add_calibration("flat.fits", detector=1, type="master_flat", band="r")
    reliance = planned(small_world, make_campaign(science()))
    assert [(each.of, each.lacking) for each in reliance.wanted] == [(of(1), 2), (of(2), 2)]


def test_an_age_is_old_by_what_is_asked(small_world: World) -> None:
    fill(small_world)
    campaign = make_campaign(science(lookup=FARTHER))
    assert [planned(small_world, campaign, older_days=days).roles[0].older for days in (0.1, 30, 40)] == [8, 4, 0]
    [role] = planned(small_world, campaign, older_days=40).roles
    assert (dict(role.levels), role.best, role.poorer) == ({}, None, 0)


def test_inputs_that_nothing_looks_up_are_not_told_of(small_world: World) -> None:
    small_world.add_raw("raw_science", [1])
    stage = changed(SCIENCE, "bias", lookup=None, source={}, min=0)
    assert planned(small_world, make_campaign(stage)).roles == []


@pytest.mark.parametrize("options", [{}, {"missing": "refuse", "min": 0}], ids=["left out", "without"])
def test_what_is_sealed_tells_the_same(world: World, options: dict[str, Any]) -> None:
    fill(world)
    campaign = make_campaign(science(**options))
    fresh = planned(world, campaign)
    number = world.submit(campaign)
    plan = world.plan_stage(campaign, "science", number)
    world.seal_plan(campaign, plan)
    world.database.write(
        lambda session: leave_out(session, number, "science", plan.left_out, watermark=plan.watermark, now=NIGHT)
    )
    world.add_raw("raw_science", [99], detectors=[3], night=NIGHT + DAY)
    with world.database.reading() as session:
        units = {"science": {each.unit for each in left_out_units(session, [number]).get(number, ())}}
        sealed = Reliance(world.site.file_types, units=units)
        assert tell_sealed(session, number, sealed) == {"science"}
        if any(units.values()):
            plan_stage(session, campaign, "science", world.site, number, reliance=sealed)
    assert seen(sealed) == seen(fresh)
