"""What a step leaves that exits with 0 and made nothing of use: none of it becomes visible."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from nightmill.errors import BadFile
from nightmill.files.inspection import inspect_file
from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType
from nightmill.model.order import JobOrder
from tests.execution.failing import must_fail
from tests.support.orders import Bench, fits_bytes, output, shell

BLOCK = 2880


def written(*hdus: fits.hdu.base.ExtensionHDU, checksum: bool = False) -> bytes:
    buffer = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(buffer, checksum=checksum)
    return buffer.getvalue()


def whole() -> bytes:
    """Make a file of an image of several blocks and a table."""
    pixels = np.arange(4096, dtype="f4").reshape(64, 64)
    stars = Table({"id": np.arange(400), "flux": np.linspace(1, 2, 400)})
    return written(fits.ImageHDU(pixels, name="SCI"), fits.BinTableHDU(stars, name="STARS"))


def refusal(tmp_path: Path, data: bytes, format: str = "fits", **checks: Any) -> BadFile:
    path = tmp_path / "made"
    path.write_bytes(data)
    with pytest.raises(BadFile) as caught:
        inspect_file(path, FileType.model_validate({"name": "made", "format": format, "checks": checks}))
    return caught.value


LAYOUT: dict[str, Any] = {"hdus": {"names": ["SCI", "STARS"]}, "rows": {"table": "STARS", "min": 400}}


@pytest.mark.req("B42")
def test_a_file_that_is_cut_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    data = whole()
    places = [cut for block in range(0, len(data), BLOCK) for cut in (block, block + 1, block + 80, block + 2879)]
    for cut in places:
        error = refusal(tmp_path, data[:cut], **LAYOUT)
        assert error.reason in {"empty", "truncated", "not_fits", "trailing_bytes", "other_hdus"}, (cut, str(error))
    packed = gzip.compress(data, mtime=0)
    for cut in (*range(0, len(packed), 997), len(packed) - 1, len(packed) - 8):
        error = refusal(tmp_path, packed[:cut], **LAYOUT)
        assert error.reason in {"empty", "truncated", "not_fits", "bad_compression"}, (cut, str(error))
    path = tmp_path / "made"
    path.write_bytes(packed)
    inspect_file(path, FileType.model_validate({"name": "made", "format": "fits", "checks": LAYOUT}))


def card(data: bytes, keyword: str, value: int, *, after: bytes = b"XTENSION") -> bytes:
    """Let a header lie: give another whole number to a keyword of the first extension."""
    start = data.index(after)
    place = data.index(f"{keyword:8}=".encode(), start)
    return data[:place] + f"{keyword:8}= {value:>20d}".encode().ljust(80) + data[place + 80 :]


def without_end(data: bytes) -> bytes:
    place = data.index(b"END" + b" " * 77, data.index(b"XTENSION"))
    return data[:place] + b" " * 80 + data[place + 80 :]


def half(data: bytes) -> bytes:
    """Leave out the last block of an extension, as a merge of a file that was being written does."""
    place = data.rindex(b"XTENSION")
    return data[: place - BLOCK] + data[place:]


LIES: Mapping[str, tuple[Callable[[bytes], bytes], str]] = {
    "more rows than there are": (lambda data: card(data, "NAXIS2", 6400), "truncated"),
    "fewer rows than there are": (lambda data: card(data, "NAXIS2", 1), "trailing_bytes"),
    "a negative axis": (lambda data: card(data, "NAXIS1", -64), "bad_header"),
    "an axis beyond everything": (lambda data: card(data, "NAXIS1", 10**18), "truncated|bad_header"),
    "another size of pixels": (lambda data: card(data, "BITPIX", 13), "bad_header"),
    "no END": (without_end, "bad_header|truncated"),
    "a broken extension in the middle": (lambda data: data.replace(b"XTENSION", b"XTENSIOM", 1), "trailing_bytes"),
    "half an extension copied": (half, "trailing_bytes|truncated|bad_header"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_whose_headers_lie_is_refused(tmp_path: Path, lie: str) -> None:
    made, reason = LIES[lie]
    error = refusal(tmp_path, made(whole()))
    assert re.fullmatch(reason, error.reason), str(error)


def test_pixels_that_changed_after_they_were_signed_are_refused(tmp_path: Path) -> None:
    data = bytearray(written(fits.ImageHDU(np.ones((64, 64), dtype="f4")), checksum=True))
    data[-BLOCK] ^= 1
    assert refusal(tmp_path, bytes(data)).reason == "bad_checksum"


EMPTY: Mapping[str, tuple[np.ndarray, str]] = {
    "zeros": (np.zeros((32, 32), dtype="f4"), "constant"),
    "whole zeros": (np.zeros((32, 32), dtype="i2"), "constant"),
    "unsigned": (np.full((32, 32), 40_000, dtype="u2"), "constant"),
    "nan": (np.full((32, 32), np.nan, dtype="f4"), "constant"),
    "half nan": (np.where(np.arange(1024).reshape(32, 32) % 2, np.nan, 1.0), "constant"),
}


@pytest.mark.parametrize("what", EMPTY)
def test_an_image_in_which_nothing_is_is_refused(tmp_path: Path, what: str) -> None:
    pixels, reason = EMPTY[what]
    error = refusal(tmp_path, written(fits.ImageHDU(pixels)), not_constant={}, finite={})
    assert error.reason in (reason, "not_finite")
    assert ("2 things are wrong" in str(error)) == ("nan" in what)


def parquet(rows: int) -> bytes:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    buffer = BytesIO()
    table = arrow.table({"id": list(range(rows)), "flux": [float(number) for number in range(rows)]})
    files.write_table(table, buffer, write_page_checksum=True, compression="none", use_dictionary=False)
    return buffer.getvalue()


def test_a_table_that_is_cut_or_damaged_is_refused(tmp_path: Path) -> None:
    data = parquet(5000)
    for cut in (1, 4, 9, len(data) // 2, len(data) - 4, len(data) - 1):
        assert refusal(tmp_path, data[:cut], "parquet").reason in {"not_of_format", "truncated"}
    damaged = bytearray(data)
    damaged[len(data) // 4] ^= 0xFF
    error = refusal(tmp_path, bytes(damaged), "parquet", columns={"columns": {"id": "int", "flux": "float"}})
    assert error.reason == "no_rows"
    csv = b"id,flux\n1,2.5\n2,3.5\n3,4"
    for text, told in (
        (csv[:-2], "row 3 has 1 values"),
        (csv[:-1], "column 'flux' has '' in row 3|lack a finite value"),
    ):
        error = refusal(tmp_path, text, "csv", rows={"min": 3}, no_nan={"columns": "flux"})
        assert re.search(told, str(error)), str(error)


SCRIPTS: Mapping[str, tuple[str, str]] = {
    "cut": ("head -c 8640 ../inputs/raw.fits > image.fits", "image.fits is cut off"),
    "zeros": ("cp ../inputs/zero.fits image.fits", "all 1,024 pixels of HDU 0 are 0"),
    "nothing": (": > image.fits", "image.fits is empty"),
    "twice": ("cat ../inputs/raw.fits ../inputs/raw.fits > image.fits", "image.fits"),
}


@pytest.fixture
def order(bench: Bench) -> Callable[[str], JobOrder]:
    """Give what makes an order of a script that leaves an image."""
    buffer = BytesIO()
    fits.PrimaryHDU(np.zeros((32, 32), dtype="f4")).writeto(buffer)
    raw = bench.put("raw.fits", fits_bytes(size=64), role="raw")
    zero = bench.put("zero.fits", buffer.getvalue(), role="zero")

    def make(script: str) -> JobOrder:
        image = output("image", "image.fits", type="image")
        made = bench.order(shell("s", script, image, inputs=("raw.fits", "zero.fits")), inputs=(raw, zero))
        checked = FileType.model_validate({"name": "image", "format": "fits", "checks": {"not_constant": {}}})
        return made.model_copy(update={"file_types": {**made.file_types, "image": checked}})

    return make


@pytest.mark.req("B42")
@pytest.mark.parametrize("what", SCRIPTS)
def test_nothing_of_a_step_that_exits_with_0_and_made_nothing_of_use_is_visible(
    bench: Bench, order: Callable[[str], JobOrder], what: str
) -> None:
    script, told = SCRIPTS[what]
    must_fail(bench, order(script), Fate.BAD_OUTPUT, told)
