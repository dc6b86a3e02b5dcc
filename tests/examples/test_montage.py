"""Montage: the simulated survey, its programs by hand, and the campaign that makes the same of it."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from sqlalchemy import text

from examples.montage.by_hand import FIT_TABLE, TILES, make_mosaics, pairs_of
from examples.montage.simulate import FWHM, REGION, SHAPE, main, make_sky, plan_survey, region, simulate
from examples.programs import run
from nightmill.model.states import JobState
from nightmill.operations.init import make_site
from nightmill.operations.site import Site, open_site
from provenance.lineage import lineage_of
from tests.examples.campaigns import job_lines, run_campaign, take_in
from tests.examples.programs import EXAMPLES, needs
from tests.examples.witnesses import must_agree

HERE = EXAMPLES / "montage"
USED = """
    SELECT DISTINCT file.name FROM input_use
    JOIN execution ON execution.id = input_use.execution_id
    JOIN attempt ON attempt.id = execution.attempt_id
    JOIN job ON job.id = attempt.job_id
    JOIN file ON file.id = input_use.file_id
    WHERE job.stage = :stage AND job.unit = :unit
"""
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


@pytest.fixture(scope="session")
def site(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give a site in which the campaign was run."""
    needs(*MONTAGE)
    folder = tmp_path_factory.mktemp("montage") / "sky"
    new_site(folder)
    with open_site(folder) as site:
        take_in(site, sorted((survey / "raw").glob("*.fits")), "raw")
        run_campaign(site, HERE / "mosaics.yaml")
        yield site


def new_site(folder: Path) -> None:
    """Make a site with the file types and the tiles of the example, as its page does."""
    make_site(folder, file_types=HERE / "file_types.yaml").close()
    shutil.copy(HERE / "tiles.csv", folder)
    with (folder / "nightmill.yaml").open("a") as settings:
        settings.write((HERE / "tilings.yaml").read_text())


def product(site: Site, path: str) -> Path:
    """Return where a product of the campaign lies: ``STAGE/NAME`` without campaign and attempt."""
    stem, dot, end = path.partition(".")
    stem, area, _ = stem.partition("_area")
    return site.config.directory / "stores/backbone/mosaics" / f"{stem}_c0001a01{area}{dot}{end}"


def used(site: Site, stage: str, unit: str) -> set[str]:
    """Return the files that a job used, without campaign and attempt; not what it made itself."""
    with site.database.reading() as session:
        names = session.scalars(text(USED), {"stage": stage, "unit": unit}).all()
    return {name.replace("_c0001a01", "") for name in names}


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


def test_every_job_is_done_and_a_pair_is_a_job(site: Site, mosaics: Path) -> None:
    lines = job_lines(site, "mosaics")
    assert {(line.name, line.state) for line in lines if line.state is not JobState.DONE} == set()
    assert Counter(line.stage for line in lines) == {
        "project": 6,
        "overlaps": 1,
        "difference": len(pairs_of(mosaics / "overlaps.tbl")),
        "background": 1,
        "correct": 6,
        "mosaic": 2,
    }


def test_products_are_those_of_the_programs_by_hand_pixel_by_pixel(site: Site, mosaics: Path) -> None:
    pairs = {f"mosaic/mosaic_{tile}": f"mosaics/{tile}" for tile in ("east", "west")}
    for number in range(101, 107):
        pairs[f"project/projected_0{number}"] = f"projected/survey_0{number}"
        pairs[f"correct/corrected_0{number}"] = f"corrected/survey_0{number}"
    for ours, by_hand in pairs.items():
        for end in (".fits", "_area.fits"):
            made, expected = product(site, f"{ours}{end}"), mosaics / f"{by_hand}{end}"
            assert np.array_equal(fits.getdata(made), fits.getdata(expected), equal_nan=True), ours
            assert fits.getheader(made) == fits.getheader(expected), ours
    corrections = product(site, "background/corrections.tbl")
    assert corrections.read_bytes() == (mosaics / "corrections.tbl").read_bytes()
    for fit in (mosaics / "fits").glob("*.txt"):
        one, other = fit.stem.split(".")[1:]
        assert product(site, f"difference/plane_{one}_{other}.txt").read_bytes() == fit.read_bytes()


@pytest.mark.parametrize(("tile", "columns"), [("east", slice(0, 320)), ("west", slice(280, 600))])
def test_mosaics_of_the_campaign_show_the_sky(
    site: Site, survey: Path, tmp_path: Path, tile: str, columns: slice
) -> None:
    fits.writeto(tmp_path / "truth.fits", fits.getdata(survey / "truth.fits")[:, columns])
    assert residual(product(site, f"mosaic/mosaic_{tile}.fits"), tmp_path / "truth.fits").std() < 3


@pytest.mark.req("X07")
def test_a_pair_read_its_two_images_and_their_areas_and_nothing_else(site: Site, mosaics: Path) -> None:
    table = (mosaics / "overlaps.tbl").read_text().splitlines()[2:]
    for one, other, plus, minus, _difference in map(str.split, table):
        stems = [name[7:11] for name in (plus, minus)]
        assert used(site, "difference", f"cntr1={one},cntr2={other}") == {
            f"projected_{stem}{end}" for stem in stems for end in (".fits", "_area.fits")
        }


def test_lineage_names_what_each_job_read(site: Site, mosaics: Path) -> None:
    projected = {f"projected_0{number}.fits" for number in range(101, 107)}
    planes = {f"plane_{fit.stem[5:].replace('.', '_')}.txt" for fit in (mosaics / "fits").glob("*.txt")}
    assert used(site, "project", "obs_id=103") == {"survey_0103.fits"}
    assert used(site, "overlaps", "all") == projected | {"images.tbl"}, "the second step reads the table of the first"
    assert used(site, "background", "all") == planes | {"images.tbl", "overlaps.tbl"}
    assert used(site, "correct", "obs_id=103") == {
        "projected_0103.fits",
        "projected_0103_area.fits",
        "images.tbl",
        "corrections.tbl",
    }


@pytest.mark.req("X08")
@pytest.mark.parametrize("tile", ["east", "west"])
def test_a_mosaic_is_of_the_images_that_touch_its_tile(site: Site, mosaics: Path, tile: str) -> None:
    table = (mosaics / "mosaics" / f"{tile}.tbl").read_text()
    numbers = [number for number in range(101, 107) if f"survey_0{number}.fits" in table]
    assert len(numbers) == 4
    assert used(site, "mosaic", f"tile={tile}") == {
        f"corrected_0{number}{end}" for number in numbers for end in (".fits", "_area.fits")
    }


@pytest.mark.req("B38")
def test_a_mosaic_comes_from_every_plane_and_so_from_every_image(site: Site) -> None:
    with site.database.reading() as session:
        above = lineage_of(session, "mosaic_east_c0001a01.fits", "up")
        below = lineage_of(session, "survey_0103.fits", "down")
    kinds = Counter(node.type for node in above.files.values())
    assert (kinds["raw"], kinds["plane"], kinds["corrected"]) == (6, 11, 4), "image 103 is not on the tile"
    assert {node.name for node in below.files.values() if node.type == "mosaic"} == {
        "mosaic_east_c0001a01.fits",
        "mosaic_west_c0001a01.fits",
    }


def small_image(path: Path, number: int, x: float, y: float) -> None:
    """Write an image of 60 pixels squared that begins at a place of the region."""
    header = WCS(fits.Header.fromtextfile(REGION)).to_header()
    header["CRPIX1"], header["CRPIX2"] = header["CRPIX1"] - x, header["CRPIX2"] - y
    header.update(INSTRUME="nmsurvey", OBS_ID=number)
    header["DATE-OBS"] = f"2026-02-14T02:0{number}:00"
    pixels = np.random.default_rng(number).normal(100 * number, 1, (60, 60)).astype(np.float32)
    fits.writeto(path, pixels, header)


def test_a_pair_that_shares_too_few_pixels_fails_alone(tmp_path: Path) -> None:
    needs(*MONTAGE)
    images = [tmp_path / f"image{number}.fits" for number in (1, 2, 3)]
    for number, (path, x, y) in enumerate(zip(images, (250.3, 290.6, 348.9), (200.4, 200.7, 259.2), strict=True)):
        small_image(path, number + 1, x, y)
    campaign = tmp_path / "campaign" / "mosaics.yaml"
    campaign.parent.mkdir()
    campaign.write_text(
        f"campaign: mosaics\npipeline: {HERE}/montage.yaml\noverrides: {{stages: {{background: {{when: any}}}}}}\n"
    )
    new_site(tmp_path / "sky")
    with open_site(tmp_path / "sky") as site:
        take_in(site, images, "raw")
        run_campaign(site, campaign)
        lines = {line.name: line for line in job_lines(site, "mosaics")}
        gathered = used(site, "background", "all")
    [failed] = [line for line in lines.values() if line.state is not JobState.DONE]
    assert (failed.name, failed.step, failed.fate) == ("difference/cntr1=1,cntr2=2", "fit", "step_failed")
    assert gathered == {"images.tbl", "overlaps.tbl", "plane_000000_000001.txt"}
    assert {"mosaic/tile=east", "mosaic/tile=west"} <= set(lines)


def test_corners_of_the_tiles_are_those_of_their_headers() -> None:
    with (HERE / "tiles.csv").open() as table:
        rows = [(row["tile"], float(row["ra"]), float(row["dec"])) for row in csv.DictReader(table)]
    expected = []
    for path in sorted(TILES.glob("*.hdr")):
        header = fits.Header.fromtextfile(path)
        expected += [(path.stem, *corner) for corner in WCS(header).calc_footprint(header, center=False)]
    assert [tile for tile, *_ in rows] == [tile for tile, *_ in expected]
    assert np.allclose([row[1:] for row in rows], [row[1:] for row in expected], rtol=0, atol=1e-7)


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


@pytest.mark.req("B40")
def test_witnesses_of_montage_agree_with_a_tracer(survey: Path, tmp_path: Path) -> None:
    needs("mProject")
    must_agree("montage/montage.yaml", "project", {"image": sorted((survey / "raw").glob("*.fits"))[:1]}, tmp_path)
