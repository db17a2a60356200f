"""Say in one line what a run waits for."""

from __future__ import annotations

from clinvk.core.spec import backend_of
from clinvk.store.types import Explanation

MAX_WORKERS = 3
NORMAL = frozenset({"run", "busy", "limit", "rate", "turn"})
"""Reasons that pass by themselves as tasks end."""
REASONS = {
    "paused": "queue {} is paused",
    "limit": "queue {} has reached its limit",
    "unserved": "no live worker serves {}",
    "busy": "all slots for {} are busy",
    "rate": "queue {} has reached its rate",
    "run": "the run has reached max_parallel",
    "turn": "another run has its turn in queue {}",
}


def is_normal(explanation: Explanation) -> bool:
    """Whether the run only takes its time: some of it runs, the rest will have its turn."""
    reasons = {pending.reason for pending in explanation.pending}
    return bool(explanation.running) and reasons <= NORMAL


def describe(explanation: Explanation) -> str:
    """Describe it, as `2 running on a@h, 5 waiting: queue claude is paused`."""
    parts = []
    if explanation.running:
        parts.append(f"{sum(explanation.running.values())} running on {_workers(explanation)}")
    if explanation.dispatched:
        parts.append(f"{explanation.dispatched} published but not claimed")
    parts += [
        f"{pending.count} waiting: " + REASONS[pending.reason].format(backend_of(pending.queue))
        for pending in explanation.pending
    ]
    if explanation.state == "canceled":
        parts.append("the run is canceled, running tasks are being stopped")
    elif later := explanation.remaining - _known(explanation):
        parts.append(f"{later} to follow")
    return ", ".join(parts) or "no task is running or waiting"


def _known(explanation: Explanation) -> int:
    pending = sum(pending.count for pending in explanation.pending)
    return sum(explanation.running.values()) + explanation.dispatched + pending


def _workers(explanation: Explanation) -> str:
    names = sorted(explanation.running)
    more = len(names) - MAX_WORKERS
    return ", ".join(names[:MAX_WORKERS]) + (f" and {more} more workers" if more > 0 else "")
