"""When a frame began and ended, by the keywords that headers have for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.files.test_headers import CARDS, TYPED, one, read, refusal


@pytest.mark.parametrize(
    ("cards", "time"),
    [
        ({"DATE-OBS": "2026-01-10", "TIME-OBS": "01:02:03"}, datetime(2026, 1, 10, 1, 2, 3)),
        ({"DATE-OBS": "2026-01-10", "UT": "01:02:03"}, datetime(2026, 1, 10, 1, 2, 3)),
        ({"DATE-OBS": "2026-01-10", "UTSTART": "01:02:03"}, datetime(2026, 1, 10, 1, 2, 3)),
        ({"DATE-OBS": "2026-01-10"}, datetime(2026, 1, 10)),
        ({"DATE-OBS": "2026-01-10 01:02:03", "UT": "09:09:09"}, datetime(2026, 1, 10, 1, 2, 3)),
        ({"DATE-OBS": "", "MJD-OBS": 61050.5}, datetime(2026, 1, 10, 12)),
        ({"DATE-OBS": " ", "MJD-OBS": "61050.5"}, datetime(2026, 1, 10, 12)),
        ({"DATE-OBS": "2026-01-10T00:00:37", "TIMESYS": "TAI"}, datetime(2026, 1, 10)),
        ({"DATE-OBS": "2026-01-10", "UT": 3.5, "TIME-OBS": "01:02:03"}, datetime(2026, 1, 10, 1, 2, 3)),
    ],
)
def test_times(tmp_path: Path, cards: dict[str, Any], time: datetime) -> None:
    key = {"keywords": ["DATE-OBS", "MJD-OBS"], "type": "time"}
    assert read(tmp_path, cards, {"begins_at": key}).begins_at == time.replace(tzinfo=UTC)


def test_a_number_is_no_date(tmp_path: Path) -> None:
    error = refusal(tmp_path, {"DATE-OBS": 20260110}, {"begins_at": {"keywords": ["DATE-OBS"], "type": "time"}})
    assert error.reason == "bad_value"
    assert (
        "begins_at: DATE-OBS of HDU 0: 20260110 is not a date; if it is a (Modified) Julian Date, say unit: MJD or JD"
        in str(error)
    )


@pytest.mark.parametrize(
    ("keyword", "key", "value", "told"),
    [
        ("DATE-OBS", {}, "2026-01-10", "its time of day stands under UT, which is 3.5 and not hh:mm:ss"),
        ("EXPSTART", {}, 49491.65, "49491.65 is not a date; if it is a (Modified) Julian Date, say unit: MJD or JD"),
        ("HJD", {}, 2461051.0, "2461051.0 is not a date"),
        ("MJD-OBS", {}, 2461051.0, "it is a Julian Date rather than a Modified one; say unit: JD"),
        ("MJD-OBS", {}, True, "T is not a date"),
        ("JD", {}, 61050.5, "it is not in the years 1 to 9999"),
    ],
)
def test_what_is_not_clearly_a_time_is_not_guessed(
    tmp_path: Path, keyword: str, key: dict[str, Any], value: object, told: str
) -> None:
    keys = {"begins_at": {"keywords": [keyword], "type": "time", **key}}
    error = refusal(tmp_path, {keyword: value, "UT": 3.5}, keys)
    assert error.reason == "bad_value"
    assert told in str(error)


@pytest.mark.parametrize(
    ("keyword", "unit", "value"),
    [("EXPSTART", "MJD", 61050.5), ("OBSJD", "", 2461051.0), ("JD-OBS", "", 2461051.0), ("MJD-OBS", "JD", 2461051.0)],
)
def test_days_are_of_the_count_that_the_unit_or_the_keyword_says(
    tmp_path: Path, keyword: str, unit: str, value: float
) -> None:
    keys = {"begins_at": {"keywords": [keyword], "type": "time", "unit": unit}}
    assert read(tmp_path, {keyword: value}, keys).begins_at == datetime(2026, 1, 10, 12, tzinfo=UTC)


def test_the_end_of_an_exposure_is_not_dated_by_the_clock_of_its_beginning(tmp_path: Path) -> None:
    keys = TYPED | {"ends_at": {"keywords": ["DATE-END"], "type": "time"}}
    cards = {"DATE-OBS": "2026-01-10", "TIME-OBS": "23:59:00", "DATE-END": "2026-01-11", "TIME-END": "00:01:00"}
    assert read(tmp_path, CARDS | cards, keys).ends_at == datetime(2026, 1, 11, 0, 1, tzinfo=UTC)
    del cards["TIME-END"]
    assert read(tmp_path, CARDS | cards, keys).ends_at == datetime(2026, 1, 11, tzinfo=UTC)


def test_other_times_are_texts_that_sort(tmp_path: Path) -> None:
    assert one(tmp_path, "10/01/2026", type="time") == "2026-01-10T00:00:00.000000+00:00"
