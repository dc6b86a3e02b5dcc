"""How the content of two FITS files differs; what is not FITS, or is broken, has bytes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from nightmill.files.comparison import Tolerance, content_differences

PIXELS = np.arange(16, dtype="float32").reshape(4, 4)


def image(path: Path, pixels: Any = PIXELS, **cards: object) -> Path:
    fits.PrimaryHDU(pixels, fits.Header(list(cards.items()))).writeto(path)
    return path


OTHER = {
    "same": PIXELS,
    "brighter": PIXELS + np.eye(4, dtype="float32"),
    "unknown": PIXELS * np.nan,
    "smaller": PIXELS[:2],
    "none": None,
}


@pytest.mark.parametrize(
    ("pixels", "cards", "told"),
    [
        ("same", {"GAIN": 1.0}, []),
        ("same", {"GAIN": 2.0}, ["HDU 0: GAIN: 1.0, now 2.0"]),
        ("same", {"GAIN": 1.0, "NEW": "x"}, ["HDU 0: NEW: now added"]),
        ("same", {}, ["HDU 0: GAIN: now gone"]),
        ("brighter", {"GAIN": 1.0}, ["HDU 0: 4 pixels differ (25.000%), by 1 at most"]),
        ("unknown", {"GAIN": 1.0}, ["HDU 0: 16 pixels differ (100.000%)"]),
        ("smaller", {"GAIN": 1.0}, ["HDU 0: NAXIS2: 4, now 2", "HDU 0: shape: (4, 4), now (2, 4)"]),
        ("none", {"GAIN": 1.0, "TEXT": "x" * 60}, ["HDU 0: BITPIX: -32, now 8"]),
    ],
)
def test_images(tmp_path: Path, pixels: str, cards: dict[str, object], told: list[str]) -> None:
    before, after = image(tmp_path / "a.fits", GAIN=1.0), image(tmp_path / "b.fits", OTHER[pixels], **cards)
    found = content_differences(before, after)
    assert found is not None
    assert found[: len(told)] == told
    assert bool(found) == bool(told)


def test_nan_equals_nan_and_what_is_ignored_does_not_count(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[0, 0] = np.nan
    one, two = tmp_path / "a.fits", tmp_path / "b.fits"
    for path, date in ((one, "2026-01-01"), (two, "2026-02-02")):
        hdu = fits.PrimaryHDU(pixels, fits.Header([("DATE", date)]))
        hdu.writeto(path, checksum=True)
    assert content_differences(one, two) == ["HDU 0: DATE: '2026-01-01', now '2026-02-02'"]
    assert content_differences(one, two, ignored=["DATE"]) == []


def test_tables(tmp_path: Path) -> None:
    paths = []
    for name, flux, more in (("a", [1.0, 2.0], {}), ("b", [1.0, 3.0], {}), ("c", [1.0, 2.0], {"x": [1, 2]})):
        columns = [fits.Column("flux", "D", array=np.array(flux))]
        columns += [fits.Column(key, "J", array=np.array(values)) for key, values in more.items()]
        paths.append(tmp_path / name)
        fits.BinTableHDU.from_columns(columns).writeto(paths[-1])
    assert content_differences(paths[0], paths[1]) == ["HDU 1: 1 values of its table differ"]
    found = content_differences(paths[0], paths[2])
    assert found is not None
    assert "HDU 1: column x: now added" in found


def test_other_hdus(tmp_path: Path) -> None:
    one = image(tmp_path / "a.fits")
    fits.HDUList([fits.PrimaryHDU(PIXELS), fits.ImageHDU(PIXELS, name="MASK")]).writeto(tmp_path / "b.fits")
    found = content_differences(one, tmp_path / "b.fits")
    assert found is not None
    assert found[0] == "HDUs: 1, now 2"


@pytest.mark.parametrize(
    "content", [b"", b"text", b"SIMPLE  =", b"SIMPLE  = T" + b" " * 5000, b"SIMPLE  =" + b"\xff" * 2871]
)
def test_what_cannot_be_read_has_bytes_alone(tmp_path: Path, content: bytes) -> None:
    one = image(tmp_path / "a.fits")
    (tmp_path / "b.fits").write_bytes(content)
    assert content_differences(one, tmp_path / "b.fits") is None
    assert content_differences(tmp_path / "b.fits", one) is None


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    one = image(tmp_path / "a.fits", np.zeros((400, 400)))
    (tmp_path / "b.fits").write_bytes(one.read_bytes()[:2880])
    assert content_differences(one, tmp_path / "b.fits") is None


def test_many_keywords_are_told_shortly(tmp_path: Path) -> None:
    one = image(tmp_path / "a.fits", **{f"KEY{n}": n for n in range(50)})
    two = image(tmp_path / "b.fits", **{f"KEY{n}": n + 1 for n in range(50)})
    found = content_differences(one, two)
    assert found is not None
    assert found[-1] == "HDU 0: and 30 more keywords differ"


def test_numbers_may_differ_by_as_much_as_is_said(tmp_path: Path) -> None:
    one, two = image(tmp_path / "a.fits", GAIN=1.0), image(tmp_path / "b.fits", PIXELS * 1.001, GAIN=1.0005)
    assert content_differences(one, two, tolerance=Tolerance(0.01)) == []
    found = content_differences(one, two, tolerance=Tolerance(1e-4))
    assert found is not None
    assert found[0] == "HDU 0: GAIN: 1.0, now 1.0005"


def test_columns_may_have_a_tolerance_of_their_own(tmp_path: Path) -> None:
    paths = []
    for name, flux, mag in (("a", 1.0, 20.0), ("b", 1.01, 20.0), ("c", 1.01, 20.1), ("d", None, 20.0)):
        columns = {"MAG": [mag, np.nan], "NAME": ["x", "y"]} | ({} if flux is None else {"FLUX": [flux, 2.0]})
        Table(columns).write(path := tmp_path / f"{name}.fits")
        paths.append(path)
    loose = Tolerance(columns={"flux": 0.1, "name": 0.0})
    one, fainter, other, without = paths
    assert content_differences(one, fainter) == ["HDU 1: 1 values of its table differ"]
    assert content_differences(one, fainter, tolerance=loose) == []
    assert content_differences(one, fainter, tolerance=Tolerance(columns={"flux": 1e-3})) == [
        "HDU 1: 1 values of column flux differ by over 0.001 of them"
    ]
    assert content_differences(one, other, tolerance=loose) == ["HDU 1: 1 values of its table differ"]
    found = content_differences(one, without, tolerance=loose)
    assert found is not None
    assert "HDU 1: column flux: now gone" in found
