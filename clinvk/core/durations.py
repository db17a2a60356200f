"""Durations as users write them: seconds, or `30s`, `15m`, `6h`, `7d`."""

from __future__ import annotations

import math
import re

UNITS_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
FOR_EVER = "none"
"""As a wait: as long as it takes."""
PATTERN = r"\d{1,9}(\.\d{1,9})?[smhd]?"
RULE = 'must be a number of seconds, or like "30s", "15m", "6h", "7d"'
MAX_SECONDS = 1e9


def seconds_of(value: object) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: it is none.
    """
    match value:
        case bool():
            pass
        case int() | float() if 0 <= value <= MAX_SECONDS:
            return float(value)
        case str() if re.fullmatch(PATTERN, value, re.ASCII):
            number = value.rstrip("smhd")
            return min(float(number) * UNITS_SECONDS[value.removeprefix(number)], MAX_SECONDS)
    raise ValueError(RULE)


def wait_seconds(value: object) -> float:
    """Return how long something may wait, in seconds; infinity for `none`.

    Raises:
        ValueError: it is neither.
    """
    if value == FOR_EVER:
        return math.inf
    try:
        return seconds_of(value)
    except ValueError:
        raise ValueError(f'{RULE}, or "{FOR_EVER}"') from None


def in_words(seconds: float) -> str:
    """Return a duration as `59s`, `12m 3s`, `6h 5m` or `2d 1h`: its two largest units."""
    whole = max(0, round(seconds))
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m")]
    parts.append((whole % 60, "s"))
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = parts[first : first + 2]
    return " ".join(f"{count}{unit}" for count, unit in shown if count) or "0s"
