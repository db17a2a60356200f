"""Results that were recorded just now, in case the server forgets them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from clinvk.core.spec import TaskResult
from clinvk.store.types import Lease

KEPT_SECONDS = 300.0
MAX_RESULTS = 2000
MAX_CHARS = 1 << 25


@dataclass(frozen=True, slots=True)
class _Recorded:
    at: float
    lease: Lease
    result: TaskResult

    @property
    def chars(self) -> int:
        return len(self.result.output or "")


class RecentResults:
    """What a worker recorded in the last minutes. Safe to use from any thread.

    A replica that takes over while it is behind, or a server that lost its last second of
    writes, does not know them. Delivered again, they keep paid work from being done twice.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], _Recorded] = {}  # oldest first
        self._chars = 0

    def add(self, lease: Lease, result: TaskResult) -> None:
        """Keep a result for some minutes, or until there are too many."""
        entry = _Recorded(self._clock(), lease, result)
        with self._lock:
            self._drop((lease.run, lease.index))
            self._kept[lease.run, lease.index] = entry
            self._chars += entry.chars
            while self._kept and self._is_over(next(iter(self._kept.values()))):
                self._drop(next(iter(self._kept)))

    def _drop(self, task: tuple[str, int]) -> None:
        if (entry := self._kept.pop(task, None)) is not None:
            self._chars -= entry.chars

    def _is_over(self, oldest: _Recorded) -> bool:
        is_old = self._clock() - oldest.at > KEPT_SECONDS
        return is_old or len(self._kept) > MAX_RESULTS or self._chars > MAX_CHARS

    def find(self, lease: Lease) -> TaskResult | None:
        """Return the result of this dispatch of a task, or of a later one, if it is kept."""
        with self._lock:
            entry = self._kept.get((lease.run, lease.index))
        return entry.result if entry and entry.lease.dispatch >= lease.dispatch else None

    def latest(self) -> list[tuple[Lease, TaskResult]]:
        """Return what is kept, oldest first."""
        with self._lock:
            return [(entry.lease, entry.result) for entry in self._kept.values()]
