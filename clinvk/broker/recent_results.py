"""Results that were recorded just now, in case the server forgets them."""

from __future__ import annotations

import threading
import time
from collections import deque
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
        self._kept: deque[_Recorded] = deque()
        self._chars = 0

    def add(self, lease: Lease, result: TaskResult) -> None:
        """Keep a result for some minutes, or until there are too many."""
        entry = _Recorded(self._clock(), lease, result)
        with self._lock:
            self._kept.append(entry)
            self._chars += entry.chars
            while self._kept and self._is_over(self._kept[0]):
                self._chars -= self._kept.popleft().chars

    def _is_over(self, oldest: _Recorded) -> bool:
        is_old = self._clock() - oldest.at > KEPT_SECONDS
        return is_old or len(self._kept) > MAX_RESULTS or self._chars > MAX_CHARS

    def latest(self) -> list[tuple[Lease, TaskResult]]:
        """Return what is kept, oldest first."""
        with self._lock:
            return [(entry.lease, entry.result) for entry in self._kept]
