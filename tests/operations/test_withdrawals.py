"""A wrong ingest is put right on record: nothing is changed, and what was known stays known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import event, select

from nightmill.backbone.catalogue.calibrations import current
from nightmill.backbone.schema import AuditRow, CalibrationRow, FileRow, JobRow, ReplicaRow, WithdrawalRow
from nightmill.config.campaign import load_campaign
from nightmill.errors import FileRefused, PlanRefused, RequestRefused, UnknownName
from nightmill.model.calibration import Maturity
from nightmill.model.origin import Origin
from nightmill.operations import calibrations
from nightmill.operations.find import find, why
from nightmill.operations.site import Site, open_site
from nightmill.operations.submit import submit
from nightmill.operations.withdrawals import retype, withdraw
from nightmill.planning.plan import plan_campaign
from nightmill.planning.seal import seal
from tests.cli.test_operators import PIPELINE
from tests.examples.campaigns import conduct
from tests.operations.test_sorting import TYPES, bring, mixed, refused, with_types
from tests.support.backbone import dump
from tests.support.observatory import deliver, frame, stored

MORE = """
  copy: {template: "cam_{exposure:04d}_copy_c{campaign:04d}a{attempt:02d}.fits"}
"""


@pytest.fixture
def night(site: Site, tmp_path: Path) -> Iterator[Site]:
    """Give a site with a sorted night: once on SQLite, once on PostgreSQL."""
    with _with_night(site, tmp_path) as opened:
        yield opened


@pytest.fixture
def lite(lite_site: Site, tmp_path: Path) -> Iterator[Site]:
    """Give it on SQLite."""
    with _with_night(lite_site, tmp_path) as opened:
        yield opened


def _with_night(site: Site, folder: Path) -> Site:
    opened = with_types(site, TYPES + MORE)
    (opened.config.directory / "pipeline.yaml").write_text(PIPELINE)
    (opened.config.directory / "first.yaml").write_text("campaign: first\npipeline: pipeline.yaml\n")
    bring(opened, mixed(folder / "night"))
    return opened


def campaign(site: Site, name: str = "first.yaml") -> Any:
    return load_campaign(site.config.directory / name)


def types(site: Site, **options: Any) -> dict[str, str]:
    return {each.row.name: each.row.type for each in find(site, **options)}


def row_of(site: Site, name: str) -> FileRow:
    found = why(site, name).file
    assert found is not None
    return found.row


@pytest.mark.req("X13")
def test_a_withdrawn_file_is_taken_by_nothing_and_stays_known(night: Site, tmp_path: Path) -> None:
    before, files = dump(night.database), stored(night.config.directory)
    assert withdraw(night, ["b.fits", "a.fits", "b.fits"], why="of another telescope", who="ada") == [
        "b.fits",
        "a.fits",
    ]
    after = dump(night.database)
    assert {table for table in after if after[table] != before[table]} == {"withdrawal", "audit"}
    assert len(after["audit"]) == len(before["audit"]) + 1
    assert stored(night.config.directory) == files
    assert types(night) == {"c.fits": "raw_dark", "e.txt": "note"}
    assert types(night, everything=True) == {"a.fits": "raw_science", "b.fits": "raw_arc", **types(night)}
    [gone] = why(night, "a.fits").withdrawals
    assert (gone.type, gone.retyped, gone.who, gone.why) == ("raw_science", "", "ada", "of another telescope")
    with night.database.reading() as session:
        assert current(session) == []
        [act] = session.scalars(select(AuditRow).where(AuditRow.verb == "withdraw"))
        assert (act.who, act.why, act.detail) == ("ada", "of another telescope", {"files": ["b.fits", "a.fits"]})
    with pytest.raises(PlanRefused, match="no raw_science raw or manual: there is nothing to do"):
        submit(night, campaign(night), who="ada")


def test_a_withdrawn_name_stays_taken_and_its_bytes_stay_out(night: Site, tmp_path: Path) -> None:
    folder = tmp_path / "night"
    withdraw(night, ["a.fits"], why="wrong", who="ada")
    (reason, message) = refused(bring(night, folder / "a.fits"))["a.fits"]
    assert reason == "withdrawn"
    assert "/a.fits: a.fits was withdrawn at 2" in message
    assert message.endswith(" UTC by ada: wrong; 'nightmill retype' takes it back, as what it is")
    assert refused(bring(night, folder / "a.fits", type="loose"))["a.fits"][0] == "withdrawn"
    (folder / "a.fits").write_bytes(frame(8, OBSTYPE="SCIENCE"))
    assert refused(bring(night, folder / "a.fits"))["a.fits"][0] == "name_taken"


def test_a_withdrawn_manual_file_is_not_brought_again_under_another_name(night: Site, tmp_path: Path) -> None:
    options = {"origin": Origin.MANUAL, "provenance": "from the archive"}
    path = tmp_path / "night" / "c.fits"
    [taken] = bring(night, path, type="loose", **options).registered
    withdraw(night, [taken.name], why="wrong", who="ada")
    for type_ in ("loose", "raw_dark"):
        assert refused(bring(night, path, type=type_, **options))["c.fits"][0] == "withdrawn"
    [done] = retype(night, [taken.name], type="raw_dark", why="a dark after all", who="ada")
    assert (done.name, done.before, done.type) == (taken.name, "loose", "raw_dark")
    assert [each.name for each in bring(night, path, type="raw_dark", **options).skipped] == [taken.name]
    assert "registered already, as 'raw_dark'" in refused(bring(night, path, type="loose", **options))["c.fits"][1]


@pytest.mark.req("X13")
def test_a_retyped_file_is_read_anew_and_its_first_type_stays_known(night: Site, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "f.fits").write_bytes(frame(7, OBSTYPE="ARC"))
    bring(night, folder / "f.fits", type="loose")
    old, files = row_of(night, "f.fits"), stored(night.config.directory)
    [done] = retype(night, ["f.fits"], type="raw_arc", why="an arc", who="ada")
    assert (done.before, done.type) == ("loose", "raw_arc")
    new = row_of(night, "f.fits")
    assert (old.type, old.exposure, old.version) == ("loose", None, 1)
    assert (new.type, new.exposure, new.version, new.sha256) == ("raw_arc", 7, 2, old.sha256)
    assert types(night)["f.fits"] == "raw_arc"
    assert stored(night.config.directory) == files
    story = why(night, "f.fits")
    assert [(each.type, each.retyped, each.who, each.why) for each in story.withdrawals] == [
        ("loose", "raw_arc", "ada", "an arc")
    ]
    assert story.file is not None
    assert [copy.path for copy in story.file.copies] == ["raw/undated/f.fits"]
    assert [(role.set_name, role.why) for role in story.roles] == [("arcs", "retyped to raw_arc")]
    with night.database.reading() as session:
        first = session.get_one(FileRow, old.id)
        assert (first.type, first.exposure, first.attributes) == (old.type, old.exposure, old.attributes)
        assert sorted(each.file.name for each in current(session)) == ["b.fits", "f.fits"]
    assert [each.name for each in bring(night, folder / "f.fits").skipped] == ["f.fits"]
    assert "registered already, as 'raw_arc'" in refused(bring(night, folder / "f.fits", type="loose"))["f.fits"][1]
    seen = "SELECT type FROM file_location WHERE file_name = 'f.fits'"
    with night.database.engine.connect() as connection:
        assert list(connection.exec_driver_sql(seen).scalars()) == ["raw_arc"]


def test_a_file_is_retyped_as_often_as_one_likes(night: Site, tmp_path: Path) -> None:
    [arc] = retype(night, ["b.fits"], type="loose", why="unknown", who="ada")
    assert arc.roles == ("arcs",)
    with night.database.reading() as session:
        assert current(session) == []
        assert len(session.scalars(select(CalibrationRow)).all()) == 1
    with pytest.raises(UnknownName, match=r"no calibration in set 'arcs' named 'b.fits'"):
        calibrations.certify(night, ["b.fits"], "arcs", why="good", who="ada")
    withdraw(night, ["b.fits"], why="nobody knows", who="ada")
    with pytest.raises(RequestRefused, match=r"b.fits was withdrawn at .*: nobody knows; add another file"):
        at = row_of(night, "a.fits").begins_at
        assert at is not None
        calibrations.add(
            night, ["b.fits"], "arcs", valid_from=at, valid_until=at, maturity=Maturity.DRAFT, why="good", who="ada"
        )
    retype(night, ["b.fits"], type="raw_arc", why="an arc, says the log", who="ada")
    assert types(night)["b.fits"] == "raw_arc"
    told = [str(each).partition(" at ")[0] for each in why(night, "b.fits").withdrawals]
    assert told == [
        "was retyped from raw_arc to loose",
        "was withdrawn",
        "was retyped from loose to raw_arc",
    ]
    with night.database.reading() as session:
        assert [each.file.name for each in current(session)] == ["b.fits"]


@pytest.mark.parametrize(
    ("names", "type_", "error", "expected"),
    [
        (["x.fits"], "loose", UnknownName, "no file named 'x.fits'"),
        (["a.fits"], "lose", UnknownName, "no file type named 'lose' (did you mean 'loose'?"),
        (["a.fits"], "raw_science", RequestRefused, "a.fits is of type 'raw_science' already, and reads as it did"),
        (["b.fits", "e.txt"], "loose", FileRefused, "e.txt"),
        (["d.fits"], "raw_arc", FileRefused, "d.fits has no begins_at, and file type 'raw_arc' makes it a calibration"),
    ],
)
def test_what_cannot_be_retyped_is_refused_as_a_whole(
    lite: Site, tmp_path: Path, names: list[str], type_: str, error: type[Exception], expected: str
) -> None:
    (tmp_path / "night" / "d.fits").write_bytes(frame(4, DATE_OBS=None))
    bring(lite, tmp_path / "night" / "d.fits", type="loose")
    before, files = dump(lite.database), stored(lite.config.directory)
    with pytest.raises(error, match=re.escape(expected)):
        retype(lite, names, type=type_, why="wrong", who="ada")
    assert (dump(lite.database), stored(lite.config.directory)) == (before, files)


def test_a_person_knows_better_than_a_header_that_lies(lite: Site) -> None:
    retype(lite, ["a.fits"], type="raw_arc", why="the lamp was on", who="ada")
    row = row_of(lite, "a.fits")
    assert (row.type, row.attributes["obs_type"]) == ("raw_arc", "SCIENCE")


def test_a_copy_that_was_damaged_is_not_described_anew(lite: Site) -> None:
    [path] = [path for path in stored(lite.config.directory) if path.endswith("a.fits")]
    full = lite.config.directory / "stores" / "backbone" / path
    full.chmod(0o600)
    full.write_bytes(frame(99, OBSTYPE="SCIENCE"))
    with pytest.raises(FileRefused, match=r"a.fits in store 'backbone' is not what was registered: its SHA-256 is"):
        retype(lite, ["a.fits"], type="loose", why="wrong", who="ada")


def test_why_is_needed(lite: Site) -> None:
    for act in (lambda: withdraw(lite, ["a.fits"], why=" "), lambda: retype(lite, ["a.fits"], type="loose", why="")):
        with pytest.raises(RequestRefused, match="--why is empty; say why"):
            act()


@pytest.mark.req("X13")
@pytest.mark.parametrize("ran", [False, True])
def test_what_a_job_reads_stays_with_the_chain_shown(night: Site, ran: bool) -> None:
    submit(night, campaign(night), who="ada")
    if ran:
        conduct(night, "first")
    how = "done), made cam_0001_copy_c0001a01.fits" if ran else "planned), made nothing yet"
    before = dump(night.database)
    for act, done in (
        (lambda: withdraw(night, ["c.fits", "a.fits"], why="wrong", who="ada"), "withdrawn"),
        (lambda: retype(night, ["a.fits"], type="loose", why="wrong", who="ada"), "retyped"),
    ):
        with pytest.raises(RequestRefused) as refusal:
            act()
        assert str(refusal.value) == (
            f"nothing was {done}:\n  - a.fits is an input of first/copy/exposure=1 ({how}; what a job reads stays as it"
            " was when it was planned; leave it out of later campaigns by their 'where', and a calibration by"
            " 'nightmill calib withdraw'"
        )
    assert dump(night.database) == before
    withdraw(night, ["c.fits"], why="wrong", who="ada")


def test_no_more_than_ten_jobs_are_shown(lite: Site, tmp_path: Path) -> None:
    deliver(tmp_path / "more", 24, OBSTYPE="SCIENCE")
    taken = bring(lite, *sorted((tmp_path / "more").glob("*.fits"))[1:]).registered
    submit(lite, campaign(lite), who="ada")
    with pytest.raises(RequestRefused) as refusal:
        withdraw(lite, [each.name for each in taken], why="wrong", who="ada")
    lines = str(refusal.value).splitlines()
    assert len(lines) == 12
    assert lines[-1].startswith("  - and 13 more jobs read them, or are planned to; what a job reads")


def test_products_and_bundles_are_not_withdrawn(lite: Site) -> None:
    submit(lite, campaign(lite), who="ada")
    conduct(lite, "first")
    [bundle] = types(lite, types=["bundle"])
    with pytest.raises(RequestRefused) as refusal:
        withdraw(lite, ["cam_0001_copy_c0001a01.fits", bundle], why="wrong", who="ada")
    assert str(refusal.value) == (
        "nothing was withdrawn:\n  - cam_0001_copy_c0001a01.fits was made by a job: a rerun makes it anew, under"
        f" another name\n  - {bundle} is the bundle of a pipeline, which campaigns were submitted with"
    )


# ------------------------------------------------------------------------------------------------------ races


@pytest.mark.req("X13")
def test_of_a_withdrawal_and_a_plan_that_takes_the_file_one_wins(night: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was withdrawn between the plan and its seal is not sealed."""

    def planned(*arguments: Any) -> Any:
        made = plan_campaign(*arguments)
        with open_site(night.config.directory) as other:
            withdraw(other, ["a.fits"], why="just seen", who="grace")
        return made

    monkeypatch.setattr("nightmill.operations.submit.plan_campaign", planned)
    with pytest.raises(PlanRefused, match=r"a.fits was withdrawn at .* by grace: just seen; plan again"):
        submit(night, campaign(night), who="ada")
    with night.database.reading() as session:
        assert session.scalars(select(JobRow)).all() == []


def test_a_withdrawal_waits_for_a_plan_that_is_being_sealed(night: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a plan is being sealed, a withdrawal waits, and then finds the jobs there."""
    sealing, asked = Event(), Event()

    def sealed(*arguments: Any, **options: Any) -> Any:
        done = seal(*arguments, **options)
        sealing.set()
        assert asked.wait(30)
        return done

    def late() -> str:
        assert sealing.wait(30)
        with open_site(night.config.directory) as other:
            event.listen(other.database.engine, "begin", lambda _: asked.set())
            asked.set()
            with pytest.raises(RequestRefused) as refusal:
                withdraw(other, ["a.fits"], why="too late", who="grace")
        return str(refusal.value)

    monkeypatch.setattr("nightmill.operations.submit.seal", sealed)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(late)
        submit(night, campaign(night), who="ada")
        assert "a.fits is an input of first/copy/exposure=1" in told.result()
    with night.database.reading() as session:
        assert session.scalars(select(WithdrawalRow)).all() == []


def test_of_two_who_retype_one_file_one_wins(night: Site) -> None:
    def act(number: int) -> str:
        with open_site(night.config.directory) as other:
            try:
                retype(other, ["c.fits"], type="loose", why=str(number), who="ada")
            except RequestRefused as error:
                return str(error)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(act, range(2)))
    assert said[1] == "done"
    assert "meanwhile" in said[0] or "is of type 'loose' already" in said[0]
    with night.database.reading() as session:
        assert len(session.scalars(select(WithdrawalRow)).all()) == 1
        named = select(ReplicaRow).join(FileRow, FileRow.id == ReplicaRow.file_id).where(FileRow.name == "c.fits")
        assert len(session.scalars(named).all()) == 1
