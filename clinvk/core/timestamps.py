"""Times as users read them: RFC 3339 in UTC, to the millisecond."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Format a time, of any zone, in UTC: `2026-01-02T03:04:05.678Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_from_ms(at_ms: int) -> str:
    """Format milliseconds since the epoch."""
    return rfc3339(datetime.fromtimestamp(at_ms / 1000, UTC))
