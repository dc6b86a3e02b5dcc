from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from examples.ccd.camera import make_detector
from examples.ccd.check import compare
from examples.ccd.damage import flip_bit
from tests.examples.programs import MAGNITUDES, Night, Products, run_step
from tests.examples.witnesses import must_agree


def test_masters_are_what_the_camera_has(products: Products) -> None:
    detector = make_detector(2, seed=7)
    bias, flat = fits.getdata(products.bias), fits.getdata(products.flat)
    noise = detector.read_noise / detector.gain / np.sqrt(4)
    assert np.std(bias - detector.bias) == pytest.approx(noise, rel=0.2)
    assert flat.mean() == pytest.approx(1.0, abs=1e-5)
    assert np.std(flat - detector.response["g"]) < 0.006, "three flats of 22,000 electrons: 0.4 %"


def test_masters_say_of_what_they_were_made(night: Night, products: Products) -> None:
    header = fits.getheader(products.bias)
    assert [header[f"IMCMB00{number}"] for number in range(1, 5)] == [
        path.name for path in night.frames("bias", range(1, 5), 2)
    ]
    assert (header["NCOMBINE"], header["CCDNUM"], header["IMAGETYP"]) == (4, 2, "master bias")
    assert header["DATE-OBS"] < header["DATE-END"]
    assert fits.getheader(products.flat)["FILTER"] == "g"


def test_known_stars_are_found_where_and_as_bright_as_they_are(night: Night, products: Products) -> None:
    (result,) = compare(products.catalog, Table.read(night.truth))
    assert (result.exposure, result.detector) == (11, 2)
    assert result.known >= 20
    assert result.problems() == []
    assert result.position_pixels < 0.1
    assert result.spurious <= 1


def test_cosmic_rays_are_flagged_and_replaced_only_in_the_cleaned_frame(products: Products) -> None:
    with fits.open(products.reduced) as reduced, fits.open(products.cleaned) as cleaned:
        rays = reduced["MASK"].data & 4 > 0
        assert rays.sum() == reduced[0].header["NCOSMIC"] > 20
        assert np.array_equal(reduced["MASK"].data, cleaned["MASK"].data)
        assert np.median(reduced[0].data[rays] - cleaned[0].data[rays]) > 300
        assert np.array_equal(reduced[0].data[~rays], cleaned[0].data[~rays])
        assert (reduced["MASK"].data & 1).sum() == 15, "the pixels that hardly count light"


def test_quality_agrees_with_the_catalogue(products: Products) -> None:
    quality, header = json.loads(products.quality.read_text()), fits.getheader(products.catalog)
    assert quality["stars"] == header["NSTARS"] == len(Table.read(products.catalog))
    assert quality["sky_electrons"] == pytest.approx(360, rel=0.02), "6 electrons a second for 60 s"
    assert 2.5 < quality["fwhm_pixels"] < 3.8


def test_merged_catalogue_has_the_stars_on_the_sky(night: Night, products: Products, tmp_path: Path) -> None:
    done = run_step("ccd/merge", "--output", "merged.fits", products.catalog, directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    merged, truth = Table.read(tmp_path / "merged.fits"), Table.read(night.truth)
    known = truth[(truth["exposure"] == 11) & (truth["detector"] == 2)]
    brightest = merged[np.argmin(merged["MAG"])]
    arcseconds = 3600 * np.hypot(
        (known["ra"] - brightest["RA"]) * np.cos(np.radians(brightest["DEC"])), known["dec"] - brightest["DEC"]
    )
    assert arcseconds.min() < 0.05
    assert fits.getheader(tmp_path / "merged.fits")["NDET"] == 1


def test_merging_one_detector_twice_is_refused(products: Products, tmp_path: Path) -> None:
    again = shutil.copy(products.catalog, tmp_path / "again.fits")
    done = run_step("ccd/merge", "--output", "merged.fits", products.catalog, again, directory=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "merge: not the detectors of one exposure: exposures [11], detectors [2, 2]\n"
    assert not (tmp_path / "merged.fits").exists()


def test_damaged_frame_is_refused_by_name_until_it_is_mended(night: Night, products: Products, tmp_path: Path) -> None:
    (raw,) = night.frames("science", range(11, 12), 2)
    copy = Path(shutil.copy(raw, tmp_path))
    flip_bit(copy)
    assert copy.stat().st_size == raw.stat().st_size
    arguments = [copy, "--bias", products.bias, "--flat", products.flat, "--reduced", "r.fits", "--cleaned", "c.fits"]
    done = run_step("ccd/reduce", *arguments, directory=tmp_path)
    message = f"reduce: {raw.name} was damaged after it was written: its CHECKSUM does not hold\n"
    assert (done.returncode, done.stderr) == (1, message)
    assert not (tmp_path / "r.fits").exists()
    flip_bit(copy)
    assert copy.read_bytes() == raw.read_bytes()
    assert run_step("ccd/reduce", *arguments, directory=tmp_path).returncode == 0


def test_damaged_calibration_frame_is_refused(night: Night, tmp_path: Path) -> None:
    frames = [Path(shutil.copy(path, tmp_path)) for path in night.frames("bias", range(1, 4), 1)]
    flip_bit(frames[1])
    done = run_step("ccd/combine", "--output", "bias.fits", *frames, directory=tmp_path)
    message = f"combine: {frames[1].name} was damaged after it was written: its CHECKSUM does not hold\n"
    assert (done.returncode, done.stderr) == (1, message)


def test_masters_of_another_detector_or_filter_are_refused(night: Night, products: Products, tmp_path: Path) -> None:
    outputs = ("--bias", products.bias, "--flat", products.flat, "--reduced", "r.fits", "--cleaned", "c.fits")
    for exposure, detector, message in (
        (11, 3, "reduce: bias.fits is for CCDNUM 2, the raw frame has 3\n"),
        (12, 2, "reduce: flat.fits is for FILTER g, the raw frame has r\n"),
    ):
        done = run_step(
            "ccd/reduce",
            *night.frames("science", range(exposure, exposure + 1), detector),
            *outputs,
            directory=tmp_path,
        )
        assert (done.returncode, done.stderr) == (1, message)


def test_flats_of_two_filters_are_not_combined(night: Night, products: Products, tmp_path: Path) -> None:
    frames = night.frames("flat", range(6, 10), 2)
    done = run_step("ccd/combine", "--bias", products.bias, "--output", "flat.fits", *frames, directory=tmp_path)
    assert (done.returncode, done.stderr) == (1, "combine: the frames differ in FILTER: g, r\n")


def test_frame_with_too_few_stars_is_refused(products: Products, tmp_path: Path) -> None:
    outputs = ("--catalog", "catalog.fits", "--quality", "quality.json")
    done = run_step("ccd/photometry", products.cleaned, *MAGNITUDES, "--min-stars", 5000, *outputs, directory=tmp_path)
    assert done.returncode == 1
    assert "stars, at least 5000 are wanted" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_filter_without_a_zero_point_is_refused(products: Products, tmp_path: Path) -> None:
    arguments = ("--zero-point", "r=25.2", "--extinction", "r=0.12", "--catalog", "c.fits", "--quality", "q.json")
    done = run_step("ccd/photometry", products.cleaned, *arguments, directory=tmp_path)
    assert (done.returncode, done.stderr) == (1, "photometry: no zero point or extinction was given for filter g\n")


@pytest.mark.req("B40")
def test_witnesses_agree_with_a_tracer(night: Night, tmp_path: Path) -> None:
    must_agree("ccd/calibrations.yaml", "bias", {"frames": night.frames("bias", range(1, 4), 1)}, tmp_path)
