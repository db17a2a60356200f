"""Durations as users write them."""

from __future__ import annotations

import math

import pytest

from clinvk.core.durations import in_words, seconds_of, wait_seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (1.5, 1.5),
        ("90", 90),
        ("30s", 30),
        ("1.5m", 90),
        ("6h", 21600),
        ("7d", 604800),
        ("999999999d", 1e9),
    ],
)
def test_a_duration_is_seconds_or_has_a_unit(written: object, seconds: float) -> None:
    assert seconds_of(written) == seconds
    assert wait_seconds(written) == seconds


@pytest.mark.parametrize(
    "written",
    [-1, True, None, [], math.inf, math.nan, "", "h", "5 m", "5w", "-5", "1e3", "s5"],
)
def test_nothing_else_is_a_duration(written: object) -> None:
    for read in (seconds_of, wait_seconds):
        with pytest.raises(ValueError, match="must be a number of seconds, or like"):
            read(written)


def test_a_wait_may_be_for_ever() -> None:
    assert wait_seconds("none") == math.inf
    with pytest.raises(ValueError, match="must be a number"):
        seconds_of("none")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0s"),
        (59.4, "59s"),
        (723, "12m 3s"),
        (720, "12m"),
        (21900, "6h 5m"),
        (3603, "1h"),
        (176400, "2d 1h"),
    ],
)
def test_in_words(seconds: float, text: str) -> None:
    assert in_words(seconds) == text
