"""Footprints come with a file, whoever brings it, and files are found by place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import FootprintRow
from nightmill.config.campaign import load_campaign
from nightmill.errors import NightmillError
from nightmill.model.origin import Origin
from nightmill.operations.find import find
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.site import Site, open_site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn
from tests.files.test_footprints import wcs_header, write

TYPES = """
  sky:
    format: fits
    footprint: wcs
    template: "sky_c{campaign:04d}a{attempt:02d}.fits"
"""
PIPELINE = """\
pipeline: copies
version: "1"
stages:
  copy:
    per: []
    inputs: {image: {type: sky}}
    steps:
      - name: copy
        argv: [cp, "{inputs.image}", "{outputs.copy}"]
        inputs: [image]
        outputs: {copy: {type: sky}}
"""


def with_sky(site: Site) -> Site:
    folder = site.config.directory
    types = folder / "file_types.yaml"
    types.write_text(types.read_text() + TYPES)
    with (folder / "nightmill.yaml").open("a") as file:
        file.write("tilings: {deep: {rings: [{south: -10, north: 10, count: 10}, {south: 10, north: 90, count: 4}]}}\n")
    site.close()
    return open_site(folder)


@pytest.fixture
def sky(site: Site) -> Iterator[Site]:
    """Give a site that knows the sky: once on SQLite, once on PostgreSQL."""
    with with_sky(site) as opened:
        yield opened


def take_in(site: Site, folder: Path, **places: tuple[float, float]) -> None:
    folder.mkdir(exist_ok=True)
    for name, (ra, dec) in places.items():
        write(folder / f"{name}.fits", wcs_header(ra, dec))
    ingest(site, [folder], type="sky", origin=Origin.RAW, who="ada")


def found(site: Site, place: str) -> list[str]:
    return [each.row.name for each in find(site, overlaps=place)]


def test_files_are_found_by_place(sky: Site, tmp_path: Path) -> None:
    """X08."""
    take_in(sky, tmp_path / "in", zero=(0, 0), pole=(77, 90), south=(0, -30), east=(36, 0))
    assert found(sky, "0,0") == found(sky, "359.7,0.1") == ["zero.fits"]
    assert found(sky, "200,89.9") == ["pole.fits"]
    assert found(sky, "0,-15,14.7") == []
    assert found(sky, "0,-15,14.9") == ["south.fits", "zero.fits"]
    assert found(sky, "180,0") == []
    assert found(sky, "180,0,90") == ["pole.fits"]
    assert found(sky, "deep:r000t0000") == found(sky, "deep:r000t0000") == ["east.fits", "zero.fits"]
    assert found(sky, "deep:r001t0003") == ["pole.fits"]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("150", "'150' is not a part of the sky; write RA,DEC or RA,DEC,RADIUS in degrees"),
        ("1,2,3,4", "is not a part of the sky"),
        ("1,91", "is not a part of the sky"),
        ("nan,2", "is not a part of the sky"),
        ("1,2,-1", "is not a part of the sky"),
        ("dep:r000t0000", "no tiling named 'dep'"),
        ("deep:r000t00", "no tile of deep named 'r000t00'"),
    ],
)
def test_a_place_that_is_none_is_refused(lite_site: Site, place: str, told: str) -> None:
    with with_sky(lite_site) as site, pytest.raises(NightmillError) as caught:
        find(site, overlaps=place)
    assert told in str(caught.value)


def test_what_a_job_makes_comes_with_its_footprint(sky: Site, tmp_path: Path) -> None:
    """X08: kept at registration, from the gate."""
    take_in(sky, tmp_path / "in", image=(10, 20))
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "campaign.yaml").write_text("campaign: night1\npipeline: pipeline.yaml\n")
    submit(sky, load_campaign(tmp_path / "campaign.yaml"), who="ada")
    [number] = take_turn(sky, "night1", "copy").slices
    with SliceWork(sky, "night1", "copy", number) as work:
        work.record(list(work.worker.run(work.issue(10))))
    assert found(sky, "10,20") == ["image.fits", "sky_c0001a01.fits"]
    with sky.database.reading() as session:
        one, other = session.scalars(select(FootprintRow).order_by(FootprintRow.file_id))
        assert (one.vertices, one.cap_deg, one.z) == (other.vertices, other.cap_deg, other.z)


def test_a_file_without_its_footprint_is_refused(sky: Site, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    from astropy.io import fits

    write(tmp_path / "in/blind.fits", fits.Header())
    [refused] = ingest(sky, [tmp_path / "in"], type="sky", origin=Origin.RAW, who="ada").refused
    assert (refused.reason, found(sky, "0,0,90")) == ("no_footprint", [])
