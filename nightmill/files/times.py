"""Times as headers write them, turned to UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from nightmill.errors import guess

CLOCK_KEYWORDS: Final = ("TIME-OBS", "UT", "UTSTART", "UTC-OBS")
"""Where the time of day stands at which an exposure begins, where the keyword of its date has none."""

_OF_ANOTHER: Final = re.compile(r"END|AVG|MID|^DATE$")
"""Keywords of dates that are not those on which an exposure begins: DATE is that of the file."""
_DATE: Final = re.compile(
    r"(?:(?P<year>\d{4})(?P<sep>[-/])(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})"
    r"|(?P<day2>\d{1,2})/(?P<month2>\d{1,2})/(?P<year2>\d{4}|\d{2}))"
    r"(?:[T ] *(?P<clock>\S.*))?"
)
_CLOCK: Final = re.compile(
    r"(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2}(?:\.\d*)?))? ?"
    r"(?P<zone>Z|UTC?|(?P<sign>[+-])(?P<zone_hour>[01]\d):?(?P<zone_minute>[0-5]\d))?"
)
_SHOWN: Final = "YYYY-MM-DDThh:mm:ss, DD/MM/YYYY, DD/MM/YY (of the 20th century) or a Modified Julian Date"
_MJD_0: Final = datetime(1858, 11, 17, tzinfo=UTC)
_JD_OF_MJD_0: Final = 2_400_000.5
_DAY_SECONDS: Final = 86_400

_REALIZED: Final = re.compile(r"[( ].*")
"""What may follow the name of a scale: who realized it, as in TT(BIPM), or how well, as in UTC approximate."""
_UTC_NAMES: Final = frozenset({"UTC", "UT", "GMT"})
_SCALES: Final = {"IAT": "tai", "TDT": "tt", "ET": "tt"} | {
    name.upper(): name for name in ("tai", "tt", "tdb", "tcg", "tcb")
}
_GPS_BEHIND_TAI: Final = timedelta(seconds=19)


def clock_keywords(keyword: str) -> tuple[str, ...]:
    """Return the keywords that may hold the time of day that belongs to the date of a keyword, best first.

    That of the same name with TIME for DATE. Those of the beginning of an exposure belong to no date of another moment.
    """
    date = keyword.upper()
    own = (date.replace("DATE", "TIME"),) if "DATE" in date else ()
    return own if _OF_ANOTHER.search(date) else own + CLOCK_KEYWORDS


def has_clock(text: str) -> bool:
    """Say whether a date comes with a time of day."""
    return ":" in text


def parse_time(text: str, clock: str = "", timesys: str = "UTC") -> datetime:
    """Turn a date, or date and time, to UTC.

    Parameters
    ----------
    text
        As ``2026-01-10T03:04:05.678``, with a blank for the T, ``10/01/2026``, or ``19/05/94``, which is 1994 as the
        first FITS standard had it; a zone (``Z``, ``+01:00``) counts, none is UTC. A date alone is its midnight.
    clock
        The time of day, where the text has none. One that is a date and a time itself stands for both. It is counted on
        from midnight: ``03:04:60.0`` is ``03:05:00``, ``24:00:00`` the next midnight, and of a leap second, for which
        datetime has no place, ``23:59:60.5`` is the next day's ``00:00:00.5``, as it is to POSIX.
    timesys
        The time scale of both: TIMESYS of the header.

    Returns
    -------
    datetime
        UTC, to the microsecond.

    Raises
    ------
    ValueError
        Where it cannot be read; the message says what can.
    """
    date = _DATE.fullmatch(text.strip())
    if date is None:
        raise ValueError(f"it is not a time that can be read: {_SHOWN}")
    if date["year"]:
        year, month, day = int(date["year"]), int(date["month"]), int(date["day"])
    else:
        year, month, day = int(date["year2"]), int(date["month2"]), int(date["day2"])
        year += 1900 if len(date["year2"]) == 2 else 0
    moment = datetime(year, month, day, tzinfo=UTC)
    clock = (date["clock"] or clock).strip()
    if not clock:
        return _from_scale(moment, timesys)
    own = _DATE.fullmatch(clock)
    if own is not None and own["clock"]:
        return parse_time(clock, timesys=timesys)
    of_day = _CLOCK.fullmatch(clock)
    if of_day is None:
        raise ValueError(f"its time of day {clock!r} cannot be read: hh:mm:ss")
    hour, minute, second = int(of_day["hour"]), int(of_day["minute"]), float(of_day["second"] or 0)
    if minute >= 60 or second >= 61 or hour * 3600 + minute * 60 + second > _DAY_SECONDS + (second >= 60):
        raise ValueError(f"its time of day {clock!r} is not one: 00:00:00 to 24:00:00")
    since = timedelta(hours=hour, minutes=minute, seconds=second)
    if of_day["sign"]:
        ahead = timedelta(hours=int(of_day["zone_hour"]), minutes=int(of_day["zone_minute"]))
        since -= ahead if of_day["sign"] == "+" else -ahead
    return _from_scale(_later(moment, since), timesys)


def parse_days(days: float, count: str, timesys: str = "UTC") -> datetime:
    """Turn a Julian Date (``count`` is JD) or a Modified one (MJD) to UTC.

    Raises
    ------
    ValueError
        Where the number is not such a date.
    """
    if count == "MJD" and days >= _JD_OF_MJD_0:
        raise ValueError("it is a Julian Date rather than a Modified one; say unit: JD")
    since = days - _JD_OF_MJD_0 if count == "JD" else days
    try:
        past = timedelta(days=since)
    except (OverflowError, ValueError) as error:
        raise ValueError("it is not a (Modified) Julian Date") from error
    return _from_scale(_later(_MJD_0, past), timesys)


def _later(moment: datetime, past: timedelta) -> datetime:
    try:
        return moment + past
    except OverflowError as error:
        raise ValueError("it is not in the years 1 to 9999") from error


def _from_scale(moment: datetime, timesys: str) -> datetime:
    name = _REALIZED.sub("", timesys.strip().upper()) or "UTC"
    if name in _UTC_NAMES:
        return moment
    if name == "GPS":
        moment, name = _later(moment, _GPS_BEHIND_TAI), "TAI"
    if name not in _SCALES:
        known = ["UTC", "GPS", *_SCALES]
        raise ValueError(f"TIMESYS is {timesys!r}, which is not a time scale that is known here{guess(name, known)}")
    from astropy.time import Time  # half a second to import, and hardly a camera needs it

    time = Time(moment.replace(tzinfo=None), scale=_SCALES[name]).utc
    return time.to_datetime(UTC, leap_second_strict="silent")  # type: ignore[no-any-return]
