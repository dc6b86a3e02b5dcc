"""The checks of HDUs, keywords, metadata and images keep the promises of every check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from pydantic import JsonValue

from nightmill.config.file_types import load_file_types
from nightmill.errors import BadFile, ConfigErrors
from nightmill.files.checks.hdus import Hdus
from nightmill.files.checks.keys import Keys
from nightmill.files.checks.not_constant import NotConstant
from nightmill.files.checks.range import Range
from nightmill.model.content import Metadata
from nightmill.testing.checks import Case, CheckConformance
from tests.files.frames import fits_bytes
from tests.files.test_checks import write


class TestHdus(CheckConformance):
    check = Hdus

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        frame = write(tmp_path / "frame.fits", fits_bytes({}, {"EXTNAME": "SCI"}, {"EXTNAME": "ERR"}))
        return [
            Case(frame, {"count": 3}),
            Case(frame, {"names": ["err", "sci"], "count": 3}),
            Case(frame, {"names": ["SCI"], "others": True}),
            Case(frame, {"names": ["SCI"]}, "other_hdus"),
            Case(frame, {"names": ["SCI", "ERR", "DQ"]}, "other_hdus"),
            Case(frame, {"names": ["SCI", "SCI"], "others": True}, "other_hdus"),
            Case(frame, {"count": 2}, "other_hdus"),
        ]


class TestKeys(CheckConformance):
    check = Keys

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        sci = {"EXTNAME": "SCI", "GAIN": 1.5, "NFRAMES": 3, "BUNIT": "ADU", "FLAT": True}
        frame = write(tmp_path / "frame.fits", fits_bytes({"ORIGIN": "x"}, sci))
        json = write(tmp_path / "frame.json", b'{"gain": 2, "unit": "ADU"}')
        right: JsonValue = {
            "GAIN": {"type": "float", "min": 1},
            "NFRAMES": {"type": "float"},
            "BUNIT": {"one_of": ["ADU", "e-"]},
        }
        return [
            Case(frame, {"keywords": ["ORIGIN"]}),
            Case(frame, {"hdu": "sci", "keywords": right}),
            Case(frame, {"hdu": 1, "keywords": {"FLAT": {"type": "bool"}}}),
            Case(json, {"keywords": {"gain": {"max": 2}}}, format="json"),
            Case(json, {"keywords": ["gains"]}, "bad_keyword", format="json"),
            Case(frame, {"hdu": "ERR", "keywords": ["GAIN"]}, "other_hdus"),
            Case(frame, {"keywords": ["GAIN"]}, "bad_keyword"),
            Case(frame, {"hdu": 1, "keywords": {"GAIN": {"type": "int"}}}, "bad_keyword"),
            Case(frame, {"hdu": 1, "keywords": {"FLAT": {"type": "int"}}}, "bad_keyword"),
            Case(frame, {"hdu": 1, "keywords": {"BUNIT": {"min": 1}}}, "bad_keyword"),
        ]


class TestRange(CheckConformance):
    check = Range

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        frame = write(tmp_path / "frame.fits", fits_bytes({}))
        found = Metadata({"band": "r", "exposure": 3}, None, None, {"airmass": 1.2})
        wanted: JsonValue = {"airmass": {"min": 1, "max": 2}, "band": {"one_of": ["g", "r"]}, "seeing": {"max": 2}}
        return [
            Case(frame, wanted, metadata=found),
            Case(frame, {"airmass": {"max": 1.1}}, "out_of_range", metadata=found),
            Case(frame, {"exposure": {"one_of": [1, 2]}}, "out_of_range", metadata=found),
        ]


def images(path: Path, *pixels: np.ndarray, packed: bool = False) -> Path:
    kind = fits.CompImageHDU if packed else fits.ImageHDU
    fits.HDUList([fits.PrimaryHDU(), *(kind(each, name=f"I{n}") for n, each in enumerate(pixels))]).writeto(path)
    return path


class TestNotConstant(CheckConformance):
    check = NotConstant

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        full, zero = np.arange(64, dtype="f4").reshape(8, 8), np.zeros((8, 8), dtype="f4")
        one, holed = zero.copy(), np.full((8, 8), np.nan, dtype="f4")
        one[7, 7] = 1
        holed[3, 3] = 5
        unsigned = np.zeros((8, 8), dtype="u2")
        both = images(tmp_path / "both.fits", full, zero)
        return [
            Case(images(tmp_path / "full.fits", full, full.astype("i2"), one)),
            Case(both, {"hdus": ["i0"]}),
            Case(write(tmp_path / "none.fits", fits_bytes({}))),
            Case(images(tmp_path / "cube.fits", np.stack([zero, one]))),
            Case(images(tmp_path / "packed.fits", full.astype("i2"), packed=True)),
            Case(both, {}, "constant"),
            Case(both, {"hdus": [2]}, "constant"),
            Case(images(tmp_path / "holed.fits", holed), {}, "constant"),
            Case(images(tmp_path / "nan.fits", zero * np.nan), {}, "constant"),
            Case(images(tmp_path / "unsigned.fits", unsigned), {}, "constant"),
            Case(images(tmp_path / "zeros.fits", unsigned.astype("i2"), packed=True), {}, "constant"),
        ]


def test_what_a_refusal_says(tmp_path: Path) -> None:
    frame = images(tmp_path / "frame.fits", np.full((8, 8), 7, dtype="u2"))
    for check, options, told in [
        (NotConstant, {}, "the_name.xyz: all 64 pixels of HDU 1 are 7; look at what the step wrote: nothing may"),
        (Hdus, {"names": ["A"]}, "the_name.xyz lacks HDU A and has HDU I0 beside them; look at what wrote it, or"),
        (Hdus, {"count": 3}, "the_name.xyz has 2 HDUs, not 3; look"),
        (
            Keys,
            {"keywords": ["GAIN", "SIMPLE"]},
            "the_name.xyz: in HDU 0, GAIN has no value; let the step write it",
        ),
        (Keys, {"hdu": "B", "keywords": ["A"]}, "the_name.xyz has not got HDU 'B' (there is 0, I0); look at the"),
    ]:
        with pytest.raises(BadFile) as caught:
            Case(frame, options).look(check)  # type: ignore[arg-type]
        assert str(caught.value).startswith(told)
    with pytest.raises(BadFile) as caught:
        Case(frame, {"a": {"max": 1}, "b": {"min": 3}}, metadata=Metadata(values={"a": 2, "b": 2})).look(Range)
    assert str(caught.value).startswith("the_name.xyz: a is 2, more than 1, and b is 2, less than 3; look at the file")


def test_a_range_of_a_key_that_the_type_has_not_got_is_refused_with_the_document(tmp_path: Path) -> None:
    path = tmp_path / "types.yaml"
    text = "file_types:\n  f:\n    format: fits\n    metadata: {airmass: {keywords: [AIRMASS], type: float}}\n"
    path.write_text(f"{text}    checks: {{warn: {{range: {{airmas: {{max: 2}}}}}}}}\n")
    with pytest.raises(ConfigErrors) as caught:
        load_file_types([path])
    assert str(caught.value) == (
        f"{path}:5: unknown key file_types.f.checks.warn.range.airmas (did you mean 'airmass'?)"
    )
    path.write_text(f"{text}    checks: {{range: {{airmass: {{max: 2}}}}}}\n")
    load_file_types([path])
