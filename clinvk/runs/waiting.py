"""Say in one line what a run waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clinvk.core.limit_words import closed_until, limit_name, when
from clinvk.core.spec import backend_of
from clinvk.store.types import Explanation, PendingReason

MAX_WORKERS = 3
NORMAL = frozenset(
    {"run", "busy", "limit", "rate", "rising", "turn", "limited", "held", "budget", "occupied"}
)
"""Reasons that pass by themselves as tasks end."""
REASONS = {
    "paused": "queue {} is paused",
    "limit": "queue {} has reached its limit",
    "limited": "{} has reached what its provider allows just now",
    "unserved": "no live worker serves {}",
    "busy": "all slots for {} are busy",
    "rate": "queue {} has reached its rate",
    "rising": "queue {} begins with some, and doubles them every two seconds",
    "run": "the run has reached max_parallel",
    "turn": "another run has its turn in queue {}",
    "budget": "{} is kept from starting by a budget",
    "unmet": "no live worker that serves {} has what the run requires",
    "occupied": "all workers for {} that have what the run requires are busy",
    "held": "{} is to be tried again",
}


@dataclass(frozen=True, slots=True)
class Wait:
    """How many tasks of a run wait for a time, and for what.

    `name` is a backend or `backend:model`. It ends at `until_ms` by the server's clock, which was
    `now_ms` as this was read. `kind` is the limit; "" where tasks are only tried again then.
    """

    name: str
    kind: str
    until_ms: int
    waiting: int
    now_ms: int

    def texts(self, elapsed_ms: int = 0) -> Sequence[str]:
        """Return what is said of it so long after it was read: all of it, and shorter."""
        now_ms = self.now_ms + elapsed_ms
        waiting = f", {self.waiting} waiting"
        what = "limited" if self.kind else "tried again"
        head = f"{self.name}: {what} {closed_until(self.until_ms, now_ms)}"
        if not self.kind:
            head = head.replace("until", "at", 1)
        return (head + waiting, head.partition(" (")[0] + waiting, head.partition(" (")[0])


def waits(explanation: Explanation) -> list[Wait]:
    """Return what tasks of a run wait for until a time, by backend or model."""
    return [
        Wait(
            _name(pending),
            (pending.kind or "limit") if pending.reason == "limited" else "",
            pending.until_ms,
            pending.count,
            explanation.now_ms,
        )
        for pending in explanation.pending
        if pending.reason in {"limited", "held"} and pending.until_ms is not None
    ]


def _name(pending: PendingReason) -> str:
    backend = backend_of(pending.queue)
    return f"{backend}:{pending.model}" if pending.model else backend


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
        f"{pending.count} waiting: {_why(pending, explanation)}" for pending in explanation.pending
    ]
    if explanation.state == "canceled":
        parts.append("the run is canceled, running tasks are being stopped")
    elif later := explanation.remaining - _known(explanation):
        parts.append(f"{later} to follow")
    return ", ".join(parts) or "no task is running or waiting"


def _why(pending: PendingReason, explanation: Explanation) -> str:
    now_ms, backend = explanation.now_ms, backend_of(pending.queue)
    if pending.reason == "limited" and pending.until_ms is not None:
        until = closed_until(pending.until_ms, now_ms)
        return f"{_name(pending)} is limited {until}, {limit_name(pending.kind)}"
    until = f" {_UNTIL[pending.reason]} {when(pending.until_ms)}" if pending.until_ms else ""
    if pending.reason in {"unmet", "occupied"}:
        names = backend.split("|")
        required = explanation.requires
        until = f" ({required.of_backend(names[0]) if len(names) == 1 else required})"
    return REASONS[pending.reason].format(backend) + until


_UNTIL = {"paused": "until", "held": "at"}


def _known(explanation: Explanation) -> int:
    pending = sum(pending.count for pending in explanation.pending)
    return sum(explanation.running.values()) + explanation.dispatched + pending


def _workers(explanation: Explanation) -> str:
    names = sorted(explanation.running)
    more = len(names) - MAX_WORKERS
    return ", ".join(names[:MAX_WORKERS]) + (f" and {more} more workers" if more > 0 else "")
