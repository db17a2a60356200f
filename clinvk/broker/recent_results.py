"""Results that were recorded just now, in case the server forgets them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from clinvk.core.spec import TaskResult
from clinvk.store.types import Lease

KEPT_SECONDS = 300.0
MAX_RESULTS = 2000
MAX_CHARS = 1 << 25
PRUNE_EVERY = 64
"""After how many more results those are dropped that are too old, or too many."""


class RecentResults:
    """What a worker recorded in the last minutes. Safe to use from any thread.

    A replica that takes over while it is behind, or a server that lost its last second of
    writes, does not know them. Delivered again, they keep paid work from being done twice.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # When each was recorded, oldest first. Reading and adding need no lock in CPython.
        self._kept: dict[tuple[str, int], tuple[float, Lease, TaskResult]] = {}
        self._added = 0

    def add(self, lease: Lease, result: TaskResult) -> None:
        """Keep a result for some minutes, or until there are too many."""
        self._kept.pop((lease.run, lease.index), None)
        self._kept[lease.run, lease.index] = (self._clock(), lease, result)
        self._added += 1
        if self._added >= PRUNE_EVERY or _chars(result) * PRUNE_EVERY > MAX_CHARS:
            self._prune()

    def _prune(self) -> None:
        with self._lock:
            self._added = 0
            oldest_at = self._clock() - KEPT_SECONDS
            kept = list(self._kept.items())
            chars = sum(_chars(result) for _, (_, _, result) in kept)
            for count, (task, (at, _, result)) in zip(range(len(kept), 0, -1), kept, strict=True):
                if at >= oldest_at and count <= MAX_RESULTS and chars <= MAX_CHARS:
                    return
                chars -= _chars(result)
                self._kept.pop(task, None)

    def find(self, lease: Lease) -> TaskResult | None:
        """Return the result of this dispatch of a task, or of a later one, if it is kept."""
        if (entry := self._kept.get((lease.run, lease.index))) is None:
            return None
        _, recorded, result = entry
        return result if recorded.dispatch >= lease.dispatch else None

    def latest(self) -> list[tuple[Lease, TaskResult]]:
        """Return what is kept, oldest first."""
        return [(lease, result) for _, lease, result in list(self._kept.values())]


def _chars(result: TaskResult) -> int:
    """Return the size of the parts of a result that may be large."""
    return len(result.output or "") + (result.changes.chars if result.changes else 0)
