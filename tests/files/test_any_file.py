"""Whatever stands in a FITS file, it is read or refused with a reason."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nightmill.errors import FileRefused, PluginFault
from nightmill.files.headers import read_metadata
from nightmill.files.inspection import inspect_file
from nightmill.model.file_type import FileType
from tests.files.frames import BLOCK, astropy_file, fits_bytes

FRAME = fits_bytes(
    {
        "INSTRUME": "cam",
        "EXPNUM": 5,
        "DATE-OBS": "2026-01-10",
        "TIME-OBS": "03:04:05",
        "TIMESYS": "UTC",
        "EXPTIME": 0.5,
    },
    {"EXTNAME": "SCI"},
    {"EXTNAME": "B"},
    checksum=True,
)
FILES = {name: astropy_file(f"{name}.fits").read_bytes() for name in ("random_groups", "compressed_image", "table")}
FILES["frame"] = FRAME
TYPE = FileType.model_validate(
    {
        "name": "frame",
        "format": "fits",
        "metadata": {
            "instrument": {"keywords": ["INSTRUME", "TELESCOP"]},
            "exposure": {"keywords": ["EXPNUM", "NAXIS1"], "type": "int"},
            "begins_at": {"keywords": ["DATE-OBS", "MJD-OBS"], "type": "time"},
            "exposure_seconds": {"keywords": ["EXPTIME"], "type": "float", "unit": "s", "keyword_unit": "min"},
            "ends_at": {"compute": "end_of(begins_at, exposure_seconds)"},
            "night": {"compute": "night_of(begins_at, -70.0)"},
            "object": {"keywords": ["OBJECT", "EXTNAME"], "hdu": "SCI"},
        },
    }
)
KEYWORDS = [
    "SIMPLE",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "PCOUNT",
    "GCOUNT",
    "GROUPS",
    "EXTNAME",
    "DATASUM",
    "CHECKSUM",
]
KEYWORDS += ["INSTRUME", "EXPNUM", "DATE-OBS", "TIME-OBS", "TIMESYS", "EXPTIME", "END"]
VALUES = [
    "-1",
    "0",
    "1",
    "7",
    "-32",
    "99999999999",
    "9223372036854775807",
    "99999999999999999999",
    "2.0",
    "1e300",
    "-1e300",
    "nan",
    "T",
    "(1,2)",
    "'x",
    "1,2",
]
VALUES += ["", "'2'", "'  '", "'UTC'", "'TAI'", "'GPS'", "'LOCAL'", "'nan'", "61000.5", "'2026-02-30'", "'31/12/99'"]
VALUES += ["'9999-12-31T23:59:60'", "'0001-01-01T00:00:00+01:00'", "'9999-12-31'", "'2016-12-31T23:59:60'", "'x&'"]


def spoiled(whole: bytes, rng: random.Random) -> bytes:
    """Set a keyword, change bytes, cut, or append."""
    data = bytearray(whole)
    cards = range(0, len(data), 80)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.choice(cards)
        match rng.choice(
            ["keyword", "keyword", "keyword", "byte", "word", "cut", "block", "blank", "insert", "append"]
        ):
            case "keyword":
                keyword = rng.choice(KEYWORDS).ljust(8)
                own = [each for each in cards if data[each : each + 8] == keyword.encode()]
                at = rng.choice(own or range(0, BLOCK, 80))
                data[at : at + 80] = f"{keyword}= {rng.choice(VALUES):>20}".ljust(80).encode()
            case "byte":
                data[at : at + 1] = rng.randbytes(1)
            case "word":
                data[at + 8 : at + 12] = rng.randbytes(4)
            case "cut":
                del data[at:]
            case "block":
                del data[at // BLOCK * BLOCK :]
            case "blank":
                data[at : at + 80] = b" " * 80
            case "insert":
                data[at:at] = b"HIERARCH ESO X = 'long &'".ljust(80)
            case _:
                data += rng.choice([bytes(BLOCK), b"junk", b"XTEN", b"XTENSION" * 400, whole[:BLOCK]])
    return bytes(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:.*dubious year")  # of astropy, for times before 1960 in TAI
def test_any_file_is_read_or_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    path = tmp_path / "frame.fits"
    reasons: dict[str, int] = {}
    for _ in range(300):
        path.write_bytes(spoiled(FILES[name], rng))
        for read in (read_metadata, lambda path: inspect_file(path, TYPE)):
            try:
                read(path)
                reason = ""
            except FileRefused as error:
                assert str(path) in str(error)
                assert not isinstance(error, PluginFault), error
                reason = error.reason
            reasons[reason] = reasons.get(reason, 0) + 1
    assert {"", "truncated", "bad_header", "trailing_bytes"} < set(reasons)
