"""Tilings: tiles cover the sky that they are said to, under names that stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import Angle
from astropy_healpix import HEALPix

from nightmill.config.site import load_site
from nightmill.errors import ConfigErrors
from nightmill.files.sphere import Regions, vectors
from nightmill.files.tiles import tiles_of
from nightmill.model.footprint import Healpix, Ring, Tiling

SITE = """\
site: north
file_types: []
stores: {backbone: {url: stores/backbone}}
tilings:
  deep:
"""
SKY = Tiling(
    rings=(
        Ring(south=-90, north=-80, count=1),
        Ring(south=-80, north=0, count=12),
        Ring(south=0, north=70, count=7),
        Ring(south=70, north=90, count=4),
    )
)


def places(count: int = 2000) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    random = np.random.default_rng(3)
    return random.uniform(0, 360, count), np.rad2deg(np.arcsin(random.uniform(-1, 1, count)))


def tiles_at(tiling: Tiling, ra: np.ndarray, dec: np.ndarray) -> dict[int, set[str]]:
    names, tiles = tiles_of(tiling)
    points = Regions.of(vectors(ra, dec), np.ones(len(ra), int), np.zeros(len(ra)))
    found: dict[int, set[str]] = {}
    for own, other in points.touching(tiles):
        for place, tile in zip(own.tolist(), other.tolist(), strict=True):
            found.setdefault(place, set()).add(names[tile])
    return found


def test_rings_cover_the_sky_whole_and_name_their_tiles_by_place() -> None:
    """X08."""
    ra, dec = places()
    found = tiles_at(SKY, ra, dec)
    for place in range(len(ra)):
        ring = next(n for n, each in enumerate(SKY.rings) if each.south <= dec[place] <= each.north)
        number = int(ra[place] / 360 * SKY.rings[ring].count)
        assert f"r{ring:03d}t{number:04d}" in found[place]
    names, _tiles = tiles_of(SKY)
    assert (names[:2], names[-1], len(set(names))) == (("r000t0000", "r001t0000"), "r003t0003", 24)


@pytest.mark.parametrize("order", ["nested", "ring"])
def test_pixels_of_healpix_are_those_of_its_library(order: str) -> None:
    """X08."""
    tiling = Tiling.model_validate({"healpix": {"nside": 8, "order": order}})
    ra, dec = places(500)
    found = tiles_at(tiling, ra, dec)
    grid = HEALPix(8, order=order)
    numbers = grid.lonlat_to_healpix(Angle(ra, "deg"), Angle(dec, "deg"))
    assert all(f"p{number:06d}" in found[place] for place, number in enumerate(numbers.tolist()))
    assert np.mean([len(tiles) for tiles in found.values()]) < 1.1  # edges alone are in two


def load(folder: Path, body: str) -> Tiling:
    (folder / "nightmill.yaml").write_text(SITE + body)
    return load_site(folder).tilings["deep"]


def test_a_table_of_polygons_is_read_with_the_site(tmp_path: Path) -> None:
    rows = ["tile,ra,dec", *(f"a.1,{ra},{dec}" for ra, dec in [(359, -1), (1, -1), (1, 1), (359, 1)])]
    (tmp_path / "tiles.csv").write_text("\n".join(rows))
    tiling = load(tmp_path, "    polygons: tiles.csv\n")
    assert tiles_at(tiling, np.array([0.0, 2.0]), np.array([0.0, 0.0])) == {0: {"a.1"}}


@pytest.mark.parametrize(
    ("body", "table", "told"),
    [
        ("    {}\n", "", "tilings.deep: a tiling has one of rings, healpix and polygons, and this has none"),
        ("    {healpix: {nside: 6}}\n", "", "healpix.nside is 6 and should be a power of 2"),
        ("    {healpix: {nside: 128}}\n", "", "tilings.deep.healpix.nside"),
        ("    {healpix: {nsid: 8}}\n", "", "unknown key tilings.deep.healpix.nsid (did you mean 'nside'?)"),
        ("    {rings: [{south: 5, north: 5, count: 9}]}\n", "", "rings[0]: south is 5 and north is 5: no declination"),
        ("    {rings: [{south: 5, north: 6, count: 1}]}\n", "", "rings[0]: one tile alone is a cap around a pole"),
        ("    {rings: [{south: 5, north: 90, count: 1}]}\n", "", "rings[0]: a cap reaches 80 degrees at most"),
        ("    {rings: [{south: 5, north: 6, count: 3}]}\n", "", "rings[0]: a ring has 4 tiles at least"),
        ("    {rings: [{south: -5, north: 95, count: 9}]}\n", "", "tilings.deep.rings[0].north"),
        ("    {rings: [{south: 1, north: 2, count: 2000000}]}\n", "", "it has 2,000,000 tiles, and at most 1,000,000"),
        ("    deep\n", "", "tilings.deep is a text and should be a mapping"),
        ("    polygons: none.csv\n", "", "tilings.deep.polygons: none.csv: No such file or directory"),
        ("    polygons: tiles.csv\n", "name,ra\n", "tiles.csv: line 1 should have the columns tile, ra, dec"),
        ("    polygons: tiles.csv\n", "tile,ra,dec\n", "tiles.csv: it has no tile"),
        ("    polygons: tiles.csv\n", "tile,ra,dec\na/b,1,2\n", "line 2: tile 'a/b' should have letters, digits"),
        ("    polygons: tiles.csv\n", "tile,ra,dec\na,1,x\n", "line 2: ra and dec should be degrees"),
        ("    polygons: tiles.csv\n", "tile,ra,dec\na,1\n", "line 2: ra and dec should be degrees"),
        ("    polygons: tiles.csv\n", "tile,ra,dec\na,1,2\na,2,2\n", "line 2: tile 'a': its corners span no area"),
        ("    polygons: tiles.csv\n", "tile,ra,dec\na,nan,2\na,2,2\na,2,3\n", "tile 'a': a corner is not on the sky"),
        ("    polygons: tiles.csv\n", "tile,ra,dec\n\xe9\xff", "tiles.csv: "),
    ],
)
def test_a_tiling_that_cannot_be_is_refused_with_its_place(tmp_path: Path, body: str, table: str, told: str) -> None:
    if table:
        (tmp_path / "tiles.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path, body)
    assert told in str(caught.value)
    assert f"{tmp_path / 'nightmill.yaml'}:" in str(caught.value)


def test_a_healpix_tiling_is_data() -> None:
    assert Tiling(healpix=Healpix(nside=4)).model_dump(exclude_defaults=True) == {"healpix": {"nside": 4}}
