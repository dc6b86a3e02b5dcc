from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from nightmill.backbone.audit import record_act
from nightmill.backbone.catalogue import calibrations
from nightmill.backbone.database import Database
from nightmill.backbone.schema import AuditRow, CalibrationRow
from nightmill.backbone.sites import this_site
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.calibration import Maturity
from tests.backbone.files import NOW, add_files, new_file

FROM = datetime(2026, 1, 10, tzinfo=UTC)
UNTIL = datetime(2026, 2, 10, tzinfo=UTC)


@pytest.fixture
def sets(database: Database) -> Database:
    """Give a backbone with two calibrations in one set and one of them in another."""
    with database.writing() as session:
        own = datetime(2025, 12, 24, tzinfo=UTC)
        add_files(
            session,
            [new_file(name, type="master_bias", begins_at=own) for name in ("bias_1.fits", "bias_2.fits")]
            + [new_file("flat_1.fits", type="master_flat"), new_file("gone.fits", type="master_bias", store=None)],
        )
        _add(session, ["bias_1.fits", "bias_2.fits", "flat_1.fits"], "ccd")
        _add(session, ["bias_1.fits"], "other", Maturity.CERTIFIED)
    return database


def _add(session: Session, names: list[str], set_name: str, maturity: Maturity = Maturity.DRAFT) -> None:
    calibrations.add(
        session, names, set_name, valid_from=FROM, valid_until=UNTIL, maturity=maturity, who="ada", why="new", now=NOW
    )


def test_a_role_is_apart_from_the_files_own_times(sets: Database) -> None:
    with sets.reading() as session:
        first, second = calibrations.current(session, ["ccd"], "master_bias")
    assert (first.file.name, second.file.name) == ("bias_1.fits", "bias_2.fits")
    assert (first.valid_from, first.valid_until, first.maturity) == (FROM, UNTIL, Maturity.DRAFT)
    assert first.file.begins_at == datetime(2025, 12, 24, tzinfo=UTC)
    assert (first.file.store, first.file.path) == ("backbone", "raw/bias_1.fits")


def test_a_range_may_be_one_instant(sets: Database) -> None:
    with sets.writing() as session:
        calibrations.add(
            session, ["bias_2.fits"], "one", valid_from=FROM, valid_until=FROM, who="ada", why="-", now=NOW
        )
    with sets.reading() as session:
        [role] = calibrations.current(session, ["one"])
    assert role.valid_from == role.valid_until == FROM


def test_roles_are_appended_and_the_latest_holds(sets: Database) -> None:
    with sets.writing() as session:
        names = ["bias_1.fits", "bias_2.fits"]
        assert calibrations.certify(session, names, "ccd", who="eve", why="looks flat", now=NOW) == names
        assert calibrations.certify(session, names, "ccd", who="eve", why="again", now=NOW) == []
        assert calibrations.withdraw(session, ["bias_2.fits"], "ccd", who="eve", why="light leak", now=NOW) == [
            "bias_2.fits"
        ]
    with sets.reading() as session:
        held = {(role.set_name, role.file.name): role for role in calibrations.current(session)}
        assert {key: role.maturity.value for key, role in held.items()} == {
            ("ccd", "bias_1.fits"): "certified",
            ("ccd", "bias_2.fits"): "withdrawn",
            ("ccd", "flat_1.fits"): "draft",
            ("other", "bias_1.fits"): "certified",
        }
        withdrawn = held["ccd", "bias_2.fits"]
        assert (withdrawn.valid_from, withdrawn.who, withdrawn.why) == (FROM, "eve", "light leak")
        past = calibrations.history(session, withdrawn.file.id)
        assert [row.maturity for row in past] == ["draft", "certified", "withdrawn"]


def test_looking_up_roles_is_one_query(sets: Database) -> None:
    queries: list[str] = []
    with sets.reading() as session:
        this_site(session)
        event.listen(sets.engine, "before_cursor_execute", lambda *event: queries.append(event[2]))
        assert len(calibrations.current(session, ["ccd", "other"])) == 4
    assert len([query for query in queries if query.startswith("SELECT")]) == 1


def test_mistakes_are_named_and_nothing_is_written(sets: Database) -> None:
    with (
        pytest.raises(UnknownName, match=r"no file named 'bias_3\.fits' \(did you mean 'bias_\d\.fits'\?\)"),
        sets.writing() as session,
    ):
        _add(session, ["bias_1.fits", "bias_3.fits"], "ccd")
    with (
        pytest.raises(UnknownName, match=r"no calibration in set 'other' named 'bias_2\.fits' \(did you mean 'bias_1"),
        sets.writing() as session,
    ):
        calibrations.certify(session, ["bias_2.fits"], "other", who="eve", why="-", now=NOW)
    with (
        pytest.raises(RequestRefused, match=r"ends at 2026-01-10.*before it begins at 2026-02-10"),
        sets.writing() as session,
    ):
        calibrations.add(
            session, ["bias_1.fits"], "ccd", valid_from=UNTIL, valid_until=FROM, who="eve", why="-", now=NOW
        )
    with sets.reading() as session:
        assert session.scalar(select(func.count()).select_from(CalibrationRow)) == 4


def test_what_cannot_be_staged_is_no_candidate(sets: Database) -> None:
    with sets.writing() as session:
        _add(session, ["gone.fits"], "ccd")
    with sets.reading() as session:
        assert "gone.fits" not in {role.file.name for role in calibrations.current(session)}


def test_an_act_is_undone_with_its_transaction(database: Database) -> None:
    with database.writing() as session:
        record_act(session, who="eve", verb="calib certify", subject="ccd", why="looks flat", detail={"n": 2}, now=NOW)
    with pytest.raises(ZeroDivisionError), database.writing() as session:
        record_act(session, who="eve", verb="calib withdraw", subject="ccd", now=NOW)
        _ = 1 / 0
    with database.reading() as session:
        [row] = session.scalars(select(AuditRow))
        assert (row.who, row.verb, row.subject, row.why, row.detail, row.at) == (
            "eve",
            "calib certify",
            "ccd",
            "looks flat",
            {"n": 2},
            NOW,
        )
