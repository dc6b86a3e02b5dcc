from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, event, func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, FileRow, JobRow, PlannedInputRow, PlanRow, ReplicaRow
from nightmill.backbone.work.leases import holders
from nightmill.backbone.work.slices import find_slice
from nightmill.config.campaign import load_campaign
from nightmill.errors import RequestRefused
from nightmill.model.order import order_sha256
from nightmill.model.states import AttemptState, JobState
from nightmill.planning.issue import issue
from tests.planning.world import BIAS, NIGHT, SCIENCE, World, make_campaign, write_campaign
from tests.support.backbone import take_lease

OVERRIDES = """\
overrides:
  stages: {science: {inputs: {bias: {lookup: {strategy: valid}}}}}
"""


def sealed(world: World, units: int = 4) -> None:
    """Fill the world and seal a science stage of so many units, two a slice."""
    world.add_raw("raw_science", range(units), [1])
    world.add_calibration("bias1.fits", detector=1)
    world.seal(make_campaign(SCIENCE, execution={"jobs_per_slice": 2}), "science")


def test_orders_come_in_the_order_of_the_plan_with_rows_before_anything_runs(world: World) -> None:
    sealed(world)
    orders = world.issue("science")
    assert [str(order.attempt) for order in orders] == [
        "night1/science/exposure=0,detector=1/a01",
        "night1/science/exposure=1,detector=1/a01",
    ]
    with world.database.reading() as session:
        attempts = session.scalars(select(AttemptRow).order_by(AttemptRow.id)).all()
        states = session.execute(select(JobRow.state, JobRow.attempts).order_by(JobRow.id)).all()
        plan = session.scalars(select(PlanRow.sha256)).one()
    assert [attempt.order_sha256 for attempt in attempts] == [order_sha256(order) for order in orders]
    assert {attempt.state for attempt in attempts} == {AttemptState.ISSUED.value}
    assert [tuple(row) for row in states] == [("active", 1), ("active", 1), ("planned", 0), ("planned", 0)]
    assert {order.plan_sha256 for order in orders} == {plan}


def test_a_job_is_never_issued_twice_at_a_time(world: World) -> None:
    sealed(world)
    (first,) = world.issue("science", limit=1)
    (second,) = world.issue("science", limit=5)
    assert first.attempt.unit != second.attempt.unit
    assert world.issue("science") == []


def test_a_lease_is_held_on_the_slices_that_have_open_attempts_under_it(world: World) -> None:
    sealed(world)

    def take(session: Session) -> tuple[int, list[int]]:
        ids = [find_slice(session, "night1", "science", number).slice_id for number in (0, 1)]
        lease = take_lease(session)
        issue(session, slice_id=ids[0], lease_id=lease, now=NIGHT, limit=1)
        return lease, ids

    lease, ids = world.database.write(take)
    with world.database.reading() as session:
        assert [list(holders(session, slice_id=number)) for number in ids] == [[lease], []]
        assert list(holders(session)) == [lease]


def test_two_that_issue_at_a_time_never_get_the_same_job(world: World) -> None:
    world.add_raw("raw_science", range(60), [1])
    world.add_calibration("bias1.fits", detector=1)
    world.seal(make_campaign(SCIENCE), "science")
    with ThreadPoolExecutor(4) as pool:
        issued = list(pool.map(lambda _: world.issue("science", limit=5), range(12)))
    units = [order.attempt.unit for orders in issued for order in orders]
    assert len(units) == len(set(units)) == 60


@pytest.mark.req("B18")
def test_what_failed_is_issued_again_with_the_next_number_and_the_same_inputs(world: World) -> None:
    sealed(world)
    first, second = world.issue("science")
    world.end(first, published=False)
    world.end(second)
    world.add_calibration("better.fits", detector=1)
    (again,) = world.issue("science")
    assert str(again.attempt) == "night1/science/exposure=0,detector=1/a02"
    assert again.inputs == first.inputs
    names = [{name for step in order.steps for out in step.outputs for name in out.names} for order in (first, again)]
    assert names[0].isdisjoint(names[1])
    with world.database.reading() as session:
        attempts = session.execute(select(AttemptRow.number, AttemptRow.state).where(AttemptRow.job_id == 1)).all()
    assert sorted(tuple(row) for row in attempts) == [(1, "failed"), (2, "issued")]


def test_units_to_leave_alone_and_jobs_that_are_not_open(world: World) -> None:
    sealed(world)
    assert [order.attempt.unit for order in world.issue("science", skip=["exposure=0,detector=1"])] == [
        "exposure=1,detector=1"
    ]
    for state in (JobState.HELD, JobState.CANCELLED, JobState.DONE):
        set_states(world, state)
        assert world.issue("science") == []
    set_states(world, JobState.READY)
    assert len(world.issue("science", skip=["exposure=0,detector=1"])) == 2, "somebody asked for another attempt"


def set_states(world: World, state: JobState) -> None:
    """Put every job into a state."""
    world.database.write(lambda session: session.execute(update(JobRow).values(state=state.value)))


def test_jobs_that_were_never_tried_come_first(world: World) -> None:
    sealed(world)
    (first,) = world.issue("science", limit=1)
    world.end(first, published=False)
    assert [order.attempt.number for order in world.issue("science")] == [1, 2]


def test_the_number_of_statements_does_not_depend_on_the_number_of_jobs(small_world: World) -> None:
    small_world.add_raw("raw_science", range(300), [1])
    small_world.add_calibration("bias1.fits", detector=1)
    small_world.seal(make_campaign(SCIENCE), "science")
    count = 0

    def seen(*_: object) -> None:
        nonlocal count
        count += 1

    event.listen(small_world.database.engine, "before_cursor_execute", seen)
    assert len(small_world.issue("science", limit=5)) == 5
    few, count = count, 0
    assert len(small_world.issue("science", limit=200)) == 200
    assert count == few


@pytest.mark.req("B13")
@pytest.mark.parametrize(
    ("settings", "rule", "origin"),
    [
        ([], "valid in set ccd: 2025-12-11 to 2026-02-09, the latest added", "campaign (FOLDER/campaign.yaml:5)"),
        (
            ["pipeline.stages.science.inputs.bias.lookup.strategy=nearest"],
            "nearest in set ccd: at the same time, the only candidate",
            "command line",
        ),
    ],
)
def test_each_input_is_on_record_with_its_rule_and_the_layer_that_set_it(
    world: World, tmp_path: Path, settings: list[str], rule: str, origin: str
) -> None:
    path = write_campaign(tmp_path, OVERRIDES)
    world.add_raw("raw_science", [0], [1])
    world.add_calibration("bias1.fits", detector=1, at=NIGHT + timedelta(seconds=30))
    world.seal(load_campaign(path, settings), "science")
    world.issue("science")
    query = select(
        PlannedInputRow.step, PlannedInputRow.role, FileRow.name, PlannedInputRow.rule, PlannedInputRow.origin
    ).join(FileRow, FileRow.id == PlannedInputRow.file_id)
    with world.database.reading() as session:
        planned = [tuple(row) for row in session.execute(query.order_by(FileRow.id))]
    assert planned == [
        (
            "reduce",
            "raw",
            "raw_science_000000_01.fits",
            "raw or manual, where night == 20260110; its files make the units",
            f"campaign ({tmp_path}/campaign.yaml:3)",
        ),
        ("reduce", "bias", "bias1.fits", rule, origin.replace("FOLDER", str(tmp_path))),
    ]


def test_only_steps_that_read_an_input_are_on_record_with_it(world: World) -> None:
    sealed(world, units=1)
    world.issue("science")
    with world.database.reading() as session:
        planned = session.execute(select(PlannedInputRow.step, PlannedInputRow.role)).all()
    assert sorted(tuple(row) for row in planned) == [("reduce", "bias"), ("reduce", "raw")]


def test_a_copy_that_was_lost_is_left_for_the_job_to_find_out(world: World) -> None:
    sealed(world, units=1)
    world.database.write(lambda session: session.execute(update(ReplicaRow).values(state="missing")))
    (order,) = world.issue("science")
    assert [file.path for file in order.inputs] == [
        "raw/raw_science_000000_01.fits",
        "manual/master_bias/bias1.fits",
    ]


def test_an_input_that_no_store_ever_had_is_refused_and_nothing_is_issued(world: World) -> None:
    sealed(world, units=1)
    world.database.write(lambda session: session.execute(delete(ReplicaRow)))
    with pytest.raises(
        RequestRefused, match=r"_01.fits is an input of a job that is to be issued, and no store of this site has"
    ):
        world.issue("science")
    with world.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(AttemptRow)) == 0


def test_an_order_of_a_unit_of_several_files(world: World) -> None:
    world.add_raw("raw_bias", [1, 2], [1])
    world.seal(make_campaign(BIAS), "bias")
    (order,) = world.issue("bias")
    (output,) = order.steps[0].outputs
    assert order.steps[0].argv == (
        "{python}",
        "/pipelines/ccd/bias.py",
        "--output",
        "nmcam_01_bias_c0001a01.fits",
        "../inputs/raw_bias_000001_01.fits",
        "../inputs/raw_bias_000002_01.fits",
    )
    assert (output.valid_from, output.valid_until) == ("2026-01-09T20:01:00+00:00", "2026-02-09T20:03:00+00:00")
