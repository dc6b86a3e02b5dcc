"""A mixed night from the command line: shown beforehand, sorted, and put right."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from tests.cli.conftest import Nightmill
from tests.operations.test_sorting import TYPES, mixed
from tests.support.observatory import stored

ME = getpass.getuser()


@pytest.fixture
def night(folder: Path, tmp_path: Path) -> Path:
    """Give a mixed night beside a site whose types recognise their files; the site is the working folder."""
    (folder / "file_types.yaml").write_text(TYPES)
    return mixed(tmp_path / "night")


@pytest.mark.req("X13")
def test_a_night_is_shown_beforehand(night: Path, nightmill: Nightmill, folder: Path) -> None:
    called = nightmill("ingest", night, "--origin", "raw", "--dry-run")
    assert called.code == 1
    head, arc, *_, last = [line.split("\t") for line in called.out.splitlines() if not line.startswith(f"{night}/a")]
    assert head[:4] == ["path", "type", "name", "data ID"]
    assert dict(zip(head, arc, strict=True)) == {
        "path": f"{night}/b.fits",
        "type": "raw_arc",
        "name": "b.fits",
        "data ID": "instrument=cam, exposure=2, night=20260110",
        "begins at": "2026-01-11 03:12:45",
        "ends at": "2026-01-11 03:13:15",
        "metadata": "exposure_seconds=30.0, obs_type=ARC",
        "calibration": "in set arcs, certified, for 2026-01-10 15:12:45 to 2026-01-12 03:13:15",
        "store": "backbone",
        "there": "raw/20260110/b.fits",
    }
    assert last == ["4 would be registered, 0 there already, 1 refused; nothing was done"]
    assert called.err.startswith(f"refused (no_type): {night}/d.fits fits no file type; raw_science: obs_type")
    assert stored(folder) == {}
    told = nightmill("ingest", night / "b.fits", "--origin", "raw", "--dry-run", "--json").json
    [foreseen] = told.pop("foreseen")
    assert told == {"skipped": [], "refused": [], "hidden": []}
    assert foreseen["data_id"] == {"instrument": "cam", "exposure": 2, "night": 20260110}
    assert foreseen["calibration"] == {
        "set_name": "arcs",
        "valid_from": "2026-01-10T15:12:45+00:00",
        "valid_until": "2026-01-12T03:13:15+00:00",
        "maturity": "certified",
    }
    assert nightmill("find", "--json").json == []


@pytest.mark.req("X13")
def test_a_night_is_sorted_and_put_right(night: Path, nightmill: Nightmill) -> None:
    called = nightmill("ingest", night, "--origin", "raw")
    assert called.out == (
        "4 registered, 0 there already, 1 refused\n  1 registered as raw_science\n  1 registered as raw_arc\n"
        "  1 registered as raw_dark\n  1 registered as note\n"
    )
    assert nightmill("ingest", night / "d.fits", "--type", "loose", "--origin", "raw").out == (
        "1 registered, 0 there already, 0 refused\n"
    )
    assert nightmill("withdraw", "d.fits", "--why", "out of focus", "--json").json == {"withdrawn": ["d.fits"]}
    assert "d.fits" not in nightmill("find").out
    listed = {each["name"]: each["withdrawn_at"] for each in nightmill("find", "--all", "--json").json}
    assert [name for name, at in listed.items() if at] == ["d.fits"]
    assert nightmill("show", "d.fits", "--json").json["withdrawn_at"] == listed["d.fits"]
    [told] = nightmill("why", "d.fits", "--json").json["withdrawals"]
    assert (told["type"], told["retyped"], told["who"], told["why"]) == ("loose", "", ME, "out of focus")
    called = nightmill("retype", "b.fits", "--type", "loose", "--why", "nobody knows")
    assert called.out == "b.fits is a loose now, and was a raw_arc, and not a calibration of arcs any more\n"
    assert f" UTC by {ME}: nobody knows\n" in nightmill("why", "b.fits").out
    assert "It was retyped from raw_arc to loose at " in nightmill("why", "b.fits").out
    assert nightmill("calib", "list", "--json").json == []
    [again] = nightmill("retype", "b.fits", "--type", "raw_arc", "--why", "an arc", "--json").json
    assert again == {"name": "b.fits", "before": "loose", "type": "raw_arc", "roles": []}
    assert [each["name"] for each in nightmill("find", "--type", "raw_arc", "--json").json] == ["b.fits"]
    assert [each["file"] for each in nightmill("calib", "list", "--json").json] == ["b.fits"]


def test_what_is_said_of_a_withdrawal_cannot_command_a_terminal(night: Path, nightmill: Nightmill) -> None:
    nightmill("ingest", night / "a.fits", "--origin", "raw")
    nightmill("withdraw", "a.fits", "--why", "\x1b[2Jwrong")
    for verb in ("why", "show"):
        called = nightmill(verb, "a.fits")
        assert "\x1b" not in called.out
        assert "\\x1b[2Jwrong" in called.out
