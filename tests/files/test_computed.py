from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import ConfigError
from nightmill.files.computed import check_call, night_of, parse_call
from nightmill.model.dimensions import KeyType

BEGINS = datetime(2026, 1, 10, 3, 4, 5, tzinfo=UTC)
KINDS: dict[str, KeyType] = {"begins_at": "time", "exposure_seconds": "float", "filter": "str", "number": "int"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("end_of(begins_at, exposure_seconds)", datetime(2026, 1, 10, 3, 4, 35, tzinfo=UTC)),
        ("mid_of(begins_at, 60)", datetime(2026, 1, 10, 3, 4, 35, tzinfo=UTC)),
        ("night_of(begins_at, -70.8)", 20260109),
        ("night_of(begins_at, 149.07)", 20260110),
        ("concat(filter, '-', number)", "g-7"),
        ("slug(filter)", "g"),
    ],
)
def test_functions(text: str, value: object) -> None:
    call = parse_call(text)
    check_call(call, KINDS)
    assert call({"begins_at": BEGINS, "exposure_seconds": 30.0, "filter": "g", "number": 7}) == value


def test_what_lacks_an_argument_has_no_value() -> None:
    assert parse_call("end_of(begins_at, exposure_seconds)")({"begins_at": BEGINS}) is None


@pytest.mark.parametrize("name", ["end_of", "mid_of"])
def test_nothing_takes_less_than_no_time(name: str) -> None:
    call = parse_call(f"{name}(begins_at, exposure_seconds)")
    assert call({"begins_at": BEGINS, "exposure_seconds": 0}) == BEGINS
    with pytest.raises(
        ValueError, match=r"is not possible \(begins_at: 2026-01-10 .*, exposure_seconds: -1e-06\): nothing"
    ):
        call({"begins_at": BEGINS, "exposure_seconds": -1e-6})


def test_result_out_of_range_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"end_of\(begins_at, 1e15\) is out of range"):
        parse_call("end_of(begins_at, 1e15)")({"begins_at": BEGINS})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nigth_of(begins_at, 1)", r"calls 'nigth_of', which is not a function \(did you mean 'night_of'\?\)"),
        ("night_of(begins_at)", "gives 1 arguments to night_of, which takes 2"),
        ("night_of(begins_at, longitude=3)", "is not one call of a function"),
        ("begins_at", "is not one call of a function"),
        ("os.system('true')", "is not one call of a function"),
        ("concat(__import__('os'))", r"has the argument \"__import__\('os'\)\", which is neither a key"),
        ("concat(*filter)", "which is neither a key, a number nor a text"),
        ("night_of(begins_at, 1", "cannot be read"),
        ("", "cannot be read"),
        (f"concat({'-' * 400}1)", "which is neither a key, a number nor a text"),
        (f"concat({'-' * 3000}1)", r"compute 'concat\(-{33}\.\.\.' has more than 500 characters"),
        ("night_of(begins, 1)", r"needs 'begins', which is not metadata of this type \(did you mean 'begins_at'\?\)"),
        ("night_of(filter, 1)", "gives filter, of type str, where time is wanted"),
        ("end_of(begins_at, 'x')", "gives 'x', of type str, where int or float is wanted"),
        ("concat(begins_at)", "gives begins_at, of type time"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_call(parse_call(text), KINDS)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.floats(-180, 180))
def test_a_night_lasts_from_local_noon_to_noon(time: datetime, longitude: float) -> None:
    night = datetime.strptime(str(night_of(time, longitude)), "%Y%m%d").replace(tzinfo=UTC)
    local_hours = (time - night).total_seconds() / 3600 + longitude / 15
    assert 12 - 1e-6 <= local_hours <= 36 + 1e-6
