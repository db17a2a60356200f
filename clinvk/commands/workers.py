"""`clinvk workers`: list live workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clinvk.commands.printing import print_listing
from clinvk.output import tables

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


def list_workers(client: CeleryClient, *, as_json: bool) -> int:
    """List live workers: what they serve, and how much at once."""
    found = client.store.workers()
    return print_listing(found, tables.workers(found), as_json=as_json)
