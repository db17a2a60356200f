"""What is said of the limits of providers: the same words wherever it is."""

from __future__ import annotations

from datetime import UTC, datetime

from clinvk.core.durations import in_words
from clinvk.core.timestamps import clock_time

_KINDS = {"rate_limited": "rate limit", "overloaded": "no capacity"}


def limit_name(kind: str) -> str:
    """Return what a kind of error is called as a limit, such as `usage limit`."""
    return _KINDS.get(kind) or kind.replace("_", " ") or "limit"


def when(at_ms: int) -> str:
    """Return a time in milliseconds since the epoch as this machine's clock shows it: `14:00`."""
    return clock_time(datetime.fromtimestamp(at_ms / 1000, UTC).astimezone())


def closed_until(until_ms: int, now_ms: int) -> str:
    """Return how long a limit is closed: `until 14:00 (in 12 min)`; what follows, once it opens."""
    if until_ms <= now_ms:
        return "until one task has tried"
    return f"until {when(until_ms)} (in {_about((until_ms - now_ms) / 1000)})"


def _about(seconds: float) -> str:
    """Return a time that counts down: in minutes, and in seconds at its end."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else in_words(minutes * 60)
