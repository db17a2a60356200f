"""`clinvk workers`: list live workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clinvk.commands.printing import note_unreadable, print_listing
from clinvk.output import tables
from clinvk.output.streams import note

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


def list_workers(client: CeleryClient, *, as_json: bool) -> int:
    """List live workers: what they serve, and how much at once."""
    found = client.store.workers(note_unreadable)
    for warning in client.warnings:
        note(f"warning: {warning}")
    return print_listing(found, tables.workers(found), as_json=as_json)
