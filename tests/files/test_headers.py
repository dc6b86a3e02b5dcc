from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nightmill.errors import BadFile, BadMetadata
from nightmill.files.headers import read_metadata
from nightmill.model.content import Metadata
from nightmill.model.file_type import FileType, MetadataKey
from tests.files.frames import GMOS, SAAO, SCIENCE_MEF, STIS, WFPC2, file_type, fits_bytes, raw_header

TYPED: dict[str, dict[str, Any]] = {
    "instrument": {"keywords": ["INSTRUME"], "required": True},
    "exposure": {"keywords": ["EXPNUM", "OBSNUM"], "type": "int", "required": True},
    "detector": {"keywords": ["CCDNUM"], "type": "int", "required": True},
    "band": {"keywords": ["FILTER", "FILTER1"], "values": {"g DECam": "g"}},
    "begins_at": {"keywords": ["DATE-OBS"], "type": "time", "required": True},
    "exposure_seconds": {"keywords": ["EXPTIME", "EXPOSURE"], "type": "float", "unit": "s"},
    "ends_at": {"compute": "end_of(begins_at, exposure_seconds)"},
    "night": {"compute": "night_of(begins_at, -70.8)"},
}
CARDS: dict[str, Any] = {
    "INSTRUME": "DECam",
    "EXPNUM": 12,
    "CCDNUM": 3,
    "FILTER": "g DECam",
    "DATE-OBS": "2026-01-10T03:04:05.5",
    "EXPTIME": 30.0,
}


def read(tmp_path: Path, cards: dict[str, Any], keys: dict[str, dict[str, Any]] = TYPED) -> Metadata:
    path = tmp_path / "frame.fits"
    path.write_bytes(fits_bytes(cards))
    return read_metadata(path, file_type(**keys))


def refusal(tmp_path: Path, cards: dict[str, Any], keys: dict[str, dict[str, Any]] = TYPED) -> BadMetadata:
    with pytest.raises(BadMetadata) as caught:
        read(tmp_path, cards, keys)
    assert str(tmp_path / "frame.fits") in str(caught.value)
    return caught.value


def one(tmp_path: Path, value: object, **key: object) -> object:
    """Read one key from one card."""
    cards = {} if value is None else {"KEY": value}
    return read(tmp_path, cards, {"wanted": {"keywords": ["KEY"], **key}}).values.get("wanted")


@pytest.mark.req("B33")
def test_a_type_declares_required_optional_and_computed_keys(tmp_path: Path) -> None:
    assert read(tmp_path, CARDS) == Metadata(
        data_id={"instrument": "DECam", "exposure": 12, "detector": 3, "band": "g", "night": 20260109},
        begins_at=datetime(2026, 1, 10, 3, 4, 5, 500000, tzinfo=UTC),
        ends_at=datetime(2026, 1, 10, 3, 4, 35, 500000, tzinfo=UTC),
        values={"exposure_seconds": 30.0},
    )
    without_optional = read(tmp_path, {key: value for key, value in CARDS.items() if key not in ("EXPTIME", "FILTER")})
    assert "band" not in without_optional.data_id
    assert (without_optional.values, without_optional.ends_at) == ({}, None)
    error = refusal(tmp_path, {"INSTRUME": "DECam", "DATE-OBS": CARDS["DATE-OBS"]})
    assert error.reason == "missing_keyword"
    assert "has no value for exposure (EXPNUM or OBSNUM), detector (CCDNUM), which file type 'frame'" in str(error)


@pytest.mark.req("B34")
def test_a_key_that_no_task_knows_is_one_line_of_the_type(tmp_path: Path) -> None:
    more = TYPED | {"humidity_percent": {"keywords": ["HUMIDITY"], "type": "float"}}
    cards = CARDS | {"HUMIDITY": 41.5}
    assert "humidity_percent" not in read(tmp_path, cards).values
    found = read(tmp_path, cards, more)
    assert found.values == {"exposure_seconds": 30.0, "humidity_percent": 41.5}
    assert found.data_id == read(tmp_path, cards).data_id


@pytest.mark.req("B35")
def test_metadata_of_a_bare_path_needs_no_site_no_database_and_no_configuration(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from nightmill.files.headers import read_metadata\n"
        f"found = read_metadata(Path({str(GMOS)!r})).values\n"
        "print(found['INSTRUME'], found['EXPTIME'], found['1.EXTNAME'])\n"
        "print([name for name in sys.modules if name in ('sqlalchemy', 'prefect', 'nightmill.config', 'astropy')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "GMOS-S 90.0 SCI\n[]\n"
    assert list(tmp_path.iterdir()) == []


def test_every_card_of_a_bare_path() -> None:
    found = read_metadata(STIS)
    assert found.values["TDATEOBS"] == "1998-04-20"
    assert found.values["1.EXPTIME"] == 30.0
    assert found.values["4.EXTNAME"] == "SCI"
    assert (found.data_id, found.begins_at) == ({}, None)


def test_gmos() -> None:
    wanted = file_type(
        instrument={"keywords": ["INSTRUME"], "required": True},
        band={"keywords": ["FILTER", "FILTER1"]},
        begins_at={"keywords": ["DATE-OBS"], "type": "time"},
        kind={"keywords": ["OBSTYPE", "IMAGETYP"]},
        extension={"keywords": ["EXTNAME"], "hdu": "var"},
    )
    found = read_metadata(GMOS, wanted)
    assert found.data_id == {"instrument": "GMOS-S", "band": "GG455_G0329"}
    assert found.begins_at == datetime(2019, 8, 8, 0, 42, 27, 400000, tzinfo=UTC)
    assert found.values == {"kind": "OBJECT", "extension": "VAR"}


def test_saao_names_its_instrument_by_the_values_of_the_type() -> None:
    wanted: dict[str, Any] = {
        "instrument": {"keywords": ["INSTRUME"], "values": {"STE3 CCD": "ste3"}},
        "begins_at": {"keywords": ["DATE-OBS"], "type": "time"},
        "ends_at": {"compute": "end_of(begins_at, exposure_seconds)"},
        "exposure_seconds": {"keywords": ["EXPTIME"], "type": "float"},
        "night": {"compute": "night_of(begins_at, 20.81)"},
    }
    found = read_metadata(SAAO, file_type(**wanted))
    assert found.data_id == {"instrument": "ste3", "night": 20130712}
    assert found.begins_at == datetime(2013, 7, 13, 0, 57, 33, tzinfo=UTC)
    assert found.ends_at == datetime(2013, 7, 13, 1, 0, 3, 40000, tzinfo=UTC)
    wanted["instrument"] = {"keywords": ["INSTRUME"]}
    with pytest.raises(BadMetadata, match=r"'STE3 CCD' cannot tell files apart.*'values' of instrument in file type"):
        read_metadata(SAAO, file_type(**wanted))


def test_wfpc2_with_a_date_of_the_old_century_and_a_filter_that_is_a_number() -> None:
    wanted = file_type(
        begins_at={"keywords": ["DATE-OBS"], "type": "time"},
        band={"keywords": ["FILTER1"], "values": {"33": "F673N"}},
        detector={"keywords": ["DETECTOR"], "type": "int", "hdu": 3},
        wheel={"keywords": ["FILTER1"]},
    )
    found = read_metadata(WFPC2, wanted)
    assert found.begins_at == datetime(1994, 5, 19, 15, 41, 16, tzinfo=UTC)
    assert found.data_id == {"band": "F673N", "detector": 3}
    assert found.values == {"wheel": "33"}


def test_stis_with_the_time_of_an_extension() -> None:
    wanted = file_type(
        begins_at={"keywords": ["DATE-OBS"], "type": "time", "hdu": "SCI"},
        exposure_seconds={"keywords": ["EXPTIME", "TEXPTIME"], "type": "float", "hdu": 4},
        total_seconds={"keywords": ["TEXPTIME"], "type": "float"},
    )
    found = read_metadata(STIS, wanted)
    assert found.begins_at == datetime(1998, 4, 20, 18, 38, 15, tzinfo=UTC)
    of_primary = file_type(begins_at={"keywords": ["TDATEOBS"], "type": "time"})
    assert read_metadata(STIS, of_primary).begins_at == found.begins_at  # its clock is TTIMEOBS
    assert found.values["total_seconds"] == 120.0
    assert 0 < float(str(found.values["exposure_seconds"])) < 120


def test_mef_falls_back_to_the_primary_header() -> None:
    key = MetadataKey(keywords=("OBJECT",), hdu=2)
    assert read_metadata(SCIENCE_MEF, file_type(object=key)).values == {"object": "clouds"}
    for hdu in (99, "NONE"):
        key = MetadataKey(keywords=("SIMPLE",), type="bool", hdu=hdu)
        assert read_metadata(SCIENCE_MEF, file_type(simple=key)).values == {"simple": True}


@pytest.mark.parametrize(
    ("value", "key", "found"),
    [
        (2.5, {"type": "float", "unit": "s", "keyword_unit": "min"}, 150.0),
        (20.0, {"type": "float", "unit": "K", "keyword_unit": "deg_C"}, 293.15),
        (2, {"type": "int", "unit": "s", "keyword_unit": "min"}, 120),
        (4.6, {"type": "float", "unit": "nm", "keyword_unit": "Angstrom"}, 0.46),
        ("12.0", {"type": "int"}, 12),
        (12.0, {"type": "int"}, 12),
        ("9007199254740993", {"type": "int"}, 9007199254740993),
        ("3.5", {"type": "float"}, 3.5),
        (3, {"type": "float"}, 3.0),
        (True, {"type": "bool"}, True),
        ("false", {"type": "bool"}, False),
        (1, {"type": "bool"}, True),
        (3, {"type": "str"}, "3"),
        (True, {"type": "str"}, "T"),
        ("  padded ", {"type": "str"}, "padded"),
        ("nan", {"type": "float"}, None),
        ("", {"type": "int"}, None),
        (None, {"constant": "here"}, "here"),
        ("", {"constant": 7, "type": "int"}, 7),
        ("there", {"constant": "here"}, "there"),
        ("Dome Flat", {"values": {"Dome Flat": "flat"}}, "flat"),
        (7, {"values": {"7": 8}, "type": "int"}, 8),
        (-999.0, {"values": {"-999": None}, "type": "float"}, None),
        ("INDEF", {"values": {"INDEF": None}, "type": "float"}, None),
        ("0000-00-00", {"values": {"0000-00-00": None}, "type": "time"}, None),
        (0, {"type": "float", "min": 0, "max": 0}, 0.0),
        ("x" * 300, {}, "x" * 300),
        ("../../etc/passwd", {}, "../../etc/passwd"),
    ],
)
def test_conversion(tmp_path: Path, value: object, key: dict[str, Any], found: object) -> None:
    read_value = one(tmp_path, value, **key)
    assert read_value == found
    assert type(read_value) is type(found)


@pytest.mark.parametrize(
    ("value", "type_", "message"),
    [
        (12.5, "int", "wanted: KEY of HDU 0: 12.5 is not a whole number"),
        ("twelve", "int", "'twelve' is not a whole number"),
        (True, "int", "T is not a whole number"),
        ("1" * 30, "int", "is too large"),
        ("wide", "float", "'wide' is not a number"),
        ("maybe", "bool", "'maybe' is neither true nor false"),
        ("soon", "time", "'soon': it is not a time that can be read"),
        ("2026-13-45", "time", "'2026-13-45': month must be in 1..12"),
    ],
)
def test_bad_value(tmp_path: Path, value: object, type_: str, message: str) -> None:
    error = refusal(tmp_path, {"KEY": value}, {"wanted": {"keywords": ["KEY"], "type": type_}})
    assert error.reason == "bad_value"
    assert message in str(error)


@pytest.mark.parametrize(
    ("written", "told"), [("NaN", "is nan"), ("'nan'", "is nan"), ("-Inf", "is -inf"), ("1E999", "is inf")]
)
@pytest.mark.parametrize("type_", ["float", "int"])
def test_what_is_not_a_finite_number_is_not_a_value_and_that_is_told(
    tmp_path: Path, written: str, told: str, type_: str
) -> None:
    path = tmp_path / "frame.fits"
    path.write_bytes(raw_header(f"AIRMASS = {written:>20}", f"AMEND   = {2:>20}"))
    key: dict[str, Any] = {"keywords": ["AIRMASS"], "type": type_}
    found = read_metadata(path, file_type(airmass=key))
    assert (found.values, found.left_out) == ({}, (f"airmass: AIRMASS of HDU 0 {told}",))
    with pytest.raises(BadMetadata) as caught:
        read_metadata(path, file_type(airmass=key | {"required": True}))
    assert caught.value.reason == "missing_keyword"
    assert f"has no value for airmass (AIRMASS of HDU 0 {told}), which file type 'frame' requires" in str(caught.value)
    found = read_metadata(path, file_type(airmass=key | {"keywords": ["AIRMASS", "AMEND"], "required": True}))
    assert (found.values, found.left_out) == ({"airmass": 2}, ())
    if told == "is nan":
        found = read_metadata(path, file_type(airmass=key | {"values": {"nan": None}}))
        assert (found.values, found.left_out) == ({}, ())


def test_a_file_that_would_end_before_it_begins_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, CARDS | {"EXPTIME": -30.0})
    assert error.reason == "bad_value"
    assert "ends_at: end_of(begins_at, exposure_seconds) is not possible (begins_at: 2026-01-10 03:04:05.5" in str(
        error
    )
    assert "exposure_seconds: -30.0): nothing takes less than no time" in str(error)
    keys = TYPED | {"ends_at": {"keywords": ["DATE-END"], "type": "time"}}
    error = refusal(tmp_path, CARDS | {"DATE-END": "2026-01-10T03:04:05.4"}, keys)
    assert error.reason == "bad_value"
    assert "ends_at: it ends at 2026-01-10 03:04:05.4" in str(error)
    assert read(tmp_path, CARDS | {"DATE-END": "2026-01-10T03:04:05.5"}, keys).ends_at is not None


def test_a_type_may_say_what_a_number_can_be(tmp_path: Path) -> None:
    keys = TYPED | {"exposure_seconds": TYPED["exposure_seconds"] | {"min": 0, "max": 86_400}}
    assert read(tmp_path, CARDS, keys).values == {"exposure_seconds": 30.0}
    error = refusal(tmp_path, CARDS | {"EXPTIME": -0.5}, keys)
    assert (error.reason, "exposure_seconds: EXPTIME of HDU 0: -0.5 is less than 0" in str(error)) == (
        "bad_value",
        True,
    )
    assert "EXPTIME of HDU 0: 90000.0 is more than 86400" in str(refusal(tmp_path, CARDS | {"EXPTIME": 9e4}, keys))


@pytest.mark.parametrize("value", ["../../etc/passwd", "DE Cam", "x" * 300, "a,detector=2", "..", "å"])
def test_a_dimension_takes_only_what_names_can_be_made_of(tmp_path: Path, value: str) -> None:
    path = tmp_path / "frame.fits"
    card = f"INSTRUME= '{value}'"
    path.write_bytes(raw_header(card) if len(card) <= 80 else fits_bytes({"INSTRUME": value}))
    with pytest.raises(BadMetadata) as caught:
        read_metadata(path, file_type(instrument={"keywords": ["INSTRUME"]}))
    assert caught.value.reason == "unfit_value"
    assert "instrument: " in str(caught.value)
    assert "say what it means here under 'values' of instrument in file type 'frame'" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("character", ["\n", "\0", "\x1b", "\x81", "\u202e", "\u2028"])
def test_control_characters_are_kept_nowhere(tmp_path: Path, character: str) -> None:
    path = tmp_path / "frame.fits"
    card = f"KEY     = 'DE{character}Cam'".encode("latin-1" if character < "\u0100" else "utf-8")
    path.write_bytes(raw_header("#").replace(b"#".ljust(80), card.ljust(80)))
    told = "KEY of HDU 0 holds control characters"
    found = read_metadata(path, file_type(observer={"keywords": ["KEY"]}))
    assert (found.values, found.left_out) == ({}, (f"observer: {told}",))
    with pytest.raises(BadMetadata) as caught:
        read_metadata(path, file_type(observer={"keywords": ["KEY"], "required": True}))
    assert (caught.value.reason, f"observer ({told})" in str(caught.value)) == ("missing_keyword", True)
    with pytest.raises(BadMetadata) as caught:
        read_metadata(path, file_type(instrument={"keywords": ["KEY"]}))
    assert caught.value.reason == "unfit_value"
    assert character not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("José Núñez".encode(), "José Núñez"),
        ("José Núñez".encode("latin-1"), "José Núñez"),
        ("O’Brien – Łódź".encode(), "O’Brien – Łódź"),
        ("O’Brien".encode("cp1252"), "O’Brien"),
    ],
    ids=["UTF-8", "Latin-1", "UTF-8 of all the world", "Windows-1252"],
)
def test_text_that_is_not_ascii_is_read_as_it_was_meant(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "frame.fits"
    card = (b"OBSERVER= '" + data + b"'").ljust(80)
    path.write_bytes(raw_header("#").replace(b"#".ljust(80), card))
    found = read_metadata(path, file_type(observer={"keywords": ["OBSERVER"], "required": True}))
    assert found.values == {"observer": text}
    assert read_metadata(path).values["OBSERVER"] == text


def test_a_character_may_begin_on_one_card_and_end_on_the_next(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    first, second = "é".encode()[:1], "é".encode()[1:]
    cards = ((b"OBSERVER= 'Jos" + first + b"&'").ljust(80), (b"CONTINUE  '" + second + b" N.'").ljust(80))
    path.write_bytes(raw_header("#", "#").replace(b"#".ljust(80) * 2, b"".join(cards)))
    assert read_metadata(path).values["OBSERVER"] == "José N."


def test_computed_keys_may_need_each_other_in_any_order(tmp_path: Path) -> None:
    keys: dict[str, dict[str, Any]] = {
        "label": {"compute": "concat(night, '-', object)"},
        "night": {"compute": "night_of(begins_at, 0)"},
        "object": {"keywords": ["OBJECT"]},
        "begins_at": {"keywords": ["DATE-OBS"], "type": "time"},
    }
    found = read(tmp_path, {"OBJECT": "M 31", "DATE-OBS": "2026-01-10T22:00:00"}, keys)
    assert found.values["label"] == "20260110-M 31"


def test_computed_value_out_of_range_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, CARDS | {"EXPTIME": 1e15})
    assert (error.reason, "ends_at: end_of(begins_at, exposure_seconds) is out of range" in str(error)) == (
        "bad_value",
        True,
    )


def test_a_type_without_a_format_has_constants_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    kind = FileType(name="notes", metadata={"instrument": MetadataKey(constant="DECam")})
    assert read_metadata(path, kind).data_id == {"instrument": "DECam"}


def test_a_broken_file_has_no_metadata(tmp_path: Path) -> None:
    path = tmp_path / "cut.fits"
    path.write_bytes(fits_bytes(CARDS, {"EXTNAME": "A"})[:-2880])
    with pytest.raises(BadFile) as caught:
        read_metadata(path)
    assert caught.value.reason == "truncated"
