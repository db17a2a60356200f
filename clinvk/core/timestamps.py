"""Times as users read them: RFC 3339 in UTC, to the millisecond; and by this machine's clock."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """Format a time, of any zone, in UTC: `2026-01-02T03:04:05.678Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_from_ms(at_ms: int) -> str:
    """Format milliseconds since the epoch."""
    return rfc3339(datetime.fromtimestamp(at_ms / 1000, UTC))


def local(moment: str) -> datetime | None:
    """Return an RFC 3339 time in this machine's time zone; None where it is none."""
    try:
        return datetime.fromisoformat(moment).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def until(moment: str | None) -> str:
    """Return ` until 14:00`, in this machine's time zone; nothing where there is no such moment."""
    at = local(moment) if moment else None
    return f" until {clock_time(at)}" if at else ""


def clock_time(at: datetime) -> str:
    """Return a time as `14:00`, with its date where it is not soon."""
    is_soon = abs((at - datetime.now(at.tzinfo)).total_seconds()) < 86_400 / 2
    return f"{at:%H:%M}" if is_soon else f"{at:%Y-%m-%d %H:%M}"
