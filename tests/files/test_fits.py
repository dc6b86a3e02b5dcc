from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightmill.errors import BadFile
from nightmill.files.formats.fits import Fits
from nightmill.files.inspection import inspect_file
from nightmill.model.file_type import Checks, FileType
from tests.files.frames import (
    BLOCK,
    GMOS,
    SAAO,
    SCIENCE_MEF,
    STIS,
    WFPC2,
    astropy_file,
    fits_bytes,
    packaged,
    raw_header,
)

PLAIN = Checks()
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

WHOLE = fits_bytes({"OBJECT": "x"}, {"EXTNAME": "A"}, {"EXTNAME": "B"}, pixels=2000, checksum=True)
HDUS = 3


def check_fits(path: Path, checks: Checks) -> None:
    inspect_file(path, FileType(name="frame", format="fits", checks=checks))


def refusal(path: Path, checks: Checks = PLAIN) -> BadFile:
    with pytest.raises(BadFile) as caught:
        check_fits(path, checks)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("path", [GMOS, SAAO, SCIENCE_MEF, STIS, WFPC2], ids=lambda path: path.stem)
def test_real_files_are_whole_and_have_the_hdus_that_astropy_sees(path: Path) -> None:
    check_fits(path, PLAIN)
    with fits.open(path) as hdus:
        assert len(Fits().read(path).sections) == len(hdus)


@in_one_folder
@given(st.integers(0, len(WHOLE) - 1))
def test_any_truncation_is_found(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.fits"
    path.write_bytes(WHOLE[:length])
    assert refusal(path, Checks(min_hdus=HDUS)).reason in ("empty", "truncated", "too_few_hdus")


@in_one_folder
@given(st.integers(0, len(WHOLE) - 1))
def test_truncation_that_is_no_end_of_an_hdu_is_found_without_knowing_their_number(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.fits"
    path.write_bytes(WHOLE[:length])
    assert len(WHOLE) == 7 * BLOCK  # a header, then twice a header with two blocks of data
    if length not in (BLOCK, 4 * BLOCK):
        assert refusal(path).reason in ("empty", "truncated")


@in_one_folder
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(tmp_path: Path, at: int, by: int) -> None:
    changed = bytearray(WHOLE)
    changed[at] ^= by
    path = tmp_path / "changed.fits"
    path.write_bytes(changed)
    refusal(path, Checks(checksum="required", min_hdus=HDUS))


def test_checksums_of_large_data_agree_with_astropys(tmp_path: Path) -> None:
    path = tmp_path / "large.fits"
    path.write_bytes(fits_bytes({}, {"EXTNAME": "A"}, pixels=1_500_000, checksum=True))
    check_fits(path, Checks(checksum="required"))


def test_wrong_checksum_is_named(tmp_path: Path) -> None:
    error = refusal(astropy_file("checksum_false.fits"))
    assert error.reason == "bad_checksum"
    assert "HDU 0 does not agree with its DATASUM" in str(error)
    check_fits(astropy_file("checksum_false.fits"), Checks(checksum="ignored"))


def test_missing_checksum_is_an_error_only_where_it_is_required(tmp_path: Path) -> None:
    path = tmp_path / "plain.fits"
    path.write_bytes(fits_bytes({}, {"EXTNAME": "A"}))
    check_fits(path, PLAIN)
    error = refusal(path, Checks(checksum="required"))
    assert error.reason == "bad_checksum"
    assert "HDU 0 has no CHECKSUM and DATASUM, which its type requires" in str(error)


def test_too_few_hdus(tmp_path: Path) -> None:
    path = tmp_path / "one.fits"
    path.write_bytes(fits_bytes({}))
    error = refusal(path, Checks(min_hdus=2))
    assert error.reason == "too_few_hdus"
    assert "has 1 of at least 2 HDUs; it may be cut off between two of them" in str(error)


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (b"", "empty", "is empty"),
        (b"not FITS at all\n" * 300, "not_fits", "it begins with b'not FITS a'"),
        (lzma.compress(WHOLE), "not_fits", "compressed with xz; decompress it first"),
        (b"\x1f\x9d\x90", "not_fits", "compressed with compress (.Z); decompress it first"),
        (b"SIMP", "truncated", "ends inside the first card"),
        (WHOLE[:1000], "truncated", "ends inside the header of HDU 0"),
        (WHOLE[: BLOCK + 4], "truncated", "ends inside the header of HDU 1"),
        (WHOLE[:-1], "truncated", "has 5,759 of the 5,760 bytes that the data of HDU 2 takes; transfer it again"),
        (WHOLE + b"garbage" * 100, "trailing_bytes", "has bytes after HDU 2 that are not an HDU"),
        (raw_header().replace(b"END", b"   "), "truncated", "ends inside the header of HDU 0"),
        (raw_header().replace(b"= " + b"T".rjust(20), b"= " + b"F".rjust(20)), "bad_header", "SIMPLE is not T"),
        (raw_header().replace(b"NAXIS ", b"NAXES "), "bad_header", "NAXIS is missing"),
        (raw_header().replace(b"8", b"9"), "bad_header", "BITPIX is 9"),
        (raw_header().replace(b"0", b"1"), "bad_header", "NAXIS1 is missing"),
        (raw_header("NAXIS1  = -5").replace(b"0", b"1", 1), "bad_header", "NAXIS1 is -5"),
        (raw_header("NAXIS1  = 'wide'").replace(b"0", b"1", 1), "bad_header", "NAXIS1 is 'wide'"),
    ],
)
def test_refusal(tmp_path: Path, content: bytes, reason: str, message: str) -> None:
    path = tmp_path / "bad.fits"
    path.write_bytes(content)
    error = refusal(path)
    assert (error.reason, message in str(error)) == (reason, True), str(error)


def test_header_without_end_is_not_read_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "endless.fits"
    path.write_bytes(raw_header().replace(b"END", b"   ") * 5000)
    error = refusal(path)
    assert error.reason == "bad_header"
    assert "HDU 0 has no END card" in str(error)


def test_sizes_of_random_groups_are_understood() -> None:
    check_fits(astropy_file("random_groups.fits"), PLAIN)
    # That one has groups without an axis: strange, and yet nothing of it is missing.
    check_fits(astropy_file("invalid/group_invalid.fits"), PLAIN)


def test_filling_of_old_tapes_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "tape.fits"
    path.write_bytes(WHOLE + b"\0" * BLOCK * 3)
    check_fits(path, Checks(min_hdus=HDUS))


def test_text_that_is_called_fits_is_refused() -> None:
    assert refusal(packaged("astropy", "modeling/tests/data/idcompspec.fits")).reason == "not_fits"


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.fits").reason == "missing"
    assert refusal(tmp_path).reason == "unreadable"
    os.mkfifo(tmp_path / "fifo")
    error = refusal(tmp_path / "fifo")
    assert error.reason == "unreadable"
    assert "not a regular file" in str(error)


def test_link_to_itself_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "loop.fits"
    path.symlink_to(path)
    assert "cannot be read: Too many levels of symbolic links" in str(refusal(path))


def test_size_below_the_least(tmp_path: Path) -> None:
    path = tmp_path / "small.fits"
    path.write_bytes(fits_bytes({}))
    error = refusal(path, Checks(min_bytes=10_000))
    assert error.reason == "too_small"
    assert "has 2880 of at least 10000 bytes" in str(error)
