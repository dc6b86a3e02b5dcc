"""HAWK-I: the simulated night, and ESO's recipes by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from examples.eso.by_hand import CUT, Night, reduce
from examples.eso.simulate import (
    AIRMASS,
    BANDS,
    CHIPS,
    FLAT_SETTING,
    FLAT_WINDOW,
    SCIENCE_SETTING,
    WINDOW,
    Setting,
    main,
    make_chips,
    plan_night,
    simulate,
)
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from tests.examples.campaigns import run_campaign, take_in
from tests.examples.programs import EXAMPLES, needs

ESO = EXAMPLES / "eso"
SEED = 7
FOLDERS = {FLAT_SETTING: "dark_2.0s_x1", SCIENCE_SETTING: "dark_10.0s_x6"}


@pytest.fixture(scope="session")
def eso_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eso_night")
    planned = plan_night(seed=SEED, darks=2, flats=2, jitters=4)
    assert sum(1 for _ in simulate(planned, folder, seed=SEED)) == 16
    return folder


@pytest.fixture(scope="session")
def reduced(eso_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("esorex")
    listed = subprocess.run(["esorex", "--recipes"], capture_output=True, text=True, check=False, timeout=60)
    if "hawki_science_process" not in listed.stdout + listed.stderr:
        pytest.skip("not installed: recipes of HAWK-I (.ci/packages.txt lists the Debian packages)")
    folder = tmp_path_factory.mktemp("eso") / "by_hand"
    reduce(Night(eso_night), folder)
    return folder


def test_frames_have_the_names_and_keywords_of_the_archive(eso_night: Path) -> None:
    paths = sorted((eso_night / "raw").glob("*"))
    assert all(re.fullmatch(r"HAWKI\.2026-01-1[01]T\d\d:\d\d:\d\d\.\d{3}\.fits", path.name) for path in paths)
    kinds = []
    for path in paths:
        with fits.open(path) as hdus:
            header = hdus[0].header
            assert header["ARCFILE"] == path.name == f"HAWKI.{header['DATE-OBS']}.fits"
            assert [hdu.name for hdu in hdus[1:]] == [f"CHIP{number}.INT1" for number in (1, 2, 4, 3)]
            window = header["ESO DET WIN NX"]
            assert {hdu.shape for hdu in hdus[1:]} == {(window, window)}
        kinds.append((header["ESO DPR TYPE"], header["ESO DET DIT"], header["ESO DET NDIT"], window))
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("FLAT,TWILIGHT", 2.0, 1, FLAT_WINDOW): 4,
        ("OBJECT", 10.0, 6, WINDOW): 8,
        ("DARK", 2.0, 1, FLAT_WINDOW): 2,
        ("DARK", 10.0, 6, WINDOW): 2,
    }


def test_command_line_says_what_it_wrote_and_a_seed_gives_its_bytes(
    eso_night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--output", str(tmp_path), "--seed", str(SEED), "--darks", "0", "--flats", "0", "--jitters", "1"])
    assert capsys.readouterr().out == f"2 frames with 4 chips in {tmp_path}\n"
    for name in ("reference_stars", "photometry", "extinction_north", "extinction_south"):
        assert (tmp_path / "static" / f"{name}.fits").read_bytes() == (
            eso_night / "static" / f"{name}.fits"
        ).read_bytes()


@pytest.mark.parametrize("setting", FOLDERS, ids=FOLDERS.get)
def test_master_darks_are_the_darks_of_their_setting(setting: Setting, reduced: Path) -> None:
    for index, chip in enumerate(make_chips(SEED), start=1):
        master = fits.getdata(reduced / FOLDERS[setting] / "darkcomb.fits", index)
        off = master - chip.dark(setting)
        assert abs(np.median(off)) < 0.3
        noise = chip.read_noise / chip.gain * np.sqrt(setting.ndit / 2)
        assert 1.48 * np.median(np.abs(off)) == pytest.approx(noise, rel=0.05)


def test_gain_and_read_noise_are_those_of_the_chips(reduced: Path) -> None:
    rows = {row["EXTNAME"]: row for row in fits.getdata(reduced / "noise" / "readgain.fits", 1)}
    for chip in make_chips(SEED):
        row = rows[f"CHIP{chip.number}.INT1"]
        assert row["GAIN"] == pytest.approx(chip.gain, rel=0.02)
        assert row["READNOISE"] == pytest.approx(chip.read_noise / chip.gain, abs=0.6), "a median of whole ADU"


@pytest.mark.parametrize("band", BANDS)
def test_master_flats_are_the_response_of_their_band(band: str, reduced: Path) -> None:
    masters = sorted((reduced / f"flat_{band}").glob("*.fits"))
    assert {fits.getval(path, "ESO PRO CATG") for path in masters} == {
        "MASTER_TWILIGHT_FLAT",
        "MASTER_CONF",
        "MASTER_BPM",
    }
    for index, chip in enumerate(make_chips(SEED), start=1):
        flat = fits.getdata(reduced / f"flat_{band}" / "twilightcomb.fits", index)
        ratio = flat / chip.response[band]
        assert np.median(ratio) == pytest.approx(1, abs=0.005)
        assert 1.48 * np.median(np.abs(ratio - np.median(ratio))) < 0.01


@pytest.mark.parametrize("band", BANDS)
def test_stars_of_the_stack_are_where_and_as_bright_as_they_were_made(
    band: str, reduced: Path, eso_night: Path
) -> None:
    truth = Table.read(eso_night / "truth.ecsv")
    sky = SkyCoord(truth["ra"], truth["dec"], unit="deg")
    folder = reduced / f"science_{band}"
    seconds = fits.getval(folder / "stack_1.fits", "EXPTIME") / 4  # the recipe adds those of its frames up
    for index in range(1, len(CHIPS) + 1):
        header = fits.getheader(folder / "stack_cat_1.fits", index)
        found = fits.getdata(folder / "stack_cat_1.fits", index)
        unit = "rad" if found["RA"].max() < 7 else "deg"
        matched, distance, _ = SkyCoord(found["RA"], found["DEC"], unit=unit).match_to_catalog_sky(sky)
        well = distance.arcsec < 0.5
        assert well.sum() > 25
        assert np.sqrt(np.mean(distance.arcsec[well] ** 2)) < 0.1
        flux = found["Aper_flux_3"] / seconds
        magnitude = header["ESO QC MAGZPT"] - 2.5 * np.log10(flux) - header["APCOR3"]
        off = (magnitude - BANDS[band].extinction * (AIRMASS - 1) - truth[band][matched])[well]
        assert abs(np.median(off)) < 0.02
        assert np.percentile(np.abs(off), 90) < 0.05


@pytest.fixture(scope="session")
def site(eso_night: Path, reduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert reduced.is_dir()  # the recipes are there
    with make_site(tmp_path_factory.mktemp("eso_site") / "site", file_types=ESO / "file_types.yaml") as site:
        take_in(site, sorted((eso_night / "raw").glob("*.fits")), "raw")
        run_campaign(site, ESO / "night.yaml")
        yield site


@pytest.mark.req("X01")
def test_darks_and_flats_of_the_campaign_are_those_by_hand_to_the_bit(site: Site, reduced: Path) -> None:
    folder = Path(site.config.directory, "stores", "backbone", "hawki-n1")
    by_hand = {
        "dark/HAWKI_20260110_dark_2.0s_x1_c0001a01.fits": "dark_2.0s_x1/darkcomb.fits",
        "dark/HAWKI_20260110_dark_10.0s_x6_c0001a01.fits": "dark_10.0s_x6/darkcomb.fits",
        **{f"flat/HAWKI_20260110_{band}_flat_c0001a01.fits": f"flat_{band}/twilightcomb.fits" for band in BANDS},
        **{f"flat/HAWKI_20260110_{band}_conf_c0001a01.fits": f"flat_{band}/twilightconf.fits" for band in BANDS},
    }
    assert sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.fits")) == sorted(by_hand)
    for name, same in by_hand.items():
        for chip in range(1, len(CHIPS) + 1):
            assert np.array_equal(fits.getdata(folder / name, chip), fits.getdata(reduced / same, chip)), name


def cut(folder: Path, *paths: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CUT, *paths], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def frame(path: Path, **window: int) -> Path:
    header = fits.Header({f"HIERARCH ESO DET WIN {key}": value for key, value in window.items()})
    shape = (window.get("NY", 1), window.get("NX", 1))
    pixels = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(pixels, name="CHIP1")]).writeto(path)
    return path


def test_cut_takes_the_rows_and_columns_of_the_other_window(tmp_path: Path) -> None:
    large = frame(tmp_path / "large.fits", STARTX=11, STARTY=21, NX=8, NY=6)
    small = frame(tmp_path / "small.fits", STARTX=13, STARTY=22, NX=3, NY=2)
    done = cut(tmp_path, large, small, "cut.fits")
    assert (done.returncode, done.stderr) == (0, "")
    with fits.open(tmp_path / "cut.fits", checksum=True) as hdus:
        assert hdus["CHIP1"].data.tolist() == [[10, 11, 12], [18, 19, 20]]
        assert [hdus[0].header[f"ESO DET WIN {key}"] for key in ("STARTX", "STARTY", "NX", "NY")] == [13, 22, 3, 2]


def test_cut_refuses_a_window_that_is_not_inside_or_not_told(tmp_path: Path) -> None:
    large = frame(tmp_path / "large.fits", STARTX=11, STARTY=21, NX=8, NY=6)
    off = frame(tmp_path / "off.fits", STARTX=16, STARTY=22, NX=4, NY=2)
    silent = frame(tmp_path / "silent.fits", STARTX=16)
    for like, message in (
        (off, "cut: large.fits: the window of off.fits lies outside of it\n"),
        (silent, "cut: silent.fits: no ESO DET WIN STARTY in its header\n"),
    ):
        done = cut(tmp_path, large, like, "cut.fits")
        assert (done.returncode, done.stderr) == (1, message)
        assert not (tmp_path / "cut.fits").exists()
