"""Copies that could not be had: tried last from then on, never lost by a guess, and trusted again when they are had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import insert, select

from nightmill.backbone.catalogue.replicas import replicas
from nightmill.backbone.schema import DoubtRow, FileRow, ReplicaRow, StoreRow
from nightmill.clock import utc_now
from nightmill.model.fate import Fate
from nightmill.model.journal import PassedOver
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from nightmill.operations.wanted import Which
from provenance.doubts import write_doubts
from tests.cli.conftest import Nightmill, nightmill
from tests.operations.nights import asked, opened
from tests.operations.test_bundles import carry_out

__all__ = ["nightmill"]

FRAME = "cam_0001.fits"


@pytest.fixture
def two_stores(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Give a site with three frames, of which an archive has copies; their jobs were carried out once.

    Its parameter, where there is one, is what a read from the backbone costs.
    """
    path = site.config.directory / "nightmill.yaml"
    config = yaml.safe_load(path.read_text())
    config["stores"]["archive"] = {"url": "stores/archive", "verify": "checksum"}
    if cost := getattr(request, "param", None):
        config["stores"]["backbone"]["cost"] = cost
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    (site.config.directory / "stores" / "archive").mkdir()
    site.close()
    (tmp_path / "broken").write_text("x\n")
    with opened(make_site(site.config.directory), tmp_path, tmp_path / "broken") as ready:
        with ready.database.writing() as session:
            archive = session.scalar(select(StoreRow.id).where(StoreRow.name == "archive"))
            for row in session.scalars(select(FileRow).where(FileRow.type == "raw_science")).all():
                copy = {"file_id": row.id, "store_id": archive, "path": row.name, "state": "present"}
                session.execute(insert(ReplicaRow), [{**copy, "verified_at": row.registered_at}])
                (place(ready, "archive", row.name)).write_bytes(stored(ready, row.name).read_bytes())
        yield ready


def place(site: Site, store: str, path: str) -> Path:
    return site.config.directory / "stores" / store / path


def stored(site: Site, name: str) -> Path:
    [path] = place(site, "backbone", "").rglob(name)
    return path


def again(site: Site) -> JobOrder:
    """Run the job of the frame again, and return its order."""
    asked(site, where="exposure == 1", stage="measure", which=Which.WHOLE)
    [order] = carry_out(site, "measure")
    return order


def tried(order: JobOrder) -> list[str]:
    return [copy.store for copy in order.inputs[0].copies]


def doubts(site: Site) -> list[tuple[str, str, str]]:
    """Return the store, the state and the doubt of each copy of the frame."""
    with site.database.reading() as session:
        file_id = session.scalars(select(FileRow.id).where(FileRow.name == FRAME)).one()
        return [(copy.store, copy.state, copy.doubt) for copy in replicas(session, [file_id])[file_id]]


@pytest.mark.req("X30")
def test_a_copy_that_could_not_be_had_is_tried_last_until_it_is_had_again(two_stores: Site) -> None:
    frame = stored(two_stores, FRAME)
    whole = frame.read_bytes()
    assert tried(again(two_stores)) == ["backbone", "archive"]

    frame.write_bytes(whole[:-1])
    assert tried(again(two_stores)) == ["backbone", "archive"]
    [backbone, archive] = doubts(two_stores)
    assert backbone[:2] == ("backbone", "present"), "nothing is lost by a guess"
    assert f"has {len(whole) - 1} bytes in store 'backbone', the catalogue says {len(whole)}" in backbone[2]
    assert archive == ("archive", "present", "")
    assert tried(again(two_stores)) == ["archive", "backbone"]

    frame.write_bytes(whole)
    place(two_stores, "archive", FRAME).unlink()
    assert tried(again(two_stores)) == ["archive", "backbone"]
    [backbone, archive] = doubts(two_stores)
    assert backbone == ("backbone", "present", ""), "it was had again"
    assert "is gone" in archive[2]
    assert tried(again(two_stores)) == ["backbone", "archive"]


@pytest.mark.req("X30")
@pytest.mark.parametrize("two_stores", [2.5], indirect=True)
def test_the_copy_that_costs_least_is_tried_first_unless_it_is_doubted(two_stores: Site, nightmill: Nightmill) -> None:
    def shown() -> list[str]:
        told = nightmill("show", FRAME, "--site", two_stores.config.directory).out
        return [line.split(maxsplit=1)[1] for line in told.splitlines() if line.startswith("copy ")]

    assert tried(again(two_stores)) == ["archive", "backbone"]
    near, far = shown()
    assert near == f"archive: {FRAME} (present, cost 0)"
    assert far.startswith("backbone: ")
    assert far.endswith(" (present, cost 2.5)")
    place(two_stores, "archive", FRAME).unlink()
    again(two_stores)
    assert tried(again(two_stores)) == ["backbone", "archive"]
    doubted, near = reversed(shown())
    assert near.endswith("(present, cost 2.5)")
    assert doubted.startswith(f"archive: {FRAME} (present, cost 0; tried last in vain: input frame ")


def test_where_no_copy_can_be_had_all_are_doubted_and_tried_all_the_same(two_stores: Site) -> None:
    frame = stored(two_stores, FRAME)
    whole = frame.read_bytes()
    frame.unlink()
    place(two_stores, "archive", FRAME).write_bytes(whole[::-1])
    again(two_stores)
    assert ["checksum" in doubts(two_stores)[1][2], "is gone" in doubts(two_stores)[0][2]] == [True, True]
    with two_stores.database.reading() as session:
        assert session.scalars(select(DoubtRow.fate).order_by(DoubtRow.id)).all() == [
            Fate.INPUT_MISSING,
            Fate.INPUT_CORRUPT,
        ]
    place(two_stores, "archive", FRAME).write_bytes(whole)
    assert tried(again(two_stores)) == ["backbone", "archive"]
    assert [doubt != "" for _store, _state, doubt in doubts(two_stores)] == [True, False]


def test_a_journal_may_doubt_no_copy_but_those_of_its_order(two_stores: Site) -> None:
    order = again(two_stores)
    told = tuple(PassedOver(name=name, store="archive", why="w") for name in ("cam_0002.fits", FRAME))
    report = JobReport(
        attempt=order.attempt,
        order=order,
        state=AttemptState.FAILED,
        host="h",
        began_at=utc_now(),
        ended_at=utc_now(),
        passed_over=told,
    )
    for _ in range(2):
        with two_stores.database.writing() as session:
            write_doubts(session, [report], {order.attempt: 1})
    with two_stores.database.reading() as session:
        rows = select(FileRow.name, DoubtRow.fate).join(ReplicaRow, ReplicaRow.file_id == FileRow.id).join(DoubtRow)
        assert session.execute(rows).tuples().all() == [(FRAME, Fate.STORE_ERROR)]
