"""No file can hold up whoever reads it: what is larger than any file of use is refused as soon as that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.errors import BadFile
from nightmill.files.formats import fits
from nightmill.files.formats.cards import MAX_TEXT, Header
from nightmill.files.inspection import inspect_file
from nightmill.model.file_type import FileType
from tests.files.frames import raw_header

TYPE = FileType.model_validate(
    {"name": "frame", "format": "fits", "metadata": {"object": {"keywords": ["OBJECT"], "hdu": "SCI"}}}
)


def extension(*cards: str) -> bytes:
    return raw_header(*cards).replace(f"SIMPLE  = {'T':>20}".encode(), b"XTENSION= 'IMAGE   '          ")


def refused(path: Path, content: bytes) -> BadFile:
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        inspect_file(path, TYPE)
    assert str(path) in str(caught.value)
    return caught.value


def test_a_header_of_very_many_cards_is_refused_with_the_limit(tmp_path: Path) -> None:
    cards = ["OBJECT  = 'M 67&'", *["CONTINUE  '&'"] * 147_000]
    error = refused(tmp_path / "cards.fits", raw_header(*cards))
    assert error.reason == "bad_header"
    assert "the header of HDU 0 has no END card in 36,864 cards, the most that are read" in str(error)


def test_very_many_hdus_are_refused_with_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fits.MAX_HDUS == 10_000
    monkeypatch.setattr(fits, "MAX_HDUS", 1_000)
    error = refused(tmp_path / "hdus.fits", raw_header() + extension() * 2_000)
    assert (error.reason, "has more than 1,000 HDUs, the most that are read" in str(error)) == ("over_limit", True)


def test_headers_that_are_too_large_together_are_refused_with_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "MAX_HEADERS_BYTES", 1 << 20)
    error = refused(tmp_path / "large.fits", raw_header() + extension(*["COMMENT"] * 9_000) * 2)
    assert error.reason == "over_limit"
    assert "the headers of its first 3 HDUs take more than 1 MiB, the most that are read" in str(error)


def test_endless_filling_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "sparse.fits"
    path.write_bytes(raw_header())
    with path.open("ab") as file:
        file.truncate(1 << 42)
    with pytest.raises(BadFile, match="filling after HDU 0 of more than 1,048,576 bytes") as caught:
        inspect_file(path, TYPE)
    assert caught.value.reason == "trailing_bytes"


def test_a_text_that_goes_on_for_ever_is_no_value() -> None:
    header = Header(0, raw_header("OBJECT  = 'x&'", *[f"CONTINUE  '{'y' * 60}&'"] * 30_000))
    with pytest.raises(ValueError, match=f"a text of more than {MAX_TEXT:,} characters"):
        header.get("OBJECT")
    longest = Header(0, raw_header("OBJECT  = 'x&'", *[f"CONTINUE  '{'y' * 60}&'"] * 1_000)).get("OBJECT")
    assert isinstance(longest, str)
    assert len(longest) == 60_002


def test_very_many_long_texts_are_read_in_one_pass() -> None:
    """Each looked for its own place from the start of the header, which took minutes."""
    cards = [text for number in range(9_000) for text in (f"KEY{number:<5d}= 'x&'", "CONTINUE  'y'")]
    values = dict(Header(0, raw_header(*cards)).items())
    assert values["KEY0"] == values["KEY8999"] == "xy"
    assert len(values) == 9_003


def test_many_huge_axes_are_no_work(tmp_path: Path) -> None:
    header = raw_header(*[f"NAXIS{axis:<3d}= {1 << 62:>20}" for axis in range(1, 1000)])
    error = refused(
        tmp_path / "axes.fits", header.replace(f"NAXIS   = {0:>20}".encode(), f"NAXIS   = {999:>20}".encode())
    )
    assert error.reason == "bad_header"
    assert "its 999 axes make more bytes than any file can have" in str(error)
