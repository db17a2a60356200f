"""`clinvk queues`: list queues, set their limits, pause and resume them."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from clinvk.commands.printing import note_unreadable, print_listing
from clinvk.config.models import rate_limits
from clinvk.core import exit_codes
from clinvk.core.durations import seconds_of
from clinvk.core.errors import UsageError
from clinvk.core.limit_words import when
from clinvk.core.spec import queue_of
from clinvk.output import tables
from clinvk.output.streams import Output

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


def list_queues(client: CeleryClient, *, as_json: bool) -> int:
    """List the queues: their limits, what runs and what waits."""
    found = client.store.queues(note_unreadable)
    return print_listing(tables.queues_document(found), tables.queues(found), as_json=as_json)


def set_limits(
    client: CeleryClient, name: str, max_concurrency: int | None, rate: str | None
) -> int:
    """Set limits of a queue; 0 or `none` removes one.

    Raises:
        UsageError: no limit was given, or one that cannot be read.
    """
    if max_concurrency is None and rate is None:
        raise UsageError("nothing to set: use --max-concurrency or --rate")
    limits: dict[str, Any] = {}
    if max_concurrency is not None:
        limits["max_concurrency"] = max_concurrency or None
    if rate is not None:
        limits |= {"rate": None, "interval_ms": None} if rate == "none" else _parsed_rate(rate)
    client.store.limit(queue_of(name), **limits)
    client.store.admit()
    return list_queues(client, as_json=False)


def pause(client: CeleryClient, name: str, until: str | None) -> int:
    """Stop starting tasks of a queue, for ever or until a time; running tasks continue.

    Raises:
        UsageError: `until` is no time that is to come.
    """
    until_ms = None if until is None else _moment_ms(until, client.store.server_time_ms())
    client.store.limit(queue_of(name), paused=1, paused_until=until_ms)
    client.store.admit()
    if until_ms is not None:
        Output(sys.stdout).write(f"{name} is paused until {when(until_ms)}\n")
    return exit_codes.OK


def resume(client: CeleryClient, name: str) -> int:
    """Start tasks of a queue again, whether somebody or a limit of its provider has closed it."""
    client.store.limit(queue_of(name), paused=None, paused_until=None)
    client.store.reopen(queue_of(name))
    return exit_codes.OK


def _moment_ms(text: str, now_ms: int) -> int:
    """Return a time of day, an RFC 3339 time or a duration from now, in ms since the epoch."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone()
    at = _time_of_day(text, now)
    with suppress(ValueError, OverflowError):
        at = at or datetime.fromisoformat(text)
    with suppress(ValueError, OverflowError):
        at = at or now + timedelta(seconds=seconds_of(text))
    if at is None or at.tzinfo is None:
        raise UsageError(
            "--until: must be a time of day like 14:00, a time with a zone like "
            f'2026-01-02T14:00:00Z, or a duration like 30m (got "{text}")'
        )
    if at <= now:
        raise UsageError(f"--until: {text} is over")
    return int(at.timestamp() * 1000)


def _time_of_day(text: str, now: datetime) -> datetime | None:
    """Return when this machine's clock shows a time next; None where it is none."""
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text, re.ASCII)
    if match is None:
        return None
    today = now.replace(
        tzinfo=None, hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0
    )
    at = today.astimezone()
    return at if at > now else (today + timedelta(days=1)).astimezone()


def _parsed_rate(rate: str) -> dict[str, Any]:
    try:
        return rate_limits(rate)
    except ValueError as error:
        raise UsageError(f'--rate: {error}, or "none" (got "{rate}")') from error
