"""A plan holds a bounded part of its jobs in memory, and is the same however small that part is."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightmill.errors import RequestRefused
from nightmill.planning import jobs as jobs_module
from nightmill.planning import outputs
from nightmill.planning.jobs import Jobs
from nightmill.planning.planned import CampaignPlan
from nightmill.planning.sealed import Choice, PlannedJob, Restart, sealed_stages
from tests.planning.test_seal import rows
from tests.planning.world import NIGHT, SCIENCE, World, file_types, found, make_campaign


def planned(count: int) -> list[PlannedJob]:
    bias = found(1_000_000)._replace(excluded=("amplifier 3",))
    restart = Restart(attempt=1, only=("detect",), files=())
    jobs = [
        PlannedJob(
            f"exposure={n}",
            {"exposure": n},
            NIGHT,
            None,
            (Choice("raw", 0, (found(n), bias)),),
            n,
            variant=n % 3,
            restart=restart if n % 2 else None,
        )
        for n in range(count)
    ]
    assert {*PlannedJob._field_defaults} == {"number", "variant", "restart"}, (
        "each field has another value than its default"
    )
    return jobs


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three jobs be a block, and one block be all that memory holds."""
    monkeypatch.setattr(jobs_module, "BLOCK", 3)
    monkeypatch.setattr(jobs_module, "HELD", 1)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9, 11])
@pytest.mark.usefixtures("small_blocks")
def test_jobs_are_a_sequence_however_many_blocks_they_fill(count: int) -> None:
    of_all = planned(count)
    jobs = Jobs(iter(of_all))
    assert (len(jobs), list(jobs), list(jobs)) == (count, of_all, of_all)
    assert [jobs[place] for place in range(-count, count)] == of_all * 2
    assert jobs[1:8:2] == tuple(of_all[1:8:2])
    with pytest.raises(IndexError):
        jobs[count]


@pytest.mark.usefixtures("small_blocks")
def test_jobs_are_read_by_many_threads_at_once() -> None:
    of_all = planned(50)
    jobs = Jobs(of_all)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda number: list(jobs) if number % 2 else jobs[:], range(12)))
    assert all(list(each) == of_all for each in read)


@pytest.mark.usefixtures("small_blocks")
def test_the_file_of_jobs_has_no_name_and_ends_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def open_files() -> list[str]:
        links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if os.path.lexists(entry)]  # noqa: PTH115 - deleted
        return [link for link in links if link.startswith(str(tmp_path))]

    jobs = Jobs(planned(7))
    assert (list(tmp_path.iterdir()), len(open_files())) == ([], 1)
    del jobs
    gc.collect()
    assert open_files() == []


@pytest.mark.usefixtures("small_blocks")
def test_a_full_disk_refuses_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RequestRefused, match="temporary files cannot hold the plan: No space left on device") as caught:
        Jobs(planned(6))
    assert "TMPDIR" in caught.value.remedy


SECOND = {
    "name": "second",
    "per": ["exposure", "detector"],
    "inputs": {"image": {"type": "image", "source": {"stage": "science"}}},
    "steps": [{"name": "s", "argv": ["s"], "outputs": {"catalog": {"type": "second"}}}],
}
STACKED = {
    "name": "stacked",
    "per": ["instrument", "detector"],
    "inputs": {"image": {"type": "image", "source": {"stage": "science"}, "max": None}},
    "steps": [{"name": "s", "argv": ["s"], "outputs": {"bias": {"type": "master_bias"}}}],
}


def same_in_small_blocks(monkeypatch: pytest.MonkeyPatch, plan: Callable[[], CampaignPlan]) -> CampaignPlan:
    """Plan at once and in blocks of three, and compare the two."""
    whole = plan()
    monkeypatch.setattr(jobs_module, "BLOCK", 3)
    monkeypatch.setattr(jobs_module, "HELD", 1)
    streamed = plan()
    assert streamed.problems == whole.problems
    for one, other in zip(streamed.stages, whole.stages, strict=True):
        assert (one.common, one.problems, one.waiting) == (other.common, other.problems, other.waiting)
        assert list(one.jobs) == list(other.jobs)
    return streamed


def test_a_campaign_of_many_blocks_is_planned_as_one_of_a_single_block(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_raw("raw_science", range(1, 8), [2, 1])
    for detector in (1, 2):
        world.add_calibration(f"bias{detector}.fits", detector=detector)
    world.types = file_types(second="{exposure:06d}_{detector:02d}_second_c{campaign:04d}a{attempt:02d}.fits")
    plan = same_in_small_blocks(monkeypatch, lambda: world.plan(make_campaign(SCIENCE, SECOND, STACKED)))
    assert not plan.problems
    assert [len(stage.jobs) for stage in plan.stages] == [14, 14, 2]
    assert [job.unit for job in plan.stages[2].jobs] == [
        "instrument=nmcam,detector=1",
        "instrument=nmcam,detector=2",
    ]
    assert [len(job.choices[0].files) for job in plan.stages[2].jobs] == [7, 7]


@pytest.mark.parametrize("few", [0, 1000])
def test_a_name_in_one_block_is_held_against_all_others(
    small_world: World, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(outputs, "FEW", few)
    small_world.add_raw("raw_science", range(1, 8), [1])
    small_world.add_calibration("bias1.fits", detector=1)
    small_world.types = file_types(image="{detector}_c{campaign}a{attempt}.fits")
    plan = same_in_small_blocks(monkeypatch, lambda: small_world.plan(make_campaign(SCIENCE)))
    assert [problem.partition(":")[0] for problem in plan.problems] == ["stage 'science'"]
    assert "lacks {exposure}: it cannot tell units apart: 6 names" in plan.problems[0]
    assert [job.unit for job in plan.stages[0].jobs] == ["exposure=1,detector=1"]  # which holds the name


def test_a_plan_of_many_blocks_is_sealed_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "BLOCK", 3)
    monkeypatch.setattr(jobs_module, "HELD", 1)
    world.add_raw("raw_science", range(1, 5), [1, 2])
    for detector in (1, 2):
        world.add_calibration(f"bias{detector}.fits", detector=detector)
    campaign = make_campaign(SCIENCE, execution={"jobs_per_slice": 2})
    sealed = world.seal(campaign, "science")
    assert (sealed.jobs, sealed.slices, sealed.revision) == (8, (0, 1, 2, 3), 1)
    world.add_raw("raw_science", [0, 9], [1, 2])
    again = world.seal(campaign, "science")
    assert (again.jobs, again.slices, again.revision, again.stale) == (4, (4, 5), 2, 0)
    with world.database.reading() as session:
        plans = list(sealed_stages(session, 1))
    assert [job.number for plan in plans for job in plan.jobs] == list(range(12))
    assert [len(plan.jobs) for plan in plans] == [8, 4]
    assert len(rows(world, "science")) == 12


def test_the_digest_of_a_plan_does_not_depend_on_its_blocks(
    small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_world.add_raw("raw_science", range(1, 8), [1])
    small_world.add_calibration("bias1.fits", detector=1)
    digests = list(_digests(small_world, monkeypatch))
    assert len(digests) == 2
    assert digests[0] == digests[1] != ""


def _digests(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from sqlalchemy import delete, select

    from nightmill.backbone.schema import JobRow, PlanRow, SliceRow

    campaign = make_campaign(SCIENCE)
    for size in (5000, 3):
        monkeypatch.setattr(jobs_module, "BLOCK", size)
        monkeypatch.setattr(jobs_module, "HELD", 1)
        world.seal(campaign, "science")
        with world.database.reading() as session:
            yield session.scalars(select(PlanRow.sha256)).one()
        for row in (JobRow, SliceRow, PlanRow):
            world.database.write(lambda session, row=row: session.execute(delete(row)))  # type: ignore[misc]
