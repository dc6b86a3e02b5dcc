"""Files that come with all kinds of names, from the folder that is delivered to the step that reads them."""

from __future__ import annotations

import bz2
import gzip
import os
from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill, describe
from tests.cli.test_bad_input import CAMPAIGN, PIPELINE, RAW, TYPES
from tests.examples.campaigns import conduct
from tests.support.observatory import frame, stored

ESO = "HAWKI.2013-01-08T00:00:00.000.fits"
GIVEN: dict[str, str | None] = {
    ESO: ESO,
    "M 67 (B).fits": "M%2067%20%28B%29.fits",
    "two\nlines\x1b[31m.fits": "two%0Alines%1B%5B31m.fits",
    "-rf.fits": "%2Drf.fits",
    "100%.fits": "100%25.fits",
    os.fsdecode(b"latin-\xe9.fits"): "latin-%E9.fits",
    "x" * 250 + ".fits": None,
}


@pytest.mark.req("X02", "D06")
def test_every_name_is_taken_or_made_fit_and_found_by_what_it_was(
    each_folder: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    night = tmp_path / "night"
    night.mkdir()
    for number, given in enumerate(GIVEN, start=1):
        (night / given).write_bytes(frame(number))
    called = nightmill("ingest", night, *RAW)
    assert (called.code, called.out.splitlines()[0]) == (0, "7 registered, 0 there already, 0 refused")
    assert f"{night}/M 67 (B).fits is now M%2067%20%28B%29.fits" in called.out
    assert "\x1b" not in called.out
    found = {each["original_name"]: each for each in nightmill("find", "--json").json}
    for given, name in GIVEN.items():
        told = os.fsencode(given).decode(errors="backslashreplace")
        assert name is None or found[told]["name"] == name
        assert nightmill("show", "--json", "--", told).json["sha256"] == found[told]["sha256"]
        assert nightmill("show", found[told]["name"], "--json").json["original_name"] == told
    assert len({each["name"] for each in found.values()}) == len(GIVEN)
    assert f"M%2067%20%28B%29.fits is a raw file: {nightmill('find', '--json').json[0]['registered_by']}" in (
        nightmill("why", "M 67 (B).fits").out
    )
    assert nightmill("lineage", "100%.fits").out == "100%25.fits (raw_science, raw)\n"
    where = f'name == "{ESO}" or original_name == "M 67 (B).fits"'
    assert [each["name"] for each in nightmill("find", "--where", where, "--json").json] == [
        ESO,
        "M%2067%20%28B%29.fits",
    ]
    again = nightmill("ingest", night, *RAW)
    assert again.out.startswith("0 registered, 7 there already, 0 refused")


def test_several_files_that_came_under_one_name_are_all_named(
    folder: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    (tmp_path / "mask.fits").write_bytes(frame(1))
    manual = ("--type", "mask", "--origin", "manual", "--provenance", "by hand")
    nightmill("ingest", tmp_path / "mask.fits", *manual)
    (tmp_path / "mask.fits").write_bytes(frame(2))
    nightmill("ingest", tmp_path / "mask.fits", *manual)
    for verb in ("show", "why", "lineage"):
        called = nightmill(verb, "mask.fits")
        assert called.code == 2
        assert "2 files came as 'mask.fits': mask_m001.fits, mask_m002.fits; name one of them" in called.err


@pytest.mark.req("X02", "X12")
def test_steps_read_files_of_any_name_under_the_name_of_the_catalogue(
    folder: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    describe(folder, TYPES, PIPELINE.replace("wc -c < $0 > $1", 'basename \\"$0\\" > $1'), CAMPAIGN)
    night = tmp_path / "night"
    night.mkdir()
    names = [ESO, "M%2067.fits", "c4d_ori.fits.gz", "real.fits.bz2", "plain.fits"]
    (night / ESO).write_bytes(frame(1))
    (night / "M 67.fits").write_bytes(frame(2))
    (night / "c4d_ori.fits").write_bytes(gzip.compress(frame(3)))
    (night / "real.fits.bz2").write_bytes(bz2.compress(frame(4)))
    (night / "plain.fits.gz").write_bytes(frame(5))
    told = nightmill("ingest", night, *RAW, "--json").json
    assert sorted(each["name"] for each in told["registered"]) == sorted(names)
    listed = nightmill("sql", "SELECT name, compression FROM file WHERE compression <> '' ORDER BY name", "--json").json
    assert [tuple(each.values()) for each in listed] == [("c4d_ori.fits.gz", "gz"), ("real.fits.bz2", "bz2")]
    assert ESO in nightmill("plan", "first.yaml").out
    with open_site(folder) as opened:
        submit(opened, load_campaign(folder / "first.yaml"), who="tester")
        conduct(opened, "first")
    seen = {
        data.decode().strip() for path, data in stored(folder).items() if "_count_" in path and path.endswith(".txt")
    }
    assert seen == set(names)
    for name in names:
        assert f"cam_000{names.index(name) + 1}_count_c0001a01.txt" in nightmill("lineage", name, "--down").out


@pytest.mark.parametrize("value", ["-rf", ".hidden", "a/b", "..", "a b", "a:b", "--option"])
def test_a_value_that_is_no_part_of_a_name_is_refused_where_it_comes_in(
    folder: Path, nightmill: Nightmill, tmp_path: Path, value: str
) -> None:
    """It went in, and the plan of its whole night was refused for it."""
    (tmp_path / "cam.fits").write_bytes(frame(1, INSTRUME=value))
    called = nightmill("ingest", tmp_path / "cam.fits", *RAW)
    assert called.code == 1
    assert f"refused (unfit_value): {tmp_path}/cam.fits: instrument: {value!r} cannot tell files apart" in called.err
    assert "say what it means here under 'values' of instrument in file type 'raw_science'" in called.err
