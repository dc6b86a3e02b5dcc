from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from examples.real import collect as collecting
from examples.real.collect import Frame, collect, main
from tests.examples.programs import run_step


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    collect(folder)
    return folder


def test_frames_are_copied_out_of_their_packages(frames: Path) -> None:
    assert fits.getheader(frames / "saao" / "a8280271.fits")["INSTRUME"] == "STE3 CCD"
    assert fits.getheader(frames / "gmos" / "gmos.fits")["INSTRUME"] == "GMOS-S"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame("x", "no_such_package", "a.fits"), "collect: package no_such_package is not installed; install it"),
        (Frame("x", "ccdproc", "tests/data/none.fits"), "collect: package ccdproc has no tests/data/none.fits in "),
    ],
)
def test_missing_package_or_file_is_told(
    frame: Frame, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "FRAMES", (*collecting.FRAMES, frame))
    with pytest.raises(SystemExit, match=message):
        main(["--output", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_the_two_cosmic_rays_of_the_gmos_frame_are_found(frames: Path, tmp_path: Path) -> None:
    done = run_step(
        "real/clean", frames / "gmos" / "gmos.fits", "--read-noise", 4.24, "--output", "c.fits", directory=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    rays = fits.getdata(tmp_path / "c.fits", 2) > 0
    for rows, columns in ((slice(41, 72), slice(142, 161)), (slice(117, 147), slice(35, 43))):
        assert rays[rows, columns].sum() > 60
        rays[rows, columns] = False
    assert not rays.any()


def test_the_stars_of_the_saao_frame_are_found(frames: Path, tmp_path: Path) -> None:
    for program, *arguments in (
        ("real/clean", frames / "saao" / "a8280271.fits", "--output", "cleaned.fits"),
        ("real/detect", "cleaned.fits", "--output", "catalog.fits"),
    ):
        done = run_step(str(program), *arguments, directory=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert fits.getdata(tmp_path / "cleaned.fits", 1).shape == (520, 512), "trimmed as TRIMSEC says"
    table = Table.read(tmp_path / "catalog.fits")
    assert set(table["FRAME"]) == {"a8280271.fits"}
    bright = table[table["FLUX"] > 1e5]
    assert np.allclose([(row["X"], row["Y"]) for row in bright], [(435.8, 434.3), (154.2, 39.3)], atol=0.5)


def test_frame_without_an_image_is_refused(tmp_path: Path) -> None:
    fits.PrimaryHDU(header=fits.Header({"INSTRUME": "x", "DATE-OBS": "2026-01-01", "UT": "00:00:00"})).writeto(
        tmp_path / "empty.fits"
    )
    done = run_step("real/clean", "empty.fits", "--output", "cleaned.fits", directory=tmp_path)
    assert (done.returncode, done.stderr) == (1, "clean: empty.fits: no HDU holds an image\n")
    assert not (tmp_path / "cleaned.fits").exists()
