from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from tests.cli.conftest import Nightmill
from tests.support.observatory import deliver, frame, stored

WHO = getpass.getuser()


def ingest(nightmill: Nightmill, *paths: Path, code: int = 0) -> dict[str, list[dict[str, str]]]:
    called = nightmill("ingest", *paths, "--type", "raw_science", "--origin", "raw", "--json")
    assert called.code == code, called.err
    told: dict[str, list[dict[str, str]]] = called.json
    return told


# ----------------------------------------------------------------------------------------------- init


def test_init_makes_a_site_and_completes_one(nightmill: Nightmill, tmp_path: Path) -> None:
    site = tmp_path / "new site"
    called = nightmill("init", site)
    assert called.code == 0
    assert "The site 'new-site' is ready." in called.out
    made = {path.name for path in site.iterdir()}
    assert made >= {
        "nightmill.yaml",
        "file_types.yaml",
        "nightmill.db",
        "spool",
        "scratch",
        "stores",
        "areas",
    }
    assert (site / ".nightmill").stat().st_mode & 0o777 == 0o700
    text = (site / "nightmill.yaml").read_text().replace("url: stores/backbone", "url: stores/elsewhere")
    (site / "nightmill.yaml").write_text(text)
    again = nightmill("init", site, "--json")
    assert again.json["stores"]["backbone"] == (site / "stores/elsewhere").as_uri()
    assert (site / "stores/elsewhere").is_dir()
    assert (site / "nightmill.yaml").read_text() == text
    url = nightmill("sql", "SELECT url FROM store WHERE name = 'backbone'", "--site", site)
    assert url.out.splitlines()[1] == (site / "stores/elsewhere").as_uri()


@pytest.mark.parametrize("name", ["2026", "on", "1e5"])
def test_a_site_may_be_named_like_a_number(nightmill: Nightmill, tmp_path: Path, name: str) -> None:
    assert f"The site {name!r} is ready." in nightmill("init", tmp_path / name).out


def test_init_does_not_change_what_a_site_is(nightmill: Nightmill, folder: Path) -> None:
    called = nightmill("init", folder, "--database", "sqlite:///other.db")
    assert called.code == 2
    assert "is there already; change it, and leave --database and --file-types away" in called.err


def test_a_site_that_cannot_be_made_is_told(nightmill: Nightmill, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    called = nightmill("init", tmp_path / "file" / "site")
    assert called.code == 2
    assert called.err == f"nightmill: {tmp_path}/file/site cannot be made: Not a directory\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--database", "oracle://db"], "no database of a kind that is supported"),
        (["--file-types", "none.yaml"], "none.yaml"),
    ],
)
def test_a_wrong_request_leaves_no_half_made_site(
    nightmill: Nightmill, tmp_path: Path, options: list[str], message: str
) -> None:
    called = nightmill("init", tmp_path / "site", *options)
    assert called.code == 2
    assert message in called.err
    assert not (tmp_path / "site" / "nightmill.yaml").exists()
    assert nightmill("init", tmp_path / "site").code == 0


def test_a_database_url_may_name_a_variable(
    nightmill: Nightmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", f"sqlite:///{tmp_path / 'there.db'}")
    assert nightmill("init", tmp_path / "site", "--database", "${WHERE}").code == 0
    assert (tmp_path / "there.db").exists()
    assert "${WHERE}" in (tmp_path / "site" / "nightmill.yaml").read_text()


# -------------------------------------------------------------------------------------- ingest and find


@pytest.mark.req("B33", "B19")
def test_ingest_then_find_by_what_the_header_said(nightmill: Nightmill, each_folder: Path, tmp_path: Path) -> None:
    deliver(tmp_path / "night", 3)
    told = ingest(nightmill, tmp_path / "night")
    assert [each["name"] for each in told["registered"]] == [f"cam_000{number}.fits" for number in (1, 2, 3)]
    found = nightmill("find", "--where", "exposure >= 2 and exposure_seconds == 30", "--json").json
    assert [each["name"] for each in found] == ["cam_0002.fits", "cam_0003.fits"]
    assert found[0]["data_id"] == {"instrument": "cam", "night": 20260110, "exposure": 2, "detector": 1}
    assert found[0]["metadata"] == {"exposure_seconds": 30.0}
    copy = {"store": "backbone", "path": "raw/20260110/cam_0002.fits", "state": "present", "doubt": ""}
    assert found[0]["copies"] == [copy]
    lines = nightmill("find", "--type", "raw_science", "--limit", "1").out.splitlines()
    assert lines[0].split("\t")[:3] == ["name", "type", "origin"]
    assert lines[1].split("\t")[:3] == ["cam_0001.fits", "raw_science", "raw"]
    assert len(lines) == 2


@pytest.mark.req("X01")
def test_find_shows_keys_of_metadata(nightmill: Nightmill, folder: Path, tmp_path: Path) -> None:
    deliver(tmp_path / "night", 1)
    ingest(nightmill, tmp_path / "night")
    lines = nightmill("find", "--key", "exposure_seconds").out.splitlines()
    assert lines[0].split("\t")[3:5] == ["data ID", "exposure_seconds"]
    assert lines[1].split("\t")[4] == "30.0"
    wrong = nightmill("find", "--key", "exposure_second")
    assert (wrong.code, "no key of metadata named 'exposure_second' (did you mean 'exposure" in wrong.err) == (2, True)


def test_find_guesses_what_was_meant(nightmill: Nightmill, folder: Path) -> None:
    called = nightmill("find", "--where", "exposure_second > 3")
    assert called.code == 2
    assert "did you mean 'exposure_seconds'?" in called.err
    called = nightmill("find", "--type", "raw_sience")
    assert called.code == 2
    assert "no file type named 'raw_sience' (did you mean 'raw_science'?)" in called.err


@pytest.mark.req("D05", "D06")
def test_two_entry_points_of_one_registration(nightmill: Nightmill, each_folder: Path, tmp_path: Path) -> None:
    [path] = deliver(tmp_path / "night", 1)
    ingest(nightmill, path)
    called = nightmill("ingest", path, "--type", "mask", "--origin", "manual")
    assert called.code == 2
    assert 'add --provenance "..."' in called.err
    called = nightmill("ingest", path, "--type", "mask", "--origin", "manual", "--provenance", "drawn by hand")
    assert called.code == 0
    assert f"{path} is now cam_0001_m001.fits" in called.out
    origins = {each["name"]: (each["origin"], each["original_name"]) for each in nightmill("find", "--json").json}
    assert origins == {"cam_0001.fits": ("raw", "cam_0001.fits"), "cam_0001_m001.fits": ("manual", "cam_0001.fits")}
    assert [each["name"] for each in nightmill("find", "--origin", "manual", "--json").json] == ["cam_0001_m001.fits"]
    told = nightmill("why", "cam_0001_m001.fits").out
    assert f"was brought by {WHO}" in told
    assert "drawn by hand" in told


@pytest.mark.req("T09")
def test_a_refused_file_is_listed_and_explained(nightmill: Nightmill, each_folder: Path, tmp_path: Path) -> None:
    deliver(tmp_path / "night", 1)
    cut = tmp_path / "night" / "cut.fits"
    cut.write_bytes(frame(5)[:-10])
    told = ingest(nightmill, tmp_path / "night", code=1)
    assert [each["name"] for each in told["registered"]] == ["cam_0001.fits"]
    [refused] = nightmill("find", "--refused", "--json").json
    assert (refused["path"], refused["reason"], refused["who"]) == (str(cut), "truncated", WHO)
    for name in ("cut.fits", cut):
        called = nightmill("why", name)
        assert called.code == 0
        assert "was refused at" in called.out
        assert f"truncated: {cut} is cut off" in called.out
    cut.write_bytes(frame(5))
    ingest(nightmill, cut)
    told_both = nightmill("why", "cut.fits").out
    assert "cut.fits is a raw file" in told_both
    assert "was refused at" in told_both
    assert nightmill("why", "cot.fits").code == 2


def test_what_was_there_already_is_said(nightmill: Nightmill, folder: Path, tmp_path: Path) -> None:
    deliver(tmp_path / "night", 2)
    ingest(nightmill, tmp_path / "night")
    called = nightmill("ingest", tmp_path / "night", "--type", "raw_science", "--origin", "raw")
    assert called.out == "0 registered, 2 there already, 0 refused\n"


def test_modes_of_ingest(nightmill: Nightmill, folder: Path, tmp_path: Path) -> None:
    linked, moved = deliver(tmp_path / "night", 2)
    lying = deliver(folder / "stores/backbone/old", 3)[2]
    common = ("--type", "raw_science", "--origin", "raw", "--mode")
    assert nightmill("ingest", linked, *common, "link").code == 0
    assert linked.samefile(folder / "stores/backbone/raw/20260110/cam_0001.fits")
    assert nightmill("ingest", moved, *common, "move").code == 0
    assert not moved.exists()
    assert nightmill("ingest", lying, *common, "in-place").code == 0
    assert nightmill("show", "cam_0003.fits", "--json").json["copies"][0]["path"] == "old/cam_0003.fits"
    assert nightmill("ingest", linked, *common, "teleport").code == 2


# --------------------------------------------------------------------------------------- show and lineage


@pytest.mark.req("D04")
def test_nothing_is_claimed_of_what_was_before_a_raw_file(
    nightmill: Nightmill, each_folder: Path, tmp_path: Path
) -> None:
    deliver(tmp_path / "night", 1)
    ingest(nightmill, tmp_path / "night")
    assert nightmill("lineage", "cam_0001.fits", "--up").out == "cam_0001.fits (raw_science, raw)\n"
    assert "Nothing before that is known." in nightmill("why", "cam_0001.fits").out
    called = nightmill("ingest", tmp_path, "--type", "raw_science", "--origin", "raw", "--provenance", "flat-fielded")
    assert called.code == 2
    assert "nothing before a raw file is known or claimed" in called.err


def test_show_tells_all_of_a_file(nightmill: Nightmill, folder: Path, tmp_path: Path) -> None:
    deliver(tmp_path / "night", 1)
    ingest(nightmill, tmp_path / "night")
    told = nightmill("show", "cam_0001.fits").out
    for part in ("raw_science", "instrument=cam", "exposure_seconds=30.0", "2026-01-11 03:12:45", f"by {WHO}"):
        assert part in told
    assert "backbone: raw/20260110/cam_0001.fits (present)" in told
    called = nightmill("show", "cam_0002.fits")
    assert called.code == 2
    assert "no file, job or campaign named 'cam_0002.fits' (did you mean 'cam_0001.fits'?)" in called.err
    assert nightmill("lineage", "cam_0001.fits").out == "cam_0001.fits (raw_science, raw)\n"
    assert nightmill("lineage", "cam_0001.fits", "--up", "--down", "--json").json[1]["direction"] == "down"


def test_only_jobs_have_orders(nightmill: Nightmill, folder: Path) -> None:
    called = nightmill("show", "cam_0001.fits", "--order")
    assert called.code == 2
    assert "is not a job, and only jobs have orders; write CAMPAIGN/STAGE/UNIT" in called.err
    assert "no campaign named 'night1'" in nightmill("show", "night1/science/exposure=1").err


# ------------------------------------------------------------------------------------------------ calib


@pytest.mark.req("B20")
def test_acts_on_calibrations_are_on_record(nightmill: Nightmill, each_folder: Path, tmp_path: Path) -> None:
    deliver(tmp_path / "night", 2)
    ingest(nightmill, tmp_path / "night")
    names = ("cam_0001.fits", "cam_0002.fits")
    span = ("--from", "2026-01-01", "--until", "2026-02-01T12:00:00+01:00")
    assert nightmill("calib", "add", *names, "--set", "ccd", *span, "--why", "first light").code == 0
    assert nightmill("calib", "certify", *names, "--set", "ccd", "--why", "looked at both").code == 0
    called = nightmill("calib", "withdraw", names[1], "--set", "ccd", "--why", "ghost")
    assert called.out == "1 withdrawn in set ccd, 0 were already\n"
    roles = {each["file"]: each for each in nightmill("calib", "list", "--set", "ccd", "--json").json}
    assert {name: role["maturity"] for name, role in roles.items()} == {names[0]: "certified", names[1]: "withdrawn"}
    assert roles[names[0]]["valid_until"] == "2026-02-01T11:00:00+00:00"
    acts = nightmill(
        "sql", "SELECT who, verb, subject, why FROM audit WHERE verb LIKE 'calib%' ORDER BY id", "--json"
    ).json
    assert acts == [
        {"who": WHO, "verb": "calib add", "subject": "ccd", "why": "first light"},
        {"who": WHO, "verb": "calib certify", "subject": "ccd", "why": "looked at both"},
        {"who": WHO, "verb": "calib withdraw", "subject": "ccd", "why": "ghost"},
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["certify", "cam_0001.fits", "--set", "ccd", "--why", "x"],
            "no calibration in set 'ccd' named 'cam_0001.fits'",
        ),
        (["certify", "cam_0001.fits", "--set", "ccd", "--why", " "], "--why is empty"),
        (
            ["add", "cam_0001.fits", "--set", "c", "--why", "x", "--from", "soon", "--until", "2026"],
            "--from 'soon' is not a time",
        ),
    ],
)
def test_wrong_acts_are_refused(nightmill: Nightmill, folder: Path, arguments: list[str], message: str) -> None:
    called = nightmill("calib", *arguments)
    assert called.code == 2
    assert message in called.err


@pytest.mark.req("B20")
def test_only_operators_may_change_a_site_that_names_them(
    nightmill: Nightmill, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = deliver(tmp_path / "night", 1)
    ingest(nightmill, path)
    config = folder / "nightmill.yaml"
    own = config.read_text()
    config.write_text(own + "\noperators: [grace, eve]\n")
    monkeypatch.setenv("LOGNAME", "grace")
    monkeypatch.setenv("USER", "grace")
    before = nightmill("sql", "SELECT count(*) AS n FROM audit", "--json").json
    add = ("calib", "add", "cam_0001.fits", "--set", "s", "--from", "2026-01-01", "--until", "2026-02-01", "--why", "x")
    for arguments in (
        ("ingest", path, "--type", "raw_science", "--origin", "raw"),
        add,
        ("init", folder),
        ("rerun", "night1"),
    ):
        called = nightmill(*arguments)
        assert called.code == 2
        assert "is for the operators of site 'site', and" in called.err
    assert nightmill("find").code == 0
    assert nightmill("sql", "SELECT count(*) AS n FROM audit", "--json").json == before
    config.write_text(own + f"\noperators: [grace, {WHO}]\n")
    assert nightmill(*add).code == 0


# -------------------------------------------------------------------------------------------------- sql


@pytest.mark.req("B26", "B56")
def test_sql_joins_an_uploaded_list(nightmill: Nightmill, each_folder: Path, tmp_path: Path) -> None:
    deliver(tmp_path / "night", 3)
    ingest(nightmill, tmp_path / "night")
    wanted = tmp_path / "wanted.csv"
    wanted.write_text("exposure,note\n1,good\n3,bad\n9,lost\n")
    query = "SELECT f.name, w.note FROM wanted AS w LEFT JOIN file AS f USING (exposure) ORDER BY w.exposure"
    assert nightmill("sql", query, "--upload", f"wanted={wanted}", "--json").json == [
        {"name": "cam_0001.fits", "note": "good"},
        {"name": "cam_0003.fits", "note": "bad"},
        {"name": None, "note": "lost"},
    ]
    called = nightmill("sql", "DELETE FROM file")
    assert called.code == 2
    assert "reads every table and may make temporary ones" in called.err
    assert nightmill("sql", "SELECT begins_at FROM file LIMIT 1").out.startswith("begins_at\n2026-01-11 03:12:45")
    assert nightmill("sql", "SELECT 1", "--upload", "wanted").code == 2


@pytest.mark.req("B26")
def test_sql_prints_rows_as_they_come_and_says_where_there_are_more(nightmill: Nightmill, each_folder: Path) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n"
    assert len(nightmill("sql", numbers).out.splitlines()) == 5001
    assert len(nightmill("sql", numbers, "--json").json) == 5000
    called = nightmill("sql", numbers, "--json", "--limit", "2")
    assert called.json == [{"i": 1}, {"i": 2}]
    assert "there are more than these 2 rows; --limit 0 prints all" in called.err
    assert "there are more" not in nightmill("sql", numbers, "--limit", "5000").err
    assert nightmill("sql", "SELECT name FROM file", "--json").out == "[]\n"
    odd = "first\nsecond\u2028third"
    assert nightmill("sql", f"SELECT '{odd}' AS t, 1 AS n", "--json").json == [{"t": odd, "n": 1}]
    slow = nightmill("sql", numbers.replace("5000", "5000000000"), "--seconds", "1")
    assert slow.code == 2
    assert "took longer than 1 seconds" in slow.err


# ----------------------------------------------------------------------------------------------- doctor


def test_doctor_finds_everything_well(nightmill: Nightmill, each_folder: Path) -> None:
    called = nightmill("doctor", "--json")
    assert called.code == 0, called.out
    found = {each["what"]: each for each in called.json}
    assert {"package tasks", "prefect", "database", "ad-hoc SQL", "store backbone", "spool", "journals"} <= set(found)


def test_doctor_finds_what_is_wrong(nightmill: Nightmill, folder: Path, tmp_path: Path) -> None:
    (folder / "spool").rmdir()
    (tmp_path / "nightmill.db").unlink()
    called = nightmill("doctor")
    assert called.code == 1
    wrong = [line for line in called.out.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 2
    assert "database: the database sqlite" in wrong[0]
    assert "spool" in wrong[1]
    assert "cannot be written: No such file or directory" in wrong[1]


@pytest.mark.req("X01")
def test_doctor_tells_of_an_index_that_init_has_not_made(nightmill: Nightmill, each_folder: Path) -> None:
    with (each_folder / "nightmill.yaml").open("a") as file:
        file.write("indexed: [exposure_seconds]\n")
    called = nightmill("doctor")
    assert called.code == 1
    told = f"WRONG index of exposure_seconds: is not there; 'nightmill init {each_folder}' makes it"
    assert told in called.out.splitlines()
    assert nightmill("init", each_folder).code == 0
    assert nightmill("doctor").code == 0


def test_nothing_stays_of_an_upload(nightmill: Nightmill, folder: Path, tmp_path: Path) -> None:
    deliver(tmp_path / "night", 2)
    ingest(nightmill, tmp_path / "night")
    assert list(stored(folder)) == ["raw/20260110/cam_0001.fits", "raw/20260110/cam_0002.fits"]


@pytest.mark.parametrize("option", [("--level", "2"), ("--overlaps", "10,20")])
def test_what_is_asked_of_products_is_not_asked_of_refused_files(
    nightmill: Nightmill, folder: Path, option: tuple[str, str]
) -> None:
    called = nightmill("find", "--refused", *option)
    assert called.code == 2
    assert "--overlaps, --warned and --level are for files that were taken in" in called.err
