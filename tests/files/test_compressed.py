from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightmill.errors import BadFile
from nightmill.files.formats import compressed
from nightmill.files.formats.fits import Fits
from nightmill.files.inspection import inspect_file
from nightmill.model.file_type import FileType
from tests.files.frames import fits_bytes, raw_header

WHOLE = fits_bytes({"OBJECT": "M 67"}, {"EXTNAME": "A"}, pixels=2000, checksum=True)
gz = partial(gzip.compress, mtime=0)  # the names of tests hold what it makes
PACK: dict[str, Callable[[bytes], bytes]] = {"gz": gz, "bz2": bz2.compress}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.decompress, "bz2": bz2.decompress}
TYPE = FileType.model_validate(
    {
        "name": "frame",
        "format": "fits",
        "metadata": {"object": {"keywords": ["OBJECT"], "required": True}},
        "checks": {"checksum": "required"},
    }
)
in_one_folder = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(path: Path, content: bytes) -> BadFile:
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        inspect_file(path, TYPE)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", PACK)
def test_a_compressed_file_is_read_as_what_it_stands_for_and_hashed_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"frame.fits.{kind}"
    packed = PACK[kind](WHOLE)
    path.write_bytes(packed)
    found = inspect_file(path, TYPE)
    assert (found.compression, found.metadata.values) == (kind, {"object": "M 67"})
    assert (found.size_bytes, found.sha256) == (len(packed), sha256(packed).hexdigest())
    assert [header.name for header in Fits().read(path).sections] == ["", "A"]


def test_parts_of_gzip_after_each_other_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "parts.fits.gz"
    path.write_bytes(gz(WHOLE[:4000]) + gz(WHOLE[4000:]))
    assert inspect_file(path, TYPE).metadata.values == {"object": "M 67"}


@pytest.mark.parametrize("kind", PACK)
@in_one_folder
@given(data=st.data())
def test_no_cut_and_no_changed_byte_passes(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    packed = bytearray(PACK[kind](WHOLE))
    at = data.draw(st.integers(1, len(packed) - 1))
    assert refusal(tmp_path / "cut.fits", bytes(packed[:at])).reason in ("truncated", "not_fits", "bad_compression")
    if kind == "gz" and at < 10:
        return  # the time, and the system that it was packed on
    packed[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "changed.fits").write_bytes(packed)
    with suppress(BadFile):
        inspect_file(tmp_path / "changed.fits", TYPE)
        assert UNPACK[kind](bytes(packed)) == WHOLE  # a few bits mean nothing


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (gz(WHOLE[:-2880]), "truncated", "has 2,880 of the 5,760 bytes that the data of HDU 1 takes"),
        (gz(WHOLE) + b"junk", "bad_compression", "its compressed bytes are damaged"),
        (gz(WHOLE + b"junk" * 99), "trailing_bytes", "has bytes after HDU 1 that are not an HDU"),
        (gz(b"a text"), "not_fits", "is not a FITS file: it begins with b'a text'"),
        (gz(gz(WHOLE)), "not_fits", "is not a FITS file"),
        (gz(b""), "truncated", "ends inside the first card"),
    ],
)
def test_what_is_wrong_inside_is_told(tmp_path: Path, content: bytes, reason: str, message: str) -> None:
    error = refusal(tmp_path / "bad.fits.gz", content)
    assert (error.reason, message in str(error)) == (reason, True), str(error)


@pytest.mark.parametrize("kind", PACK)
def test_a_bomb_is_left_when_it_has_given_more_than_any_file(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compressed.MAX_BYTES == 4 << 30
    monkeypatch.setattr(compressed, "MAX_BYTES", 4 << 20)
    header = raw_header(f"NAXIS1  = {1 << 40:>20}").replace(
        f"NAXIS   = {0:>20}".encode(), f"NAXIS   = {1:>20}".encode()
    )
    (tmp_path / "bomb.fits").write_bytes(PACK[kind](header + bytes(64 << 20)))
    with pytest.raises(BadFile, match=r"bomb.fits becomes more than [\d,]+ bytes when it is decompressed") as caught:
        Fits().read(tmp_path / "bomb.fits")
    assert caught.value.reason == "over_limit"


def test_a_tile_compressed_primary_image_is_read_from_where_fpack_put_it(tmp_path: Path) -> None:
    pixels = np.arange(10_000, dtype="i2").reshape(100, 100)
    packed = fits.CompImageHDU(pixels, fits.Header({"OBJECT": "M 67"}), compression_type="RICE_1")
    path = tmp_path / "frame.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), packed, fits.ImageHDU(pixels[:5], name="B")]).writeto(path)
    with fits.open(path, mode="update", disable_image_compression=True, checksum=True) as hdus:
        hdus[1].header["ZSIMPLE"] = True
        for hdu in hdus:
            hdu.add_checksum()
    found = inspect_file(path, TYPE)
    assert (found.compression, found.metadata.values) == ("", {"object": "M 67"})
    headers = Fits().read(path).sections
    assert [(header.number, header.name) for header in headers] == [(0, "COMPRESSED_IMAGE"), (1, "B")]
