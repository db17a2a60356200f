"""When a limit opens, from what CLIs and model APIs say of it.

They name an epoch, a date, a time of day in some zone, or how long to wait. A time of day has no
seconds, so it can be up to a minute too early.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

GRACE = timedelta(seconds=70)
"""How long ago a time without a date may be: its seconds are cut off, and it is read a little after
it was printed. An earlier one is that of the next day."""

SEARCHED_CHARS = 20_000
"""An error that is longer is not an error message."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_EPOCH = re.compile(r"(?:limit reached\||resets?_?at[\"']?\s*[:=]\s*)(\d{10})\b", re.IGNORECASE)
_DATE = re.compile(
    r"(?:regain access|resets?|try again|retry|until|after)(?: at| on| after|:)? "
    r"(\d{4}-\d\d-\d\d)(?: at |T| )(\d\d:\d\d(?::\d\d)?)(?:\.\d+)? ?(UTC|Z|[+-]\d\d:?\d\d)",
    re.IGNORECASE,
)
_HTTP_DATE = re.compile(
    r"retry-after: *([a-z]{3}, \d\d [a-z]{3} \d{4} \d\d:\d\d:\d\d GMT)", re.IGNORECASE
)
_TIME_OF_DAY = re.compile(
    r"(?:resets(?: at)?|try again at) "
    r"(?:(?P<month>[a-z]{3}) (?P<day>\d{1,2})(?:st|nd|rd|th)?(?:, (?P<year>\d{4}))?,? )?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>[ap])m\b(?: \((?P<zone>[^)]{1,64})\))?",
    re.IGNORECASE,
)
_UNIT = r"(?:milliseconds?|ms|days?|d|hours?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])"
_NUMBER = r"\d{1,12}(?:\.\d{1,12})?"
_DELAY = re.compile(
    r"(?:try again in|retry in|retry after|resets? (?:after|in)) *"
    rf"(?P<words>(?:{_NUMBER} ?{_UNIT} ?)+)"
    rf"|retry-after:? *(?P<seconds>{_NUMBER})\b",
    re.IGNORECASE,
)
_PART = re.compile(r"([\d.]+) ?([a-z]*)", re.IGNORECASE)


def reset_time(message: str, at: datetime) -> datetime | None:
    """Return when the limit of an error message opens, in UTC; None where it does not say.

    `at` is when the message was printed. A time without a zone is in the zone of `at`, one without
    a date is the next such time, and one in an unknown zone is none.
    """
    searched = message[:SEARCHED_CHARS]
    for pattern, read in _FORMS:
        if found := pattern.search(searched):
            try:
                moment = read(found, at)
            except (ValueError, LookupError, OverflowError, OSError):
                return None
            return moment and moment.astimezone(UTC)
    return None


def _epoch(found: re.Match[str], _: datetime) -> datetime:
    return datetime.fromtimestamp(int(found[1]), UTC)


def _date(found: re.Match[str], _: datetime) -> datetime:
    offset = "+00:00" if found[3].upper() in {"UTC", "Z"} else found[3]
    return datetime.fromisoformat(f"{found[1]}T{found[2]}{offset}")


def _http_date(found: re.Match[str], _: datetime) -> datetime:
    return parsedate_to_datetime(found[1])


def _delay(found: re.Match[str], at: datetime) -> datetime:
    parts = _PART.findall(found["words"] or found["seconds"])
    return at + timedelta(seconds=sum(float(n) * SECONDS[_unit(word)] for n, word in parts))


def _unit(word: str) -> str:
    return "ms" if word.lower().startswith(("ms", "milli")) else word[:1].lower()


def _time_of_day(found: re.Match[str], at: datetime) -> datetime | None:
    zone = ZoneInfo(found["zone"]) if found["zone"] else at.tzinfo or UTC
    hour = int(found["hour"])
    if not 1 <= hour <= 12:
        return None
    wall = time(hour % 12 + 12 * (found["half"].lower() == "p"), int(found["minute"] or 0))
    moments = sorted(
        moment
        for day in _days(found, at.astimezone(zone).date())
        for moment in _at(day, wall, zone)
    )
    later = (moment for moment in moments if moment >= at.astimezone(UTC) - GRACE)
    return next(later, moments[-1] if found["year"] else None)


def _days(found: re.Match[str], today: date) -> Iterator[date]:
    """Yield the days that are meant, or may be."""
    if found["month"] is None:
        yield from (today + timedelta(days=days) for days in (-1, 0, 1))
        return
    month, day = MONTHS.index(found["month"].lower()) + 1, int(found["day"])
    years = (int(found["year"]),) if found["year"] else (today.year, today.year + 1)
    for year in years:
        if (month, day) != (2, 29) or year % 4 == 0:
            yield date(year, month, day)


def _at(day: date, wall: time, zone: tzinfo) -> Iterator[datetime]:
    """Yield the moments, in UTC, at which clocks show a time: two where they are set back."""
    first, second = (
        datetime.combine(day, wall.replace(fold=fold), zone).astimezone(UTC) for fold in (0, 1)
    )
    yield first
    if second > first:
        yield second


_FORMS: Iterable[tuple[re.Pattern[str], Callable[[re.Match[str], datetime], datetime | None]]] = (
    (_EPOCH, _epoch),
    (_DATE, _date),
    (_HTTP_DATE, _http_date),
    (_TIME_OF_DAY, _time_of_day),
    (_DELAY, _delay),
)
