from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import CampaignRow, JobRow, PlanRow, SliceRow
from nightmill.errors import PlanRefused
from nightmill.model.campaign import Campaign
from nightmill.model.pipeline import Stage
from nightmill.planning.outputs import claims
from nightmill.planning.planned import CampaignPlan
from nightmill.planning.seal import Sealed
from nightmill.planning.sealed import JobDetail, PlannedJob, StageCommon, sealed_stages
from tests.planning.world import BIAS, SCIENCE, World, file_types, make_campaign

AFTER_BIAS: Mapping[str, Any] = {
    **SCIENCE,
    "inputs": {"raw": {"type": "raw_science"}, "bias": {"type": "master_bias", "source": {"stage": "bias"}}},
    "when": "any",
}


def rows(world: World, stage: str) -> dict[str, JobRow]:
    with world.database.reading() as session:
        return {row.unit: row for row in session.scalars(select(JobRow).where(JobRow.stage == stage))}


def stale(world: World, stage: str) -> list[str]:
    return sorted(unit for unit, row in rows(world, stage).items() if row.stale)


def test_a_sealed_plan_holds_its_common_part_once_and_of_each_job_what_differs(world: World) -> None:
    world.add_raw("raw_bias", [1, 2, 3])
    campaign = make_campaign(BIAS)
    sealed = world.seal(campaign, "bias")
    assert sealed == Sealed(revision=1, slices=(0,), jobs=2, stale=0, left_out=())
    with world.database.reading() as session:
        plan = session.scalars(select(PlanRow)).one()
        jobs = session.scalars(select(JobRow).order_by(JobRow.id)).all()
    common = StageCommon.model_validate(plan.common)
    assert common.stage == campaign.pipeline.stages[0]
    assert (plan.watermark, plan.position, len(plan.sha256)) == (6, 0, 64)
    details = [JobDetail.model_validate(job.detail) for job in jobs]
    assert [detail.number for detail in details] == [0, 1]
    assert details[1].data_id == {"instrument": "nmcam", "detector": 2}
    assert details[1].inputs == {"frames": (0, (2, 4, 6))}
    assert common.rules == ("raw or manual; its files make the units",)


def test_a_plan_looks_the_same_fresh_and_from_its_rows(world: World) -> None:
    world.add_raw("raw_bias", [1, 2, 3])
    world.add_raw("raw_science", [7, 8])
    world.add_calibration("bias.fits", detector=1)
    world.add_calibration("other.fits", detector=2)
    campaign = make_campaign(BIAS, SCIENCE)
    fresh = world.plan(campaign)
    fresh.require()
    for stage in ("science", "bias"):
        world.seal(campaign, stage)
    with world.database.reading() as session:
        sealed = list(sealed_stages(session, session.scalars(select(CampaignRow.id)).one()))
    assert [len(stage.jobs) for stage in sealed] == [2, 4]
    for before, after in zip(fresh.stages, sealed, strict=True):
        assert (after.common, after.watermark) == (before.common, before.watermark)
        assert [job.number for job in after.jobs] == list(range(len(before.jobs)))
        assert [job._replace(number=0) for job in after.jobs] == list(before.jobs)
        assert [list(after.inputs(job)) for job in after.jobs] == [list(before.inputs(job)) for job in before.jobs]
    assert [planned.rule for planned in sealed[1].inputs(sealed[1].jobs[0])] == [
        "raw or manual; its files make the units",
        "nearest in set ccd: 0.1 h before, the only candidate",
    ]


def test_sealing_again_changes_nothing(world: World) -> None:
    world.add_raw("raw_bias", [1, 2])
    world.seal(make_campaign(BIAS), "bias")
    before = {unit: row.detail for unit, row in rows(world, "bias").items()}
    assert world.seal(make_campaign(BIAS), "bias") == Sealed(revision=0, slices=(), jobs=0, stale=0, left_out=())
    assert {unit: row.detail for unit, row in rows(world, "bias").items()} == before
    with world.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(PlanRow)) == 1


def test_another_plan_has_another_digest(world: World) -> None:
    world.add_raw("raw_bias", [1, 2])
    world.seal(make_campaign(BIAS), "bias")
    world.add_raw("raw_bias", [3, 4], [3])
    world.seal(make_campaign(BIAS), "bias")
    with world.database.reading() as session:
        plans = session.scalars(select(PlanRow).order_by(PlanRow.revision)).all()
    assert [plan.revision for plan in plans] == [1, 2]
    assert plans[0].common == plans[1].common
    assert plans[0].sha256 != plans[1].sha256


def test_jobs_are_parted_into_slices(world: World) -> None:
    world.add_raw("raw_bias", [1, 2], range(1, 8))
    sealed = world.seal(make_campaign(BIAS, execution={"jobs_per_slice": 3}), "bias")
    assert sealed.slices == (0, 1, 2)
    with world.database.reading() as session:
        sizes = session.execute(
            select(SliceRow.number, func.count(JobRow.id))
            .join(JobRow, JobRow.slice_id == SliceRow.id)
            .group_by(SliceRow.number)
            .order_by(SliceRow.number)
        ).all()
    assert [tuple(row) for row in sizes] == [(0, 3), (1, 3), (2, 1)]


def test_a_plan_with_problems_is_not_sealed(world: World) -> None:
    world.add_raw("raw_bias", [1], [1, 2])
    world.add_raw("raw_bias", [2], [2])
    with pytest.raises(PlanRefused, match=r"campaign 'night1' cannot be planned: 1 problem\n  - stage 'bias', input"):
        world.seal(make_campaign(BIAS), "bias")
    assert rows(world, "bias") == {}


def test_a_projected_plan_is_not_sealed(small_world: World) -> None:
    small_world.add_raw("raw_bias", [1, 2], [1])
    small_world.add_raw("raw_science", [7], [1])
    campaign = make_campaign(BIAS, AFTER_BIAS)
    small_world.seal(campaign, "bias")
    plan = small_world.plan(campaign).stages[1]
    with pytest.raises(ValueError, match="stage 'science' is projected: plan it again when the stages before it"):
        small_world.seal_plan(campaign, plan)


def test_units_wait_for_what_a_stage_before_may_still_make(world: World) -> None:
    world.add_raw("raw_bias", [1, 2])
    world.add_raw("raw_science", [7, 8])
    campaign = make_campaign(BIAS, AFTER_BIAS)
    world.seal(campaign, "bias")
    first, second = world.issue("bias")
    world.end(first)
    world.end(second, published=False)
    sealed = world.seal(campaign, "science")
    assert (sealed.revision, sealed.slices, sealed.jobs) == (1, (0,), 2)
    assert sealed.left_out == (
        "stage 'science', input 'bias': at least 1 master_bias needed, none found (made by stage bias): 2 units, as"
        " exposure=7,detector=2 (detector is 2, and there is 1); exposure=8,detector=2 (detector is 2, and there is 1)",
    )
    (again,) = world.issue("bias")
    world.end(again)
    assert world.seal(campaign, "science") == Sealed(revision=2, slices=(1,), jobs=2, stale=0, left_out=())
    assert [unit for unit, row in sorted(rows(world, "science").items()) if not row.stale] == [
        f"exposure={exposure},detector={detector}" for exposure in (7, 8) for detector in (1, 2)
    ]
    numbers = [JobDetail.model_validate(row.detail).number for row in rows(world, "science").values()]
    assert sorted(numbers) == [0, 1, 2, 3]
    (order, _) = world.issue("science", number=1)
    assert order.attempt.unit == "exposure=7,detector=2"
    assert order.inputs[1].name == "nmcam_02_bias_c0001a02.fits"


def test_too_many_files_of_a_stage_before_are_a_problem_and_do_not_wait(world: World) -> None:
    world.add_raw("raw_bias", [1, 2])
    world.add_raw("raw_science", [7])
    any_bias = {"type": "master_bias", "source": {"stage": "bias"}, "match": []}
    campaign = make_campaign(BIAS, {**AFTER_BIAS, "inputs": {**AFTER_BIAS["inputs"], "bias": any_bias}})
    world.seal(campaign, "bias")
    for order in world.issue("bias"):
        world.end(order)
    with pytest.raises(PlanRefused, match="2 files of type master_bias fit where at most 1 may be"):
        world.seal(campaign, "science")


def test_jobs_whose_inputs_would_be_others_now_are_stale_and_keep_those_they_have(world: World) -> None:
    world.add_raw("raw_bias", [1, 2])
    campaign = make_campaign(BIAS)
    world.seal(campaign, "bias")
    (done, _) = world.issue("bias")
    world.end(done)
    before = {unit: row.detail for unit, row in rows(world, "bias").items()}
    world.add_raw("raw_bias", [3], [1])
    assert world.seal(campaign, "bias") == Sealed(revision=0, slices=(), jobs=0, stale=1, left_out=())
    assert stale(world, "bias") == ["instrument=nmcam,detector=1"]
    assert {unit: row.detail for unit, row in rows(world, "bias").items()} == before


def test_what_is_sealed_already_is_no_collision_and_new_problems_do_not_stop_it(world: World) -> None:
    world.add_raw("raw_bias", [1, 2])
    campaign = make_campaign(BIAS)
    world.seal(campaign, "bias")
    for order in world.issue("bias"):
        world.end(order)
    world.add_raw("raw_bias", [1], [3])
    sealed = world.seal(campaign, "bias")
    assert (sealed.revision, sealed.jobs, sealed.stale) == (0, 0, 0)
    assert sealed.left_out == (
        "stage 'bias', input 'frames': at least 2 raw_bias needed, 1 found (raw or manual): unit"
        " instrument=nmcam,detector=3",
    )


def test_two_that_seal_the_same_stage_at_a_time_seal_it_once(world: World) -> None:
    world.add_raw("raw_bias", [1, 2], range(1, 20))
    campaign = make_campaign(BIAS)
    number = world.submit(campaign)
    plan = world.plan_stage(campaign, "bias", number)
    with ThreadPoolExecutor(4) as pool:
        sealed = list(pool.map(lambda _: world.seal_plan(campaign, plan), range(4)))
    assert sorted(each.jobs for each in sealed) == [0, 0, 0, 19]
    assert len(rows(world, "bias")) == 19


# ------------------------------------------------------------------------------------ any plan that can be


FIELDS = ["{exposure:03d}", "{detector}", "{band}", "{stage}", "{step}", "{role}", "{file_type}"]


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give a world that nothing writes to: two bands, two exposures in each, two detectors."""
    directory: Path = tmp_path_factory.mktemp("camera")
    database = Database(f"sqlite:///{directory / 'nightmill.db'}")
    database.create()
    world = World(database, directory)
    for band, exposures in (("g", [1, 2]), ("r", [3, 4])):
        world.add_raw("raw_science", exposures, band=band)
    yield world
    database.close()


def stages(per: list[str], outputs: int) -> st.SearchStrategy[dict[str, Any]]:
    steps = [
        {
            "name": f"s{number}",
            "argv": ["s"],
            "outputs": {f"o{number}": {"type": "image"}, f"p{number}": {"type": "catalog"}},
        }
        for number in range(outputs)
    ]
    raw = {"type": "raw_science", "max": None}
    return st.just({"per": per, "inputs": {"raw": raw}, "steps": steps})


PERS = st.sampled_from([["exposure", "detector"], ["exposure"], ["detector"], ["band"], []])
STAGES = st.lists(st.tuples(PERS, st.integers(1, 2)).flatmap(lambda each: stages(*each)), min_size=1, max_size=2)
TEMPLATES = st.lists(st.sampled_from(FIELDS), unique=True).map(
    lambda fields: "_".join(["c{campaign}a{attempt}", *fields]) + ".fits"
)


@given(STAGES, TEMPLATES, TEMPLATES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_any_plan_without_problems_has_unique_names(
    camera: World, stages: list[dict[str, Any]], image: str, catalog: str
) -> None:
    camera.types = file_types(image=image, catalog=catalog)
    campaign = make_campaign(*({**stage, "name": f"stage{number}"} for number, stage in enumerate(stages)))
    plan = camera.plan(campaign)
    names = [claim.name for stage in plan.stages for job in stage.jobs for claim in claims(stage.common, job.data_id)]
    assert len(set(names)) == len(names)
    if not plan.problems:
        assert len(names) == sum(_outputs(stage) * len(jobs) for stage, jobs in _jobs(campaign, plan))


def _outputs(stage: Stage) -> int:
    return 1 + sum(len(step.outputs) for step in stage.steps)


def _jobs(campaign: Campaign, plan: CampaignPlan) -> Iterator[tuple[Stage, Sequence[PlannedJob]]]:
    for stage, planned in zip(campaign.pipeline.stages, plan.stages, strict=True):
        assert planned.jobs
        yield stage, planned.jobs
