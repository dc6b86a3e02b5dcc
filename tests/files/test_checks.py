"""The checks that come with nightmill keep the promises of every check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from nightmill.errors import BadFile
from nightmill.files.checks.finite import Finite
from nightmill.files.checks.same_shape import SameShape
from nightmill.files.checks.signed import Checksum
from nightmill.files.checks.size import MinBytes, MinHdus
from nightmill.model.content import StepInput
from nightmill.testing.checks import Case, CheckConformance
from tests.files.frames import fits_bytes


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def image(path: Path, shape: tuple[int, ...], *, bad: int = 0, packed: bool = False) -> Path:
    """Write an image of which the first pixels are NaN."""
    pixels = np.ones(shape, dtype=np.float32)
    pixels.flat[:bad] = np.nan
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(pixels)] if packed else [fits.PrimaryHDU(pixels)]
    fits.HDUList(hdus).writeto(path)
    return path


class TestMinBytes(CheckConformance):
    check = MinBytes

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        notes, empty = write(tmp_path / "notes", b"abc"), write(tmp_path / "empty", b"")
        return [
            Case(notes, 3, format="any"),
            Case(empty, 0, format="any"),
            Case(notes, 4, "too_small", format="any"),
            Case(empty, 1, "empty", format="any"),
        ]


class TestMinHdus(CheckConformance):
    check = MinHdus

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        frame = write(tmp_path / "frame.fits", fits_bytes({}, {"EXTNAME": "A"}))
        return [Case(frame, 2), Case(frame, 3, "too_few_hdus")]


class TestChecksum(CheckConformance):
    check = Checksum

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        without = write(tmp_path / "without.fits", fits_bytes({}))
        signed = write(tmp_path / "signed.fits", fits_bytes({}, checksum=True))
        return [
            Case(signed, "required"),
            Case(without, "if_present"),
            Case(without, "ignored"),
            Case(without, "required", "bad_checksum"),
        ]


class TestFinite(CheckConformance):
    check = Finite

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        good, bad = image(tmp_path / "good.fits", (10, 10)), image(tmp_path / "bad.fits", (10, 10), bad=25)
        packed = image(tmp_path / "packed.fits", (32, 32), bad=32, packed=True)
        whole_numbers = write(tmp_path / "whole.fits", fits_bytes({}, {"EXTNAME": "A"}))
        blank = fits.ImageHDU(np.arange(16, dtype="i2").reshape(4, 4))
        blank.header["BLANK"] = 3
        fits.HDUList([fits.PrimaryHDU(), blank]).writeto(tmp_path / "blank.fits")
        fits.PrimaryHDU(np.ones((4, 4), dtype="u2")).writeto(tmp_path / "unsigned.fits")
        return [
            Case(good),
            Case(whole_numbers),
            Case(tmp_path / "unsigned.fits"),
            Case(tmp_path / "blank.fits", {"max_fraction": 0.07}),
            Case(tmp_path / "blank.fits", refused="not_finite"),
            Case(image(tmp_path / "line.fits", (7,))),
            Case(image(tmp_path / "line-bad.fits", (7,), bad=1), refused="not_finite"),
            Case(bad, {"max_fraction": 0.25}),
            Case(bad, {"max_fraction": 0.24}, "not_finite"),
            Case(packed, refused="not_finite"),
        ]


class TestSameShape(CheckConformance):
    check = SameShape

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        raw = str(image(tmp_path / "raw.fits", (20, 10)))
        packed = str(image(tmp_path / "packed.fits", (20, 10), packed=True))
        same, other = image(tmp_path / "same.fits", (20, 10)), image(tmp_path / "other.fits", (10, 20))
        inputs = (StepInput("raw.fits", "raw", "raw", raw), StepInput("p.fits", "packed", "raw", packed))
        return [
            Case(same, {"role": "raw"}, inputs=inputs),
            Case(same, {"role": "packed"}, inputs=inputs),
            Case(other, {"role": "raw"}, "other_shape", inputs=inputs),
            Case(other, {"role": "packed"}, "other_shape", inputs=inputs),
            Case(write(tmp_path / "none.fits", fits_bytes({})), {"role": "raw"}, "other_shape", inputs=inputs),
        ]


def test_what_a_refusal_says(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as caught:
        Case(image(tmp_path / "bad.fits", (10, 10), bad=25)).look(Finite)
    assert str(caught.value) == (
        "the_name.xyz: 25% of the 100 pixels of HDU 0 are not finite, at most 0% may be; look at the file, or"
        " raise max_fraction of check 'finite' in its type"
    )
    raw = StepInput("raw.fits", "raw", "raw", str(image(tmp_path / "raw.fits", (4, 5))))
    with pytest.raises(BadFile) as caught:
        Case(image(tmp_path / "cut.fits", (4, 4)), {"role": "raw"}, inputs=(raw,)).look(SameShape)
    assert str(caught.value).startswith("the_name.xyz is 4 × 4 pixels, and raw.fits (raw), of which it was made, 5 × 4")
    with pytest.raises(BadFile, match="reads nothing with the role 'bias'; roles of what it reads: raw"):
        Case(tmp_path / "cut.fits", {"role": "bias"}, inputs=(raw,)).look(SameShape)
