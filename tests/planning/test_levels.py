"""Several lookups of an input, in their order, each with a level; lookups by time, by a key, of what is pinned."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from nightmill.backbone.catalogue import calibrations, files
from nightmill.backbone.schema import PlannedInputRow
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.calibration import Maturity
from nightmill.model.file_type import FileType, MetadataKey
from nightmill.planning.planned import StagePlan
from tests.planning.world import BIAS, NIGHT, SCIENCE, WHO, World, changed, make_campaign


def by(*lookups: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return changed(SCIENCE, "bias", lookup=list(lookups), **changes)


def chosen(plan: StagePlan, place: int = 0, role: str = "bias") -> tuple[list[str], str, int | None]:
    [found] = [each for each in plan.inputs(plan.jobs[place]) if each.role == role]
    return [file.name for file in found.files], found.rule, found.level


def science(world: World, stage: dict[str, Any]) -> StagePlan:
    plan = world.plan(make_campaign(stage))
    assert plan.problems == ()
    return plan.stages[-1]


@pytest.mark.req("X14")
def test_the_first_lookup_that_finds_enough_fills_the_input_and_its_level_is_kept(world: World) -> None:
    world.add_raw("raw_science", [7])
    world.add_calibration("tonight.fits", detector=1, night=20260110, at=NIGHT)
    world.add_calibration("old1.fits", detector=1, at=NIGHT - timedelta(days=5), night=20260105)
    world.add_calibration("old2.fits", detector=2, at=NIGHT - timedelta(days=5), night=20260105)
    stage = by(
        {"strategy": "nearest", "match": {"also": ["night"]}},
        {"strategy": "nearest", "max_days": 30, "level": 3},
    )
    plan = science(world, stage)
    names, rule, level = chosen(plan, 0)
    assert (names, level) == (["tonight.fits"], 1)
    assert rule == "nearest in set ccd: 0.1 h before, the only candidate (level 1)"
    names, rule, level = chosen(plan, 1)
    assert (names, level) == (["old2.fits"], 3)
    assert rule.endswith("(level 3)")

    campaign = make_campaign(stage)
    world.seal(campaign, "science")
    first, second = world.issue("science")
    assert {(each.role, each.level) for each in second.inputs} == {("raw", None), ("bias", 3)}
    for order in (first, second):
        world.end(order)
    with world.database.reading() as session:
        rows = session.query(PlannedInputRow.role, PlannedInputRow.level).distinct().all()
        assert {tuple(row) for row in rows} == {("raw", None), ("bias", 1), ("bias", 3)}
        detectors = {level: {row.detector for row in files.find(session, level=level)} for level in (1, 2, 3)}
    assert detectors == {1: {1}, 2: set(), 3: {2}}


@pytest.mark.req("X14")
def test_a_miss_says_of_each_lookup_which_condition_failed_and_by_how_much(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7], detectors=[1])
    world.add_calibration("old.fits", detector=1, at=NIGHT - timedelta(days=4), night=20260106)
    [problem] = world.plan(
        make_campaign(by({"strategy": "nearest", "match": {"also": ["night"]}}, {"strategy": "nearest", "max_days": 3}))
    ).problems
    assert "no certified master_bias in set ccd" in problem
    assert "level 1: night is 20260110, and there is 20260106" in problem
    assert "level 2: the nearest, old.fits, is 4.0 d before" in problem


@pytest.mark.req("X14")
def test_of_raw_and_master_at_one_level_the_first_is_preferred(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7], detectors=[1, 2])
    world.add_raw("raw_bias", [1, 2], detectors=[1, 2])
    world.add_calibration("master.fits", detector=1)
    raw = {"strategy": "nearest", "type": "raw_bias", "source": {}, "level": 1}
    master = {"strategy": "valid", "level": 1}
    plan = science(world, by(master, raw))
    assert chosen(plan, 0) == (
        ["master.fits"],
        "valid in set ccd: 2025-12-11 to 2026-02-09, the latest added (level 1)",
        1,
    )
    names, rule, level = chosen(plan, 1)
    assert (names, level) == (["raw_bias_000002_02.fits"], 1)
    assert rule == "nearest raw or manual: 0.1 h before, of 2 candidates (level 1)"
    assert [chosen(science(world, by(raw, master)), place)[0] for place in (0, 1)] == [
        ["raw_bias_000002_01.fits"],
        ["raw_bias_000002_02.fits"],
    ]


@pytest.mark.req("X14", "X03")
def test_held_units_wait_for_what_any_lookup_takes(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7], detectors=[1])
    world.add_calibration("other.fits", detector=9)
    raw = {"strategy": "nearest", "type": "raw_bias", "source": {}}
    plan = science(world, by({"strategy": "valid"}, raw, missing="hold"))
    [unit] = plan.left_out
    assert (unit.types, unit.role) == ("master_bias,raw_bias", "bias")


@pytest.mark.req("X14")
def test_a_stage_of_the_same_campaign_is_waited_for_whichever_lookup_takes_from_it(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7])
    world.add_raw("raw_bias", [1, 2])
    stage = by({"strategy": "valid"}, {"strategy": "nearest", "source": {"stage": "bias"}, "match": ["detector"]})
    world.add_calibration("other.fits", detector=9)
    campaign = make_campaign(BIAS, stage)
    plan = world.plan(campaign)
    assert plan.problems == ()
    names, _rule, level = chosen(plan.stages[1])
    assert (names, level) == (["nmcam_01_bias_c0001a01.fits"], 2)
    assert plan.stages[1].projected
    assert campaign.pipeline.stage("science").upstream == ("bias",)


@pytest.mark.req("X14")
@pytest.mark.parametrize(
    ("lookup", "names", "rule"),
    [
        ("before", ["b.fits"], "last before in set ccd: 1.0 d before, of 4 candidates"),
        ("after", ["c.fits"], "first after in set ccd: 2.0 d after, of 4 candidates"),
        ("bracket", ["b.fits", "c.fits"], "before and after in set ccd: 1.0 d before and 2.0 d after, of 4 candidates"),
        ("nearest", ["b.fits"], "nearest in set ccd: 1.0 d before, of 4 candidates"),
    ],
)
def test_lookups_by_time(small_world: World, lookup: str, names: list[str], rule: str) -> None:
    world = small_world
    world.add_raw("raw_science", [0], detectors=[1])
    for name, days in (("a", -3), ("b", -1), ("c", 2), ("d", 4)):
        world.add_calibration(f"{name}.fits", detector=1, at=NIGHT + timedelta(days=days))
    found = chosen(science(world, by({"strategy": lookup}, max=2)))
    assert found == (names, f"{rule} (level 1)", 1)


@pytest.mark.req("X14")
@pytest.mark.parametrize("lookup", ["before", "after", "bracket"])
def test_what_lies_on_one_side_alone_is_told(small_world: World, lookup: str) -> None:
    world = small_world
    world.add_raw("raw_science", [0], detectors=[1])
    for days in (1, 3) if lookup == "before" else (-3, -1):
        world.add_calibration(f"d{days}.fits", detector=1, at=NIGHT + timedelta(days=days))
    [problem] = world.plan(make_campaign(by({"strategy": lookup}, max=2))).problems
    side = "before" if lookup == "before" else "after"
    first, last = ("1.0 d after", "3.0 d after") if lookup == "before" else ("3.0 d before", "1.0 d before")
    assert f"none is {side}: the first is {first}, the last {last}" in problem


@pytest.mark.req("X14")
def test_a_file_at_the_very_time_of_the_unit_is_on_both_sides_of_it(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [0], detectors=[1])
    middle = NIGHT + timedelta(seconds=30)
    world.add_calibration("same.fits", detector=1, at=middle)
    assert chosen(science(world, by({"strategy": "bracket"}, max=2)))[0] == ["same.fits"]


@pytest.mark.req("X14")
def test_the_best_by_a_key_of_metadata(small_world: World) -> None:
    world = small_world
    key = {"seeing": MetadataKey(keywords=("SEEING",), type="float")}
    world.types["raw_flat"] = FileType(name="raw_flat", format="fits", metadata=key)
    world.add_raw("raw_science", [7], detectors=[1])
    for exposure, seeing in ((1, 1.2), (2, 0.7), (3, 0.9)):
        world.add_raw("raw_flat", [exposure], detectors=[1], metadata={"seeing": seeing})
    world.add_raw("raw_flat", [4], detectors=[1])
    best = {"strategy": "best", "by": "seeing"}
    stage = changed(SCIENCE, "bias", type="raw_flat", source={}, lookup=best)
    names, rule, level = chosen(science(world, stage))
    assert (names, level) == (["raw_flat_000002_01.fits"], None)
    assert rule == "best raw or manual: seeing 0.7, the least, of 3 candidates"
    stage = changed(SCIENCE, "bias", type="raw_flat", source={}, lookup={**best, "prefer": "greatest"})
    assert chosen(science(world, stage))[0] == ["raw_flat_000001_01.fits"]
    stage = changed(SCIENCE, "bias", type="raw_flat", source={}, lookup={**best, "by": "airmass"})
    [problem] = world.plan(make_campaign(stage)).problems
    assert "none of 4 has a number in airmass" in problem


def pin(world: World, name: str = "release") -> tuple[str, int]:
    def work(session: Any) -> tuple[str, int]:
        row, roles = calibrations.pin(session, name, ["ccd"], who=WHO, why="reviewed", now=world.now)
        return row.sha256, roles

    return world.database.write(work)


@pytest.mark.req("X14")
def test_what_is_pinned_is_chosen_whatever_becomes_of_the_set(world: World) -> None:
    world.add_raw("raw_science", [7], detectors=[1])
    world.add_calibration("old.fits", detector=1, at=NIGHT - timedelta(days=2))
    world.add_calibration("draft.fits", detector=1, maturity=Maturity.DRAFT)
    digest, roles = pin(world)
    assert roles == 1
    world.add_calibration("new.fits", detector=1)
    world.database.write(
        lambda session: calibrations.withdraw(session, ["old.fits"], "ccd", who=WHO, why="", now=world.now)
    )
    pinned = changed(SCIENCE, "bias", source={"calibrations": ["ccd"], "context": "release"})
    names, rule, _level = chosen(science(world, pinned))
    assert names == ["old.fits"]
    assert rule.startswith("nearest in set ccd of context release: 2.0 d before")
    assert chosen(science(world, dict(SCIENCE)))[0] == ["new.fits"]
    with pytest.raises(RequestRefused, match="context 'release' pins other roles"):
        pin(world)
    assert pin(world, "next")[0] != digest
    with world.database.reading() as session:
        assert [(row.name, count) for row, count in calibrations.contexts(session)] == [("release", 1), ("next", 1)]


def test_a_context_that_is_not_there_is_guessed(small_world: World) -> None:
    world = small_world
    world.add_raw("raw_science", [7], detectors=[1])
    world.add_calibration("old.fits", detector=1)
    assert pin(world) == pin(world)
    stage = changed(SCIENCE, "bias", source={"calibrations": ["ccd"], "context": "relaese"})
    [problem] = world.plan(make_campaign(stage)).problems
    assert "no context named 'relaese' (did you mean 'release'?)" in problem
    with pytest.raises(UnknownName, match="no calibration set named 'cdc'"):
        world.database.write(lambda session: calibrations.pin(session, "x", ["cdc"], who=WHO, why="w", now=world.now))
