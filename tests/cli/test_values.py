"""What headers hold and is not what it should be, as somebody at the command line meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Nightmill
from tests.files.frames import raw_header
from tests.support.observatory import deliver

RAW = ("--type", "raw_science", "--origin", "raw")
FRAME = (f"INSTRUME= '{'cam':8}'", f"EXPNUM  = {5:>20}", f"CCDNUM  = {1:>20}", "DATE-OBS= '2026-01-11T03:12:60.0'")


@pytest.mark.req("B33")
def test_what_is_not_a_value_of_an_optional_key_is_left_out_and_told(
    nightmill: Nightmill, each_folder: Path, tmp_path: Path
) -> None:
    deliver(tmp_path / "night", 3, EXPTIME="NaN")
    told = "registered without exposure_seconds: EXPTIME of HDU 0 is nan (cam_0001.fits and 2 more)\n"
    called = nightmill("ingest", tmp_path / "night", *RAW)
    assert (called.code, called.out, called.err) == (0, "3 registered, 0 there already, 0 refused\n", told)
    found = nightmill("find", "--where", "exposure == 2", "--json").json
    assert (found[0]["metadata"], found[0]["ends_at"]) == ({}, None)
    (tmp_path / "more.fits").write_bytes(raw_header(*FRAME, "EXPTIME =                  NaN"))
    registered = nightmill("ingest", tmp_path / "more.fits", *RAW, "--json").json["registered"]
    assert registered[0]["left_out"] == ["exposure_seconds: EXPTIME of HDU 0 is nan"]
    begins = "SELECT begins_at FROM file WHERE exposure = 5"
    assert "2026-01-11 03:13:00" in nightmill("sql", begins).out  # 03:12:60.0


def test_a_frame_that_would_end_before_it_begins_is_refused_with_key_and_value(
    nightmill: Nightmill, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "backwards.fits"
    path.write_bytes(raw_header(*FRAME, f"EXPTIME = {-30.0:>20}"))
    called = nightmill("ingest", path, *RAW)
    assert (called.code, called.out) == (1, "0 registered, 0 there already, 1 refused\n")
    assert f"refused (bad_value): {path}: ends_at: end_of(begins_at, exposure_seconds) is not possible" in called.err
    assert "exposure_seconds: -30.0" in called.err
    assert nightmill("find", "--refused", "--json").json[0]["reason"] == "bad_value"
