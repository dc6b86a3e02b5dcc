from __future__ import annotations

from datetime import UTC, datetime

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from nightmill.files.times import clock_keywords, parse_days, parse_time


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("text", "clock", "time"),
    [
        ("2026-01-10T03:04:05", "", utc(2026, 1, 10, 3, 4, 5)),
        ("2026-01-10T03:04:05.678", "", utc(2026, 1, 10, 3, 4, 5, 678000)),
        ("2026-01-10T03:04:05.1234567", "", utc(2026, 1, 10, 3, 4, 5, 123457)),
        ("2026-01-10 03:04:05", "", utc(2026, 1, 10, 3, 4, 5)),
        ("2026-01-10T03:04", "", utc(2026, 1, 10, 3, 4)),
        ("2026-01-10T03:04:05Z", "", utc(2026, 1, 10, 3, 4, 5)),
        ("2026-01-10T03:04:05+01:30", "", utc(2026, 1, 10, 1, 34, 5)),
        ("2026-01-10T03:04:05-0400", "", utc(2026, 1, 10, 7, 4, 5)),
        ("2026/01/10", "03:04:05.5", utc(2026, 1, 10, 3, 4, 5, 500000)),
        ("2026-01-10", "3:04:05 UT", utc(2026, 1, 10, 3, 4, 5)),
        ("2026-01-10", "", utc(2026, 1, 10)),
        ("19/05/94", "15:41:16", utc(1994, 5, 19, 15, 41, 16)),
        ("10/01/2026", "03:04:05", utc(2026, 1, 10, 3, 4, 5)),
        ("2026-01-10", "2026-01-11T00:00:01", utc(2026, 1, 11, 0, 0, 1)),
        ("2026-01-10T23:59:59.9999999", "", utc(2026, 1, 11)),
    ],
)
def test_formats(text: str, clock: str, time: datetime) -> None:
    found = parse_time(text, clock)
    assert found == time
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "clock", "message"),
    [
        ("yesterday", "", "not a time that can be read: YYYY-MM-DDThh:mm:ss, DD/MM/YYYY"),
        ("2026-13-10", "", "month must be in 1..12"),
        ("2026-01-10", "25:00:00", "its time of day '25:00:00' is not one: 00:00:00 to 24:00:00"),
        ("2026-01-10T24:00:00.1", "", "is not one"),
        ("2026-01-10T24:00:60", "", "is not one"),
        ("2026-01-10T03:60:00", "", "is not one"),
        ("2026-01-10", "noon", "its time of day 'noon' cannot be read: hh:mm:ss"),
        ("2026-01-10T03:04:61", "", "its time of day '03:04:61' is not one"),
        ("2026-01-10T03:04:05+24:00", "", "its time of day '03:04:05[+]24:00' cannot be read"),
        ("9999-12-31T23:59:60", "", "it is not in the years 1 to 9999"),
        ("0001-01-01T00:30:00+01:00", "", "it is not in the years 1 to 9999"),
        ("", "", "not a time that can be read"),
    ],
)
def test_what_cannot_be_read(text: str, clock: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_time(text, clock)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-10T03:04:60.0", utc(2026, 1, 10, 3, 5)),
        ("2026-01-10T23:59:60.25", utc(2026, 1, 11, 0, 0, 0, 250000)),
        ("2016-12-31T23:59:60.5", utc(2017, 1, 1, 0, 0, 0, 500000)),
        ("2017-01-01T00:59:60.5+01:00", utc(2017, 1, 1, 0, 0, 0, 500000)),
    ],
)
@pytest.mark.filterwarnings("ignore:.*time is after end of day")  # of astropy, which takes such a time all the same
def test_a_time_of_day_is_counted_on_from_midnight_as_astropy_does(text: str, time: datetime) -> None:
    assert parse_time(text) == time
    if "+" not in text:
        assert Time(text, scale="utc").to_datetime(UTC, leap_second_strict="silent") == time


def test_the_end_of_a_day_is_the_next_midnight() -> None:
    assert parse_time("2026-01-10T24:00:00") == parse_time("2026-01-10", "24:00:00.0") == utc(2026, 1, 11)


@pytest.mark.parametrize("scale", ["UTC approximate", "UTC(NIST)", "TT(BIPM)", "tai (ptb)"])
def test_who_realized_a_scale_does_not_matter(scale: str) -> None:
    plain = scale.replace("(", " ").split()[0]
    assert parse_time("2026-01-10T03:04:05", timesys=scale) == parse_time("2026-01-10T03:04:05", timesys=plain)


@pytest.mark.parametrize("scale", ["TAI", "TT", "TDB", "tai "])
def test_time_scales_are_those_of_astropy(scale: str) -> None:
    found = parse_time("2026-01-10T03:04:05.25", timesys=scale)
    expected = Time("2026-01-10T03:04:05.25", scale=scale.strip().lower()).utc.to_datetime(UTC)
    assert abs(found - expected).total_seconds() < 2e-6
    assert (utc(2026, 1, 10, 3, 4, 5) - found).total_seconds() > 36


def test_gps_time_is_ahead_of_utc_by_the_leap_seconds_since_1980() -> None:
    assert parse_time("2026-01-10T03:04:23", timesys="GPS") == utc(2026, 1, 10, 3, 4, 5)


def test_a_leap_second_of_another_scale_is_the_first_second_of_the_next_minute() -> None:
    assert parse_time("2017-01-01T00:00:36.5", timesys="TAI") == utc(2017, 1, 1, 0, 0, 0, 500000)
    assert parse_time("2017-01-01T00:00:37.5", timesys="TAI") == utc(2017, 1, 1, 0, 0, 0, 500000)


@pytest.mark.parametrize(("days", "keyword"), [(3e6, "MJD"), (1e300, "JD"), (float("nan"), "MJD")])
def test_days_that_are_no_date(days: float, keyword: str) -> None:
    with pytest.raises(ValueError, match=r"Julian Date|it is not in the years 1 to 9999"):
        parse_days(days, keyword)


def test_unknown_time_scale_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"TIMESYS is 'TIA', which is not a time scale that is known here \(did you mean 'TAI'\?\)"
    ):
        parse_time("2026-01-10", timesys="TIA")


@given(st.datetimes(datetime(1859, 1, 1), datetime(2200, 1, 1)))
def test_every_time_comes_back_as_it_was_written(time: datetime) -> None:
    assert parse_time(time.isoformat()).replace(tzinfo=None) == time
    assert parse_time(time.strftime("%d/%m/%Y"), time.strftime("%H:%M:%S.%f")).replace(tzinfo=None) == time


def test_julian_dates() -> None:
    assert parse_days(61050.5, "MJD") == utc(2026, 1, 10, 12)
    assert parse_days(2461051.0, "JD") == utc(2026, 1, 10, 12)
    with pytest.raises(ValueError, match="it is a Julian Date rather than"):
        parse_days(1e9, "MJD")


def test_the_clock_that_belongs_to_a_date_is_looked_for_first() -> None:
    assert clock_keywords("DATE-OBS")[0] == "TIME-OBS"
    assert clock_keywords("date-beg")[:2] == ("TIME-BEG", "TIME-OBS")
    assert clock_keywords("TDATEOBS")[0] == "TTIMEOBS"
    assert "UTSTART" in clock_keywords("TDATEOBS")
    assert clock_keywords("DATE-END") == ("TIME-END",)
