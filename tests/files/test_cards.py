from __future__ import annotations

from pathlib import Path

import pytest
from astropy.io import fits

from nightmill.files.formats.cards import Header
from nightmill.files.formats.fits import Fits
from tests.files.frames import GMOS, SAAO, SCIENCE_MEF, astropy_file, raw_header

REAL = [GMOS, SAAO, SCIENCE_MEF, *sorted(astropy_file("").glob("*.fits"))]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_every_card_of_real_files_is_read_as_astropy_reads_it(path: Path) -> None:
    for header in Fits().read(path).sections:
        assert isinstance(header, Header)
        reference = fits.Header.fromstring(header.raw.decode("latin-1"))
        values = {
            card.keyword: reference[card.keyword]
            for card in reference.cards
            if card.keyword not in ("", "COMMENT", "HISTORY") and not isinstance(card.value, fits.card.Undefined)
        }
        assert dict(header.items()) == values


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("KEY     = 'it''s'", "it's"),
        ("KEY     = '  two blanks before, none after   ' / comment", "  two blanks before, none after"),
        ("KEY     = 'a / b' / c", "a / b"),
        ("KEY     = ''", ""),
        ("KEY     =                    T / logical", True),
        ("KEY     = F", False),
        ("KEY     =                   12", 12),
        ("KEY     = 0012", 12),
        ("KEY     = -1.5D3", -1500.0),
        ("KEY     = 1.E-2 / exponent", 0.01),
        ("KEY     = .5", 0.5),
        ("KEY     =                      / nothing", None),
        ("KEY     ", None),
        ("KEY     is text", None),
        ("KEY     =12", None),
        ("key     = 12", 12),
        ("KEY     = (1.0, 2.0) / complex", "(1.0, 2.0)"),
    ],
)
def test_value(card: str, value: object) -> None:
    found = Header(0, raw_header(card)).get("KEY")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("card", ["KEY     = 12 13", "KEY     = 'open", "KEY     = 2026-01-10", "KEY     = TRUE"])
def test_what_is_no_value_is_an_error(card: str) -> None:
    with pytest.raises(ValueError, match="is not a value of FITS"):
        Header(0, raw_header(card)).get("KEY")


def test_what_is_no_value_is_listed_as_it_is_written() -> None:
    assert dict(Header(0, raw_header("KEY     = 2026-01-10 / date")).items())["KEY"] == "2026-01-10 / date"


def test_the_first_of_two_equal_keywords_counts() -> None:
    assert Header(0, raw_header("KEY     = 1", "KEY     = 2")).get("key") == 1


def test_long_string_is_joined() -> None:
    text = "a long string with 'quotes' in it " * 9
    header = Header(0, fits.Header([("KEY", text.strip(), "a comment")]).tostring().encode())
    assert header.get("KEY") == text.strip()


def test_long_string_of_a_hierarch_keyword_is_joined() -> None:
    header = Header(0, raw_header("HIERARCH ESO OBS = 'long &'", "CONTINUE  'string' / comment", "OTHER   = 'x&'"))
    assert header.get("ESO OBS") == "long string"
    assert list(header.items())[-2:] == [("ESO OBS", "long string"), ("OTHER", "x&")]


def test_what_stands_after_the_end_is_no_card() -> None:
    raw = bytearray(raw_header("KEY     = 1"))
    raw[400:480] = b"KEY2    = 2".ljust(80)
    assert Header(0, bytes(raw)).get("KEY2") is None


def test_listed_is_what_each_card_says() -> None:
    header = Header(0, raw_header("key     = 12", "KEY     = 13", "OTHER   =14", "A B     = 15"))
    assert list(header.items())[-2:] == [("KEY", 12), ("A B", 15)]


def test_ampersand_without_continuation_belongs_to_the_value() -> None:
    assert Header(0, raw_header("KEY     = 'R&'", "OTHER   = 1")).get("KEY") == "R&"


@pytest.mark.parametrize("keyword", ["ESO DET EXP NO", "HIERARCH ESO DET EXP NO", "eso det exp no"])
def test_hierarch_keyword(keyword: str) -> None:
    header = Header(0, raw_header("HIERARCH ESO DET EXP NO = 7 / exposures", "HIERARCH ESO TEL = 'UT1'"))
    assert header.get(keyword) == 7
    assert dict(header.items())["ESO TEL"] == "UT1"
