"""When a limit opens, from each form in which CLIs and model APIs say it."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.backends.reset_times import reset_time

AT = datetime(2026, 11, 24, 22, 0, 30, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # a time of day, in a named zone
        ("You've hit your session limit · resets 12:46am (UTC)", "2026-11-25T00:46:00"),
        ("resets 7:49pm (America/New_York)", "2026-11-25T00:49:00"),
        ("resets 3pm (Europe/Berlin)", "2026-11-25T14:00:00"),
        ("resets 12pm (UTC)", "2026-11-25T12:00:00"),
        ("resets 12am (UTC)", "2026-11-25T00:00:00"),
        # a date
        ("resets Nov 29, 1:22pm (UTC)", "2026-11-29T13:22:00"),
        ("resets Jan 2, 2027, 3pm (UTC)", "2027-01-02T15:00:00"),
        ("resets Jan 2, 3pm (UTC)", "2027-01-02T15:00:00"),
        ("or try again at Nov 25th, 2026 12:47 AM.", "2026-11-25T00:47:00"),
        ("try again at Nov 1st, 2026 12:47 AM.", "2026-11-01T00:47:00"),
        ("You will regain access on 2026-12-01 at 00:00 UTC.", "2026-12-01T00:00:00"),
        ("resets at 2026-11-25T02:46:10+02:00", "2026-11-25T00:46:10"),
        ("Retry-After: Wed, 25 Nov 2026 00:46:05 GMT", "2026-11-25T00:46:05"),
        # a time of day, in the zone of the machine
        ("or try again at 10:48 PM.", "2026-11-24T22:48:00"),
        # just past: its seconds were cut off; longer ago is tomorrow
        ("try again at 10:00 PM.", "2026-11-24T22:00:00"),
        ("try again at 9:58 PM.", "2026-11-25T21:58:00"),
        # how long
        ("Please try again in 11.05s. Visit", "2026-11-24T22:00:41.050"),
        ("Your quota will reset after 2h52m39s.", "2026-11-25T00:53:09"),
        ("Please retry in 34.07s.\nSuggested retry after 9s.", "2026-11-24T22:01:04.070"),
        ("Please retry in 250ms", "2026-11-24T22:00:30.250"),
        ("try again in 1 hour 5 minutes", "2026-11-24T23:05:30"),
        ("try again in 2 days", "2026-11-26T22:00:30"),
        ("Retry-After: 3600", "2026-11-24T23:00:30"),
        ("retry-after 20", "2026-11-24T22:00:50"),
        # an epoch
        ('{"resets_at":1795567741}', "2026-11-25T00:49:01"),
        ("Usage limit reached|1795567741", "2026-11-25T00:49:01"),
    ],
)
def test_each_form(message: str, expected: str) -> None:
    assert reset_time(message, AT) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "message",
    [
        "try again later",
        "resets soon",
        "resets 3pm (Mars/Olympus)",
        "resets 3pm (America)",
        "resets 3pm (../../etc/passwd)",
        "resets 3pm (\x00)",
        "resets 13pm (UTC)",
        "resets 0:99am (UTC)",
        "resets Feb 30, 3pm (UTC)",
        "resets Feb 29, 3pm (UTC)",
        "try again in 999999999999d",
        "try again in 5 moments",
        "try again at 2026-13-01T00:00Z",
        "a limit of 429 requests",
    ],
)
def test_what_says_no_time(message: str) -> None:
    assert reset_time(message, AT) is None


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        # Clocks are set back at 2:00 on 1 November: 1:30 is at 5:30 UTC, and again at 6:30.
        (datetime(2026, 11, 1, 0, 0, tzinfo=NEW_YORK), "2026-11-01T05:30:00"),
        (datetime(2026, 11, 1, 1, 45, tzinfo=NEW_YORK), "2026-11-01T06:30:00"),
        (datetime(2026, 11, 1, 1, 15, tzinfo=NEW_YORK, fold=1), "2026-11-01T06:30:00"),
        (datetime(2026, 11, 1, 1, 45, tzinfo=NEW_YORK, fold=1), "2026-11-02T06:30:00"),
        # They are set forward on 14 March.
        (datetime(2027, 3, 13, 23, 0, tzinfo=NEW_YORK), "2027-03-14T06:30:00"),
        (datetime(2027, 3, 14, 12, 0, tzinfo=NEW_YORK), "2027-03-15T05:30:00"),
    ],
)
def test_clocks_that_change(at: datetime, expected: str) -> None:
    expected_at = datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert reset_time("try again at 1:30 AM.", at) == expected_at
    assert reset_time("resets 1:30am (America/New_York)", at.astimezone(UTC)) == expected_at


def test_a_time_that_a_change_of_clocks_leaves_out_is_the_one_after_it() -> None:
    at = datetime(2027, 3, 14, 0, 0, tzinfo=NEW_YORK)
    assert reset_time("try again at 2:30 AM.", at) == datetime(2027, 3, 14, 7, 30, tzinfo=UTC)


def test_a_time_read_after_midnight_is_of_the_day_before() -> None:
    at = datetime(2026, 11, 25, 0, 0, 5, tzinfo=UTC)
    assert reset_time("try again at 11:59 PM.", at) == datetime(2026, 11, 24, 23, 59, tzinfo=UTC)


@given(
    st.integers(1_577_836_800, 2_208_988_800),
    st.integers(0, 86_400 - 150),
    st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_what_codex_and_claude_print_is_read_back(epoch: int, seconds: int, name: str) -> None:
    """The reset of the message is that of the API, to the minute."""
    zone = ZoneInfo(name)
    now = datetime.fromtimestamp(epoch, UTC)
    reset = datetime.fromtimestamp(epoch + seconds, zone)
    expected = reset.replace(second=0, microsecond=0).astimezone(UTC)
    hour = f"{reset:%I}".lstrip("0")
    if (reset.utcoffset(), reset.fold) != (now.astimezone(zone).utcoffset(), 0):
        return  # an hour that comes twice is not told apart
    claude = f"resets {hour}:{reset:%M}{reset:%p}".lower() + f" ({name})"
    assert reset_time(claude, now) == expected
    codex = f"try again at {reset:%b} {reset.day}th, {reset:%Y} {hour}:{reset:%M} {reset:%p}."
    assert reset_time(codex, now.astimezone(zone)) == expected


@given(st.text(max_size=200), st.sampled_from(["resets ", "try again in ", "try again at ", ""]))
def test_no_message_can_make_it_raise(text: str, start: str) -> None:
    found = reset_time(start + text, AT)
    assert found is None or found.tzinfo is UTC
