"""Montage: the simulated survey, and its programs by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from examples.montage.by_hand import FIT_TABLE, make_mosaics, pairs_of
from examples.montage.simulate import FWHM, SHAPE, main, make_sky, plan_survey, region, simulate
from examples.programs import run
from tests.examples.programs import needs

MONTAGE = ("mProject", "mImgtbl", "mOverlaps", "mDiff", "mFitplane", "mFitExec", "mBgModel", "mBackground", "mAdd")


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    assert sum(1 for _ in simulate(plan_survey(7), folder, seed=7)) == 6
    return folder


@pytest.fixture(scope="session")
def mosaics(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs(*MONTAGE)
    folder = tmp_path_factory.mktemp("mosaics") / "by_hand"
    make_mosaics(sorted((survey / "raw").glob("*.fits")), folder)
    return folder


def residual(mosaic: Path, truth: Path) -> NDArray[np.float64]:
    """Give a mosaic of the region away from its stars, less the sky and less a plane."""
    sky = fits.getdata(truth).astype(float)
    more = fits.getdata(mosaic) - sky
    rows, columns = np.indices(sky.shape)
    dark = np.isfinite(more) & (sky < 65)
    basis = np.column_stack([np.ones(dark.sum()), rows[dark], columns[dark]])
    plane, *_ = np.linalg.lstsq(basis, more[dark], rcond=None)
    return np.asarray(more[dark] - basis @ plane)


def test_images_overlap_and_each_has_its_own_background(survey: Path) -> None:
    levels = [np.median(fits.getdata(path)) for path in sorted((survey / "raw").glob("*.fits"))]
    assert len(levels) == 6
    assert min(np.diff(np.sort(levels))) > 5
    headers = [fits.getheader(path) for path in sorted((survey / "raw").glob("*.fits"))]
    assert [header["OBS_ID"] for header in headers] == [101, 102, 103, 104, 105, 106]
    assert {header["NAXIS1"] for header in headers} == {SHAPE[1]}


def test_same_seed_same_images_and_other_seed_others(survey: Path, tmp_path: Path) -> None:
    for seed in (7, 8):
        for _ in simulate(plan_survey(seed)[:1], tmp_path / str(seed), seed=seed):
            pass
    name = "raw/survey_0101.fits"
    assert (tmp_path / "7" / name).read_bytes() == (survey / name).read_bytes()
    assert (tmp_path / "8" / name).read_bytes() != (survey / name).read_bytes()


def test_command_line_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--output", str(tmp_path)])
    assert capsys.readouterr().out == f"6 images in {tmp_path}\n"


def test_background_model_takes_the_seams_away(mosaics: Path, survey: Path) -> None:
    assert residual(mosaics / "uncorrected.fits", survey / "truth.fits").std() > 50
    assert residual(mosaics / "region.fits", survey / "truth.fits").std() < 3


def test_stars_keep_their_light(mosaics: Path, survey: Path) -> None:
    wcs, shape = region()
    stars = make_sky(7)
    x, y = wcs.all_world2pix(stars["ra"], stars["dec"], 0)
    image = fits.getdata(mosaics / "region.fits") - fits.getdata(survey / "truth.fits").astype(float)
    rows, columns = np.indices(shape)
    bright = stars["light"] > 2e4
    inside = (x > 60) & (x < shape[1] - 60) & (y > 60) & (y < shape[0] - 60)
    ratios = []
    for east, north, light in zip(*(column[bright & inside] for column in (x, y, stars["light"])), strict=True):
        distance = np.hypot(columns - east, rows - north)
        sky = np.nanmedian(image[(distance > 4 * FWHM) & (distance < 5 * FWHM)])
        ratios.append(1 + np.sum(image[distance < 3 * FWHM] - sky) / light)
    assert len(ratios) > 10
    assert np.abs(np.array(ratios) - 1).max() < 0.03


def test_tiles_are_cut_from_one_mosaic_to_the_bit(mosaics: Path) -> None:
    whole = fits.getdata(mosaics / "region.fits")
    east, west = (fits.getdata(mosaics / "mosaics" / f"{tile}.fits") for tile in ("east", "west"))
    assert np.array_equal(east, whole[:, :320], equal_nan=True)
    assert np.array_equal(west, whole[:, 280:], equal_nan=True)
    tables = [(mosaics / "mosaics" / f"{tile}.tbl").read_text() for tile in ("east", "west")]
    shared = [number for number in range(101, 107) if all(f"survey_0{number}.fits" in table for table in tables)]
    assert shared == [102, 105], "the images of the middle"


def test_fit_table_is_that_of_montage_to_the_byte(mosaics: Path, tmp_path: Path) -> None:
    run("mFitExec", mosaics / "overlaps.tbl", tmp_path / "fits.tbl", mosaics / "differences", directory=tmp_path)
    assert (mosaics / "fits.tbl").read_bytes() == (tmp_path / "fits.tbl").read_bytes()


def test_pairs_come_in_the_order_of_the_names(mosaics: Path) -> None:
    pairs = [(pair.plus, pair.minus) for pair in pairs_of(mosaics / "overlaps.tbl")]
    assert pairs == sorted(pairs)
    assert all(plus < minus for plus, minus in pairs)


OVERLAPS = """\
| cntr1 | cntr2 |            plus |           minus |         diff             |
| int   | int   |            char |            char |         char             |
       0       1           a.fits           b.fits  diff.000000.000001.fits
       0       2           a.fits           c.fits  diff.000000.000002.fits
"""
GOOD = (
    '[struct stat="OK", module="mFitplane", a=0.5, b=-1e-05, c=-161.1, crpix1=1, crpix2=2, xmin=-1.5, xmax=2, ymin=3, '
    "ymax=4, xcenter=5, ycenter=6, npixel=7, rms=1.3, boxx=8, boxy=9, boxwidth=10, boxheight=11, boxang=12]\n"
)


def fit_table(folder: Path, *fitted: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FIT_TABLE, "overlaps.tbl", *fitted, "--output", "fits.tbl"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_pair_whose_fit_failed_has_no_line(tmp_path: Path) -> None:
    (tmp_path / "overlaps.tbl").write_text(OVERLAPS)
    (tmp_path / "diff.000000.000001.txt").write_text(GOOD)
    (tmp_path / "diff.000000.000002.txt").write_text('[struct stat="ERROR", msg="Too few pixels to fit"]\n')
    done = fit_table(tmp_path, "diff.000000.000001.txt", "diff.000000.000002.txt")
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "fits.tbl").read_text().splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [["0", "1", "5.00000e-01", "-1.00000e-05"]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", GOOD, "fit_table: x.txt: overlaps.tbl has no difference of this name\n"),
        ("diff.000000.000001.txt", '[struct stat="OK", a=1]', "fit_table: diff.000000.000001.txt: b is missing\n"),
        ("diff.000000.000001.txt", None, "fit_table: diff.000000.000001.txt: No such file or directory\n"),
    ],
)
def test_fit_table_tells_what_does_not_fit(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "overlaps.tbl").write_text(OVERLAPS)
    if text is not None:
        (tmp_path / name).write_text(text)
    done = fit_table(tmp_path, name)
    assert (done.returncode, done.stderr) == (1, message)
    assert not (tmp_path / "fits.tbl").exists()


def test_program_that_fails_or_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"mNothing is not installed; \.ci/packages\.txt lists the Debian packages"):
        run("mNothing", directory=tmp_path)
    with pytest.raises(RuntimeError, match=r"ls ended with 2 in .*:\n.*no_such_file"):
        run("ls", "no_such_file", directory=tmp_path)
