from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, func, select, text, update

from nightmill.backbone.catalogue import files as catalogue
from nightmill.backbone.catalogue import registration
from nightmill.backbone.catalogue.replicas import replicas
from nightmill.backbone.catalogue.stores import store_ids
from nightmill.backbone.database import Database
from nightmill.backbone.schema import FileRow, ReplicaRow, StoreRow
from nightmill.backbone.sites import this_site
from nightmill.errors import NameTaken, RequestRefused, UnknownName
from nightmill.expressions import parse
from nightmill.model.origin import Origin
from nightmill.model.store import Store
from tests.backbone.files import NOW, STORES, add_files, new_file


@pytest.mark.req("B19")
def test_registering_writes_files_and_copies_in_the_order_given(database: Database) -> None:
    names = [f"frame_{(number * 7919) % 3000:04d}.fits" for number in range(3000)]
    with database.writing() as session:
        ids = add_files(
            session,
            [
                new_file(name, data_id={"detector": 3, "night": 20260110}, metadata={"object": "M 67", "airmass": 1.2})
                for name in names
            ],
        )
    with database.reading() as session:
        rows = {id_: name for id_, name in session.execute(select(FileRow.id, FileRow.name))}
        assert [rows[id_] for id_ in ids] == names
        row = session.get_one(FileRow, ids[5])
        assert (row.detector, row.night, row.attributes) == (3, 20260110, {"object": "M 67", "airmass": 1.2})
        assert (row.registered_by, row.registered_at) == ("ada", NOW)
        [copy] = replicas(session, [ids[5]])[ids[5]]
        assert (copy.store, copy.path, copy.state) == ("backbone", f"raw/{names[5]}", "present")


@pytest.mark.req("B08")
def test_taken_names_are_all_listed_and_nothing_is_registered(database: Database) -> None:
    with database.writing() as session:
        add_files(session, [new_file("a.fits"), new_file("b.fits")])
    again = [new_file("a.fits"), new_file("b.fits", sha256="0" * 64), new_file("c.fits"), new_file("c.fits")]
    with pytest.raises(NameTaken) as caught, database.writing() as session:
        add_files(session, again)
    assert str(caught.value) == (
        "3 names are taken, and names are unique for ever\n"
        "  - a.fits: registered already, with the same bytes\n"
        "  - b.fits: registered already, with other bytes\n"
        "  - c.fits: registered already, with other bytes"
    )
    assert (caught.value.same, caught.value.other) == (("a.fits",), ("b.fits", "c.fits"))
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(FileRow)) == 2


def test_the_end_of_a_name_tells_how_a_file_is_compressed(database: Database) -> None:
    names = {"a.fits": "", "a.fits.fz": "fz", "a.fits.gz": "gz", "a.FITS.BZ2": "bz2", "gz": "", "a.fits.z": ""}
    with database.writing() as session:
        add_files(session, [new_file(name) for name in names])
        rows = session.scalars(select(FileRow))
        assert {row.name: row.compression for row in rows} == names


@pytest.mark.req("B08")
def test_a_race_for_a_name_ends_in_the_same_message(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process registers the name after the look and before the insertion."""
    look = registration._refuse_taken
    looks: list[None] = []

    def look_too_early(*arguments: object) -> None:
        looks.append(None)
        if len(looks) > 1:
            look(*arguments)  # type: ignore[arg-type]

    with database.writing() as session:
        add_files(session, [new_file("a.fits")])
    monkeypatch.setattr(registration, "_refuse_taken", look_too_early)
    with (
        pytest.raises(NameTaken, match=r"a\.fits: registered already, with the same bytes"),
        database.writing() as session,
    ):
        add_files(session, [new_file("b.fits"), new_file("a.fits")])
    with database.reading() as session:
        assert catalogue.names_taken(session, ["a.fits", "b.fits"]) == {"a.fits"}


def test_one_place_holds_one_file(database: Database) -> None:
    with database.writing() as session:
        add_files(session, [new_file("a.fits", path="raw/x.fits")])
    with (
        pytest.raises(
            RequestRefused, match=r"b\.fits cannot be registered at raw/x\.fits: a\.fits is registered there"
        ),
        database.writing() as session,
    ):
        add_files(session, [new_file("b.fits", path="raw/x.fits")])


def test_an_unknown_store_is_named_with_a_guess(database: Database) -> None:
    with (
        pytest.raises(UnknownName, match=r"'bakbone' \(did you mean 'backbone'\?\).*nightmill init"),
        database.writing() as session,
    ):
        add_files(session, [new_file("a.fits", store="bakbone")])


def test_what_is_no_dimension_cannot_be_lost_in_silence(database: Database) -> None:
    with pytest.raises(ValueError, match="no dimensions of a file: colour"), database.writing() as session:
        add_files(session, [new_file("a.fits", data_id={"colour": "red"})])


@pytest.mark.req("B36")
def test_a_file_that_is_not_kept_has_a_row_and_no_copy(database: Database) -> None:
    with database.writing() as session:
        [id_] = add_files(session, [new_file("a.fits", store=None, path=None, metadata={"object": "M 67"})])
        assert session.get_one(FileRow, id_).attributes == {"object": "M 67"}
        assert replicas(session, [id_]) == {}
        assert session.scalar(select(func.count()).select_from(ReplicaRow)) == 0


def test_stores_are_inserted_once_and_follow_the_configuration(database: Database) -> None:
    area = Store(name="quicklook", url="areas/quicklook", catalogued=False)
    with database.writing() as session:
        first = store_ids(session, {**STORES, "quicklook": area})
    with database.writing() as session:
        moved = {"backbone": Store(name="backbone", url="/new"), "tape": Store(name="tape", url="/t", kind="tape")}
        second = store_ids(session, moved)
    assert set(first) == {"backbone"}
    assert second["backbone"] == first["backbone"]
    with database.reading() as session:
        stores = session.scalars(select(StoreRow).order_by(StoreRow.id))
        assert [(store.name, store.url, store.kind) for store in stores] == [
            ("backbone", "/new", "disk"),
            ("tape", "/t", "tape"),
        ]


def test_find_filters_and_keeps_the_order_of_registration(database: Database) -> None:
    with database.writing() as session:
        add_files(
            session,
            [
                new_file("c.fits", data_id={"night": 20260110, "detector": 1}),
                new_file("b.fits", data_id={"night": 20260110, "detector": 2}, type="raw_bias"),
                new_file("a.fits", data_id={"night": 20260110, "detector": 2}),
                new_file("m.fits", origin=Origin.MANUAL, provenance="from the old camera"),
            ],
        )
    with database.reading() as session:

        def names(**options: object) -> list[str]:
            return [row.name for row in catalogue.find(session, **options)]  # type: ignore[arg-type]

        assert names() == ["c.fits", "b.fits", "a.fits", "m.fits"]
        assert names(limit=2) == ["c.fits", "b.fits"]
        assert names(types=["raw_science"]) == ["c.fits", "a.fits", "m.fits"]
        assert names(origins=[Origin.MANUAL]) == ["m.fits"]
        assert names(where=parse("night == 20260110 and detector > 1"), types=["raw_science"]) == ["a.fits"]


def test_a_plan_gets_its_files_by_one_query(database: Database) -> None:
    begins_at = datetime(2026, 1, 11, 1, 2, 3, 500_000, tzinfo=UTC)
    with database.writing() as session:
        ids = add_files(
            session,
            [
                new_file(
                    f"{number}.fits",
                    data_id={"exposure": number, "detector": number % 2},
                    begins_at=begins_at,
                    metadata={"exposure_seconds": float(number)},
                )
                for number in range(100)
            ]
            + [new_file("not_kept.fits", store=None, path=None)],
        )
    queries: list[str] = []
    with database.reading() as session:
        this_site(session)  # as an opened site knows it
        event.listen(database.engine, "before_cursor_execute", lambda *event: queries.append(event[2]))
        found = list(
            catalogue.found_files(
                session,
                catalogue.selected(
                    session,
                    type="raw_science",
                    where=[parse("detector == 1"), parse("exposure_seconds < 50")],
                    watermark=ids[40],
                ),
            )
        )
        assert len([query for query in queries if query.startswith("SELECT")]) == 1
    assert [file.data_id["exposure"] for file in found] == list(range(1, 41, 2))
    first = found[0]
    assert (first.id, first.name, first.size_bytes, first.begins_at) == (ids[1], "1.fits", 20_000, begins_at)
    assert (first.store, first.path, first.metadata) == ("backbone", "raw/1.fits", {"exposure_seconds": 1.0})


def test_two_that_find_a_store_missing_at_the_same_moment_agree(postgres_url: str) -> None:
    first, second = Database(postgres_url), Database(postgres_url)
    first.create()
    waiting = select(func.count()).select_from(text("pg_stat_activity")).where(text("wait_event_type = 'Lock'"))
    with ThreadPoolExecutor(1) as pool, second.reading() as watching:
        with first.writing() as session:
            ids = store_ids(session, STORES)
            other = pool.submit(second.write, lambda session: store_ids(session, STORES))
            while not watching.scalar(waiting) and not other.done():
                watching.rollback()
        assert other.result() == ids
    first.close()
    second.close()


def test_a_value_that_the_code_does_not_know_is_refused_and_told(database: Database) -> None:
    with database.writing() as session:
        add_files(session, [new_file("a.fits")])
    with database.writing() as session, pytest.raises(RequestRefused) as refused:
        session.execute(update(ReplicaRow).values(state="vanished"))
    assert "'vanished' is not a known replica state: there is present, missing, corrupt" in str(refused.value)
    with database.writing() as session:
        session.execute(text("UPDATE replica SET state = 'vanished'"))
    with database.reading() as session, pytest.raises(RequestRefused, match="a newer nightmill may have written it"):
        session.scalars(select(ReplicaRow)).one()


def test_who_reads_sees_one_state_however_often_he_asks(database: Database) -> None:
    count = select(func.count()).select_from(FileRow)
    with database.reading() as session:
        assert session.scalar(count) == 0
        with database.writing() as other:
            add_files(other, [new_file("a.fits")])
        assert session.scalar(count) == 0
    with database.reading() as session:
        assert session.scalar(count) == 1
