from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from examples.ccd.camera import SHAPE, make_detector
from examples.ccd.simulate import main, plan_night, simulate
from examples.stars import star_light
from tests.examples.programs import Night


def test_there_is_a_file_for_each_exposure_and_detector_with_its_headers(night: Night) -> None:
    frames = sorted(night.folder.glob("*/*.fits"))
    assert [len(list(night.folder.glob(f"{kind}/*"))) for kind in ("bias", "flat", "science")] == [16, 24, 8]
    headers = [fits.getheader(path) for path in frames]
    assert {(header["EXPNUM"], header["CCDNUM"]) for header in headers} == {
        (exposure, detector) for exposure in range(1, 13) for detector in range(1, 5)
    }
    for header in headers:
        assert (header["INSTRUME"], header["BITPIX"], header["BZERO"]) == ("nmcam", 16, 32768)
        assert header["DATE-OBS"][:10] in ("2026-01-10", "2026-01-11")
        assert {"GAIN", "RDNOISE", "EXPTIME", "OBSTYPE", "IMAGETYP", "FILTER", "CHECKSUM"} <= set(header)


def test_checksums_hold(night: Night) -> None:
    for path in sorted(night.folder.glob("*/*_03.fits")):
        with fits.open(path, checksum=True) as hdus:
            assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1


def test_same_seed_same_bytes_and_other_seed_other_bytes(night: Night, tmp_path: Path) -> None:
    for seed in (7, 8):
        exposures = plan_night(20260110, seed=seed, first=1, biases=4, flats=3, exposures=1, seconds=60.0)
        for _ in simulate(exposures[-1:], tmp_path / str(seed), seed=seed):
            pass
    name = "science/nmcam_00000011_04.fits"
    original = (night.folder / name).read_bytes()
    assert (tmp_path / "7" / name).read_bytes() == original
    assert (tmp_path / "8" / name).read_bytes() != original


def test_known_places_agree_with_the_wcs_of_the_headers(night: Night) -> None:
    truth = Table.read(night.truth)
    for detector in range(1, 5):
        (path,) = night.frames("science", range(12, 13), detector)
        stars = truth[(truth["exposure"] == 12) & (truth["detector"] == detector)]
        assert len(stars) > 40
        x, y = WCS(fits.getheader(path)).all_world2pix(stars["ra"], stars["dec"], 1)
        assert np.abs(x - stars["x"]).max() < 0.002
        assert np.abs(y - stars["y"]).max() < 0.002


def test_noise_of_biases_is_the_read_noise_of_their_header(night: Night) -> None:
    paths = night.frames("bias", range(1, 3), 1)
    first, second = (fits.getdata(path).astype(float) for path in paths)
    header = fits.getheader(paths[0])
    assert np.std(first - second) / np.sqrt(2) == pytest.approx(header["RDNOISE"] / header["GAIN"], rel=0.03)


def test_light_of_a_star_is_conserved_and_centred() -> None:
    image = star_light(np.array([100.25]), np.array([80.5]), np.array([5000.0]), fwhm=3.0, shape=SHAPE)
    rows, columns = np.indices(SHAPE)
    assert image.sum() == pytest.approx(5000.0)
    assert (image * (columns + 1)).sum() / image.sum() == pytest.approx(100.25)
    assert (image * (rows + 1)).sum() / image.sum() == pytest.approx(80.5)


def test_detectors_differ_and_their_responses_have_the_mean_1() -> None:
    one, two = make_detector(1, seed=7), make_detector(2, seed=7)
    assert one.gain != two.gain
    for band in ("g", "r"):
        assert one.response[band].mean() == pytest.approx(1.0)
    assert np.abs(one.response["g"] - one.response["r"]).max() > 0.03, "dust sits on the filter"


def test_command_line_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--output", str(tmp_path), "--biases", "1", "--flats", "0", "--exposures", "1", "--night", "20270203"])
    assert capsys.readouterr().out == f"8 frames of 2 exposures with 4 detectors in {tmp_path}\n"
    assert fits.getheader(tmp_path / "science" / "nmcam_00005002_01.fits")["DATE-OBS"] == "2027-02-04T01:00:00.000"
