"""`clinvk queues`: list queues, set their limits, pause and resume them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clinvk.commands.printing import note_unreadable, print_listing
from clinvk.config.models import rate_limits
from clinvk.core import exit_codes
from clinvk.core.errors import UsageError
from clinvk.core.spec import queue_of
from clinvk.output import tables

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


def pause(client: CeleryClient, name: str, *, paused: bool) -> int:
    """Stop starting tasks of a queue, or start them again; running tasks continue."""
    client.store.limit(queue_of(name), paused=1 if paused else None)
    client.store.admit()
    return exit_codes.OK


def _parsed_rate(rate: str) -> dict[str, Any]:
    try:
        return rate_limits(rate)
    except ValueError as error:
        raise UsageError(f'--rate: {error}, or "none" (got "{rate}")') from error
