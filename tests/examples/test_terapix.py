"""The programs of Terapix: simulated exposures; source-extractor, PSFEx, SCAMP and SWarp by hand and in a campaign."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.ndimage import minimum_filter

from examples.terapix.by_hand import TILES, exposures_of, make_tiles
from examples.terapix.simulate import PIXEL_SCALE, SECONDS, SHAPE, Exposure, main, plan_exposures, simulate
from nightmill.library import Site as Library
from nightmill.model.origin import Origin
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.init import make_site
from nightmill.operations.site import Site, open_site
from tests.examples.campaigns import run_campaign, take_in
from tests.examples.programs import EXAMPLES, needs
from tests.examples.witnesses import must_agree

TERAPIX = EXAMPLES / "terapix"
SEED = 7
PLAN = plan_exposures(seed=SEED, exposures=6)


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("field")
    assert sum(1 for _ in simulate(PLAN, folder, seed=SEED)) == 6
    return folder


@pytest.fixture(scope="session")
def tiles(field: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("source-extractor", "psfex", "scamp", "SWarp")
    folder = tmp_path_factory.mktemp("terapix") / "by_hand"
    make_tiles(exposures_of(field), field / "reference.fits", folder)
    return folder


@pytest.fixture(scope="session")
def campaign(field: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a site in which the campaign was run."""
    needs("source-extractor", "psfex", "scamp", "SWarp")
    folder = tmp_path_factory.mktemp("terapix") / "site"
    make_site(folder, file_types=TERAPIX / "file_types.yaml").close()
    shutil.copy(TERAPIX / "tiles.csv", folder)
    with (folder / "nightmill.yaml").open("a") as configuration:
        configuration.write((TERAPIX / "tilings.yaml").read_text())
    with open_site(folder) as site:
        take_in(site, sorted(field.glob("images/*.fits")), "image")
        take_in(site, sorted(field.glob("weights/*.fits")), "weight")
        take_in_reference(site, field / "reference.fits")
        run_campaign(site, TERAPIX / "deep.yaml")
    return folder


def take_in_reference(site: Site, path: Path) -> None:
    result = ingest(
        site, [path], type="reference", origin=Origin.MANUAL, provenance="Stars of an earlier survey", who="tester"
    )
    assert (len(result.registered), result.refused) == (1, [])


def product(campaign: Path, name: str) -> Path:
    """Give the copy of a product in the store."""
    (path,) = (campaign / "stores" / "backbone" / "deep").glob(f"*/{name}")
    return path


def read_by_the_step_that_made(campaign: Path, name: str) -> dict[str, set[str]]:
    """Give the files by their roles."""
    with Library(campaign) as site:
        edges = site.lineage(name, depth=1)
    used = edges[edges["relation"] == "used"]
    return {role: set(used["file"][used["role"] == role]) for role in set(used["role"])}


def truth(field: Path) -> tuple[SkyCoord, np.ndarray]:
    table = Table.read(field / "truth.ecsv")
    return SkyCoord(table["ra"], table["dec"], unit="deg"), np.asarray(table["mag"])


def objects(catalog: Path) -> Table:
    """Give those of a catalogue that nothing is wrong with."""
    table = Table(fits.getdata(catalog, "LDAC_OBJECTS"))
    return table[table["FLAGS"] == 0]


def test_images_have_weights_and_a_wcs_that_is_off(field: Path) -> None:
    for exposure in PLAN:
        image = field / "images" / f"{exposure.name}.fits"
        weight = fits.getdata(field / "weights" / f"{exposure.name}.weight.fits")
        assert weight.shape == fits.getdata(image).shape == SHAPE
        assert 0.001 < (weight == 0).mean() < 0.01
        corner = [
            SkyCoord(*wcs.all_pix2world(1, 1, 1), unit="deg") for wcs in (WCS(fits.getheader(image)), exposure.true_wcs)
        ]
        assert 0.5 < corner[0].separation(corner[1]).arcsec < 9


def test_same_seed_same_images_and_other_seed_others(field: Path, tmp_path: Path) -> None:
    for seed in (7, 8):
        for _ in simulate(plan_exposures(seed=seed, exposures=6)[:1], tmp_path / str(seed), seed=seed):
            pass
    for name in ("images/tx700001.fits", "weights/tx700001.weight.fits", "reference.fits", "truth.ecsv"):
        assert (tmp_path / "7" / name).read_bytes() == (field / name).read_bytes()
    name = "images/tx700001.fits"
    assert (tmp_path / "8" / name).read_bytes() != (field / name).read_bytes()


def test_command_line_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--output", str(tmp_path), "--exposures", "1"])
    assert capsys.readouterr().out == f"1 images with weight maps in {tmp_path}\n"


def test_each_exposure_has_its_head_with_the_loss_by_cloud(tiles: Path) -> None:
    for exposure in PLAN:
        head = fits.Header.fromstring(
            "\n".join(
                line
                for line in (tiles / "catalogs" / f"{exposure.name}.head").read_text(errors="replace").splitlines()
                if not line.startswith(("HISTORY", "COMMENT"))
            ),
            sep="\n",
        )
        assert head["FLXSCALE"] * SECONDS == pytest.approx(10 ** (0.4 * exposure.cloud), rel=0.01)
        assert "PV1_7" in head


@pytest.mark.parametrize("exposure", PLAN, ids=lambda exposure: exposure.name)
def test_stars_of_an_exposure_are_as_bright_as_they_were_made(exposure: Exposure, tiles: Path, field: Path) -> None:
    found = objects(tiles / "photometry" / f"{exposure.name}.fits")
    sky, magnitude = truth(field)
    places = exposure.true_wcs.all_pix2world(found["XWIN_IMAGE"], found["YWIN_IMAGE"], 1)
    index, distance, _ = SkyCoord(*places, unit="deg").match_to_catalog_sky(sky)
    bright = (distance.arcsec < 0.5) & (magnitude[index] < 20)
    assert bright.sum() > 60
    off = (found["MAG_PSF"] + 2.5 * np.log10(SECONDS) - exposure.cloud - magnitude[index])[bright]
    assert abs(np.median(off)) < 0.01
    assert np.percentile(np.abs(off), 90) < 0.03


@pytest.mark.parametrize("tile", [tile.name for tile in TILES])
def test_stars_of_a_tile_are_where_and_as_bright_as_they_were_made(tile: str, tiles: Path, field: Path) -> None:
    found = objects(tiles / "tiles" / f"{tile}.cat.fits")
    sky, magnitude = truth(field)
    places = SkyCoord(found["ALPHAWIN_J2000"], found["DELTAWIN_J2000"], unit="deg")
    index, distance, _ = places.match_to_catalog_sky(sky)
    weight = fits.getdata(tiles / "tiles" / f"{tile}.weight.fits")
    whole = minimum_filter(weight, size=25, mode="constant") > 0  # no exposure ends in the star
    columns, rows = (np.rint(found[f"{axis}WIN_IMAGE"]).astype(int) - 1 for axis in ("X", "Y"))
    bright = (distance.arcsec < 1) & (magnitude[index] < 20.5) & whole[rows, columns]
    assert bright.sum() > 60
    assert np.sqrt(np.mean(distance.arcsec[bright] ** 2)) < 0.05
    assert distance.arcsec[bright].max() < 0.1
    off = (found["MAG_APER"].ravel() - magnitude[index])[bright]
    assert abs(np.median(off)) < 0.01
    assert np.percentile(np.abs(off), 90) < 0.03


def test_a_tile_gets_the_exposures_that_touch_it_and_tiles_share_some(tiles: Path) -> None:
    lists = [set((tiles / "tiles" / f"{tile.name}.list").read_text().split()) for tile in TILES]
    names = [{Path(path).name for path in each} for each in lists]
    assert sorted(names[0]) == [f"tx70000{number}.fits" for number in (2, 3, 5, 6)]
    assert sorted(names[1]) == [f"tx70000{number}.fits" for number in (1, 2, 4, 5)]
    for tile, each in zip(TILES, names, strict=True):
        staged = {path.name for path in (tiles / "tiles" / f"{tile.name}_inputs").iterdir()}
        stems = {Path(name).stem for name in each}
        assert staged == {f"{stem}{suffix}" for stem in stems for suffix in (".fits", ".weight.fits", ".head")}


def test_tile_is_touched_within_its_margin_only() -> None:
    east, _ = TILES
    wcs = PLAN[1].header_wcs
    ra, dec = WCS(east.header).wcs.crval
    half_tile, half_image = east.header["NAXIS2"] / 2 * PIXEL_SCALE, SHAPE[0] / 2 * PIXEL_SCALE
    for more_arcsec, touches in ((-5, True), (10, True), (30, False)):
        wcs.wcs.crval = (ra, dec + (half_tile + half_image + more_arcsec) / 3600)
        assert east.touches(wcs, SHAPE) is touches


def test_corners_of_the_tiles_are_those_of_their_pixels() -> None:
    corners = Table.read(TERAPIX / "tiles.csv")
    for tile in TILES:
        own = corners[corners["tile"] == tile.name]
        pixels = SkyCoord(WCS(tile.header).calc_footprint(center=False), unit="deg")
        assert SkyCoord(own["ra"], own["dec"], unit="deg").separation(pixels).arcsec.max() < 0.01
    assert len(corners) == 4 * len(TILES)


EXPOSURES_OF = {"east": (700002, 700003, 700005, 700006), "west": (700001, 700002, 700004, 700005)}
ALL = tuple(exposure.number for exposure in PLAN)


@pytest.mark.req("X08", "X05")
def test_campaign_makes_pixel_by_pixel_what_the_programs_make_by_hand(campaign: Path, tiles: Path) -> None:
    for tile in EXPOSURES_OF:
        for ending in (".fits", ".weight.fits"):
            pixels = fits.getdata(product(campaign, f"{tile}_r_c0001a01{ending}"))
            assert np.array_equal(pixels, fits.getdata(tiles / "tiles" / f"{tile}{ending}"))
        assert_same_rows(product(campaign, f"{tile}_r_catalog_c0001a01.fits"), tiles / "tiles" / f"{tile}.cat.fits")
    for exposure in ALL:
        assert_same_rows(
            product(campaign, f"tx{exposure}_photometry_c0001a01.fits"), tiles / "photometry" / f"tx{exposure}.fits"
        )
        head = product(campaign, f"tx{exposure}_c0001a01.head")
        assert head.read_bytes() == (tiles / "catalogs" / f"tx{exposure}.head").read_bytes()


def assert_same_rows(catalog: Path, other: Path) -> None:
    rows, others = (fits.getdata(each, "LDAC_OBJECTS") for each in (catalog, other))
    assert len(rows) > 100
    assert rows.tobytes() == others.tobytes()


@pytest.mark.req("X07", "X10")
@pytest.mark.parametrize("tile", EXPOSURES_OF)
def test_a_tile_is_made_of_the_exposures_that_touch_it_each_with_its_weights_and_head(
    campaign: Path, tile: str
) -> None:
    read = read_by_the_step_that_made(campaign, f"{tile}_r_c0001a01.fits")
    assert read == {
        "images": {f"tx{exposure}.fits" for exposure in EXPOSURES_OF[tile]},
        "weights": {f"tx{exposure}.weight.fits" for exposure in EXPOSURES_OF[tile]},
        "heads": {f"tx{exposure}_c0001a01.head" for exposure in EXPOSURES_OF[tile]},
    }
    assert read_by_the_step_that_made(campaign, f"{tile}_r_catalog_c0001a01.fits") == {
        "image": {f"{tile}_r_c0001a01.fits"},
        "weight": {f"{tile}_r_c0001a01.weight.fits"},
    }


def test_lineage_of_an_exposure_names_what_each_program_read(campaign: Path) -> None:
    image, weight = {"tx700004.fits"}, {"tx700004.weight.fits"}
    assert read_by_the_step_that_made(campaign, "tx700004_c0001a01.cat") == {"image": image, "weight": weight}
    assert read_by_the_step_that_made(campaign, "tx700004_c0001a01.psf") == {"catalog": {"tx700004_c0001a01.cat"}}
    assert read_by_the_step_that_made(campaign, "tx700004_photometry_c0001a01.fits") == {
        "image": image,
        "weight": weight,
        "psf": {"tx700004_c0001a01.psf"},
    }
    assert read_by_the_step_that_made(campaign, "tx700004_c0001a01.head") == {
        "catalogs": {f"tx{exposure}_c0001a01.cat" for exposure in ALL},
        "reference": {"reference_m001.fits"},
    }


@pytest.mark.req("X11")
def test_clouds_are_found_by_what_the_heads_say(campaign: Path) -> None:
    with Library(campaign) as site:
        found = site.find(type="head", where="flux_scale > 0.0105")["exposure"]
    assert sorted(found) == [exposure.number for exposure in PLAN if exposure.cloud > 0]
    assert 0 < len(found) < len(PLAN)


@pytest.mark.req("B40")
def test_witnesses_of_source_extractor_agree_with_a_tracer(field: Path, tmp_path: Path) -> None:
    needs("source-extractor", "psfex")
    name = PLAN[0].name
    given = {"image": [field / "images" / f"{name}.fits"], "weight": [field / "weights" / f"{name}.weight.fits"]}
    must_agree("terapix/terapix.yaml", "detect", given, tmp_path)
