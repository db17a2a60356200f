"""The leases of the tasks that a worker runs, each with the signal that stops its command."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from clinvk.backends.base import StoppedBy
from clinvk.store.types import Lease
from workers.execution.stop_signal import StopSignal


class HeldLeases:
    """The leases of this process. Safe for use from several threads."""

    def __init__(self) -> None:
        self._signals: dict[Lease, StopSignal] = {}
        self._ended: set[Lease] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    @contextmanager
    def hold(self, lease: Lease) -> Iterator[StopSignal]:
        """Hold a lease while its task runs; the signal says when it must stop."""
        with StopSignal() as stop:
            with self._lock:
                self._signals[lease] = stop
                if self._is_closed:
                    stop.set("requeued")
            try:
                yield stop
            finally:
                with self._lock:
                    del self._signals[lease]
                    self._ended.discard(lease)

    def all(self) -> list[Lease]:
        """Return the leases that are held."""
        with self._lock:
            return list(self._signals)

    def of_runs(self, runs: Collection[str]) -> list[Lease]:
        """Return the leases of the tasks of these runs."""
        return [lease for lease in self.all() if lease.run in runs]

    def mark_ended(self, lease: Lease) -> None:
        """Note that nothing runs any more under a lease, which is still held for its result."""
        with self._lock:
            self._ended.add(lease)

    def count_running(self) -> int:
        """Return how many tasks still run."""
        with self._lock:
            return len(self._signals) - len(self._ended)

    def stop(self, reason: StoppedBy, leases: Iterable[Lease]) -> None:
        """Stop the commands of these leases; those that are not held do not matter."""
        with self._lock:
            for lease in leases:
                if lease in self._signals:
                    self._signals[lease].set(reason)

    def close(self) -> None:
        """Stop every command, and each that comes from now on, so that others run the tasks."""
        with self._lock:
            self._is_closed = True
            for signal in self._signals.values():
                signal.set("requeued")
