"""Files of which checks warn, as operators see them: at ingest, by find and show, and by SQL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from nightmill.cli.render.knowledge import show_warned
from tests.cli.conftest import Nightmill

TYPES = """
file_types:
  frame:
    format: fits
    metadata:
      exposure: {keywords: [EXPNUM], type: int, required: true}
    checks:
      finite: {max_fraction: 0.5}
      warn: {finite: {max_fraction: 0.1}, min_bytes/large: 10000}
"""


@pytest.fixture
def frames(each_folder: Path, tmp_path: Path) -> Path:
    """Give a good frame, one that is warned of, and one that is refused, beside a site."""
    (each_folder / "file_types.yaml").write_text(TYPES)
    for number, bad in enumerate((0, 12, 60), start=1):
        pixels = np.ones((40, 40), dtype="f4") if number == 1 else np.ones((10, 10), dtype="f4")
        pixels.flat[:bad] = np.nan
        fits.writeto(tmp_path / f"frame{number}.fits", pixels, fits.Header({"EXPNUM": number}))
    return tmp_path


def test_what_ingest_warns_of_is_told_and_found_again(frames: Path, nightmill: Nightmill) -> None:
    foreseen = nightmill("ingest", frames / "frame2.fits", "--type", "frame", "--origin", "raw", "--dry-run")
    assert "warned by check finite: " in foreseen.err
    paths = [frames / f"frame{number}.fits" for number in (1, 2, 3)]
    called = nightmill("ingest", *paths, "--type", "frame", "--origin", "raw")
    assert called.out.startswith("2 registered, 0 there already, 1 refused")
    warned, small, refused = sorted(called.err.splitlines(), key=lambda line: line.split()[:4])[::-1]
    assert "frame2.fits has 5760 of at least 10000 bytes" in small + warned
    assert "12% of the 100 pixels of HDU 0 are not finite, at most 10% may be" in small + warned
    assert refused.startswith("refused (not_finite): ")
    [found] = nightmill("find", "--warned", "--json").json
    assert found["name"] == "frame2.fits"
    assert [(each["check"], each["reason"]) for each in found["warnings"]] == [
        ("finite", "not_finite"),
        ("min_bytes/large", "too_small"),
    ]
    assert {each["name"]: len(each["warnings"]) for each in nightmill("find", "--json").json} == {
        "frame1.fits": 0,
        "frame2.fits": 2,
    }
    listed = nightmill("find", "--warned").out
    assert "min_bytes/large: " in listed
    assert "frame1" not in listed
    assert "warned by finite" in nightmill("show", "frame2.fits").out
    assert len(nightmill("show", "frame2.fits", "--json").json["warnings"]) == 2
    told = nightmill("sql", "SELECT check_name, reason FROM file_warning ORDER BY number")
    assert told.out.splitlines()[-2:] == ["finite\tnot_finite", "min_bytes/large\ttoo_small"]
    assert "leave them away" in nightmill("find", "--warned", "--refused").err


def test_a_file_that_is_retyped_is_warned_of_by_its_new_type(frames: Path, nightmill: Nightmill) -> None:
    nightmill("ingest", frames / "frame2.fits", "--type", "frame", "--origin", "raw")
    types = Path("file_types.yaml")
    types.write_text(types.read_text() + "  plain:\n    format: fits\n")
    assert nightmill("retype", "frame2.fits", "--type", "plain", "--why", "a test").code == 0
    assert nightmill("find", "--warned", "--json").json == []
    assert nightmill("retype", "frame2.fits", "--type", "frame", "--why", "a test").code == 0
    [found] = nightmill("find", "--warned", "--json").json
    assert [each["check"] for each in found["warnings"]] == ["finite", "min_bytes/large"]


def test_what_checks_warn_of_in_a_campaign_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_warned({})
    show_warned({"finite": 1, "rows": 1200})
    told = "warned: 1 file by check finite, 1,200 files by check rows: nightmill find --warned tells which\n"
    assert capsys.readouterr().out == told
