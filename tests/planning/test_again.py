"""Orders that were issued are had again, the same to the byte: whatever became of copies, stores and later releases."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import select, update

from nightmill.backbone.catalogue.stores import store_ids
from nightmill.backbone.schema import AttemptRow, FileRow, JobRow, ReplicaRow, StoreRow
from nightmill.backbone.work.slices import find_slice
from nightmill.errors import OrderChanged
from nightmill.model.order import canonical
from nightmill.model.store import Store
from nightmill.planning.again import issued_order, issued_orders
from nightmill.planning.issue import issue
from tests.planning.world import NIGHT, World, make_campaign, use_set

EXPOSURES = 250
ROUNDS = 4
STORES = {  # beside the backbone
    "archive": Store(name="archive", url="/archive"),
    "tape": Store(name="tape", url="/tape"),
}


def begin(world: World, exposures: int) -> None:
    """Seal a campaign of a job an exposure, each with a bias."""
    world.more_stores = STORES
    world.add_raw("raw_science", range(1, exposures + 1), [1])
    world.add_calibration("bias_1.fits", detector=1)
    world.seal(make_campaign(use_set("ccd")), "science")


def add_copies(world: World, store: str, share: float, chance: random.Random) -> None:
    """Register a copy of a share of all files in another store."""
    with world.database.writing() as session:
        ids = store_ids(session, world.site.stores)
        there = set(session.scalars(select(ReplicaRow.file_id).where(ReplicaRow.store_id == ids[store])))
        for file in session.scalars(select(FileRow)):
            if file.id not in there and chance.random() < share:
                session.add(
                    ReplicaRow(file_id=file.id, store_id=ids[store], path=f"{store}/{file.name}", verified_at=NIGHT)
                )


def lose(world: World, share: float, chance: random.Random) -> None:
    """Lose a share of all copies; some come back."""
    with world.database.writing() as session:
        for copy in session.scalars(select(ReplicaRow)):
            if chance.random() < share:
                copy.state = chance.choice(["missing", "corrupt", "present"])


def move(world: World, store: str) -> None:
    with world.database.writing() as session:
        session.execute(update(StoreRow).where(StoreRow.name == store).values(url=f"/elsewhere/{store}"))


def test_a_thousand_attempts_are_had_again_after_all_that_can_become_of_copies(world: World) -> None:
    chance = random.Random(11)
    begin(world, EXPOSURES)
    issued = {}
    for _ in range(ROUNDS):
        add_copies(world, chance.choice(["archive", "tape"]), 0.4, chance)
        lose(world, 0.3, chance)
        for order in world.issue("science"):
            issued[str(order.attempt)] = canonical(order)
            world.end(order, published=False)
        move(world, chance.choice(["backbone", *STORES]))
    assert len(issued) == EXPOSURES * ROUNDS
    with world.database.reading() as session:
        ids = list(session.scalars(select(AttemptRow.id)))
        again = {str(order.attempt): canonical(order) for order in issued_orders(session, ids)}
        kept = session.scalars(select(AttemptRow.copies)).all()
    assert again == issued
    assert any(kept)
    assert not all(kept), "nothing is kept where there is nothing to say"


def test_a_job_is_given_the_copies_that_are_there_in_the_order_of_the_stores(world: World) -> None:
    begin(world, 1)
    [order] = world.issue("science")
    assert {copy.store for file in order.inputs for copy in file.copies} == {"backbone"}
    world.end(order, published=False)
    add_copies(world, "archive", 1.0, random.Random(1))
    [order] = world.issue("science")
    assert {tuple(copy.store for copy in file.copies) for file in order.inputs} == {("backbone", "archive")}
    assert {"backbone", "archive"} <= order.stores.keys()
    world.end(order, published=False)
    with world.database.writing() as session:
        session.execute(update(ReplicaRow).where(ReplicaRow.path.not_like("archive/%")).values(state="missing"))
    [order] = world.issue("science")
    assert {tuple(copy.store for copy in file.copies) for file in order.inputs} == {("archive",)}


def test_a_row_that_was_changed_by_hand_is_an_error_that_names_the_attempt(world: World) -> None:
    begin(world, 1)
    [order] = world.issue("science")
    with world.database.writing() as session:
        session.execute(update(FileRow).values(sha256="0" * 64))
    key = order.attempt
    with (
        world.database.reading() as session,
        pytest.raises(
            OrderChanged, match=r"the order of attempt night1/science/.*/a01 cannot be had again: it was"
        ) as told,
    ):
        issued_order(session, key.campaign, key.stage, key.unit)
    assert told.value.remedy.startswith("its journal in spool/recorded has it as it was")


def test_an_order_that_asks_for_more_memory_than_its_stage_is_had_again(world: World) -> None:
    world.more_stores = STORES
    world.add_raw("raw_science", range(1, 5), [1])
    world.add_calibration("bias_1.fits", detector=1)
    world.seal(make_campaign({**use_set("ccd"), "resources": {"memory_bytes": 1000}}), "science")
    with world.database.writing() as session:
        for job, wanted in zip(
            session.scalars(select(JobRow).order_by(JobRow.id)), (None, 10, 4000, 9000), strict=True
        ):
            job.memory_bytes = wanted
    with world.database.writing() as session:
        slice_id = find_slice(session, "night1", "science", 0).slice_id
        orders = issue(session, slice_id=slice_id, lease_id=None, now=NIGHT, limit=9, most_memory_bytes=5000)
    assert [order.resources.memory_bytes for order in orders] == [1000, 1000, 4000, 5000]
    with world.database.reading() as session:
        kept = session.scalars(select(AttemptRow.memory_bytes).order_by(AttemptRow.id)).all()
        again = list(issued_orders(session, list(session.scalars(select(AttemptRow.id)))))
    assert kept == [None, None, 4000, 5000]
    assert [canonical(order) for order in again] == [canonical(order) for order in orders]
