from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from nightmill.errors import BadFile, BadMetadata
from nightmill.files.checksum import fingerprint, sha256_file
from nightmill.files.inspection import inspect_file
from nightmill.model.file_type import Checks, FileType, MetadataKey
from tests.files.frames import GMOS, fits_bytes

FRAME = FileType(
    name="frame",
    format="fits",
    metadata={"object": MetadataKey(keywords=("OBJECT",), required=True)},
    checks=Checks(min_hdus=2),
)
NOTES = FileType(name="notes", checks=Checks(min_bytes=3))


@pytest.mark.parametrize("pixels", [100, 2_000_000])
@pytest.mark.parametrize("checksum", [True, False])
def test_one_reading_gives_metadata_size_and_digest(tmp_path: Path, pixels: int, checksum: bool) -> None:
    path = tmp_path / "frame.fits"
    content = fits_bytes({"OBJECT": "M31"}, {"EXTNAME": "A"}, pixels=pixels, checksum=checksum)
    path.write_bytes(content)
    found = inspect_file(path, FRAME)
    assert found.metadata.values == {"object": "M31"}
    assert (found.size_bytes, found.sha256) == (len(content), sha256(content).hexdigest())
    assert fingerprint(path) == (found.size_bytes, found.sha256)
    assert sha256_file(path) == found.sha256


def test_the_filling_of_a_tape_is_part_of_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    content = fits_bytes({"OBJECT": "M31"}, {"EXTNAME": "A"}) + b"\0" * 28_800
    path.write_bytes(content)
    assert inspect_file(path, FRAME).sha256 == sha256(content).hexdigest()


def test_a_real_file() -> None:
    assert inspect_file(GMOS, FRAME).metadata.values == {"object": "LTT7379"}


def test_what_the_type_checks(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    path.write_bytes(fits_bytes({"OBJECT": "M31"}))
    with pytest.raises(BadFile) as few:
        inspect_file(path, FRAME)
    assert few.value.reason == "too_few_hdus"
    path.write_bytes(fits_bytes({}, {"EXTNAME": "A"}))
    with pytest.raises(BadMetadata) as lacking:
        inspect_file(path, FRAME)
    assert lacking.value.reason == "missing_keyword"


def test_other_formats_are_checked_for_size(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    inspect_file(path, NOTES)
    for content, reason in (("", "empty"), ("ab", "too_small")):
        path.write_text(content)
        with pytest.raises(BadFile) as caught:
            inspect_file(path, NOTES)
        assert caught.value.reason == reason
    with pytest.raises(BadFile) as caught:
        inspect_file(tmp_path / "none.txt", NOTES)
    assert caught.value.reason == "missing"
