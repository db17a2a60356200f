"""Keeps the leases of all that a worker runs, and stops what it may no longer run.

One thread per worker: it renews every lease in one call every few seconds, waits in between for
runs to be canceled, and looks for tasks that other workers lost. When Redis cannot be reached
for so long that somebody else may start the tasks, the worker stops its own commands
(`clinvk/store/failure_detector.py` has the rules).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis

from clinvk.backends.base import StoppedBy
from clinvk.broker.dispatcher import Dispatcher
from clinvk.store.failure_detector import RENEW_SECONDS, stop_deadline
from clinvk.store.store import Lease, serves_nobody
from workers.execution.process import StopSignal
from workers.liveness.connection import LivenessConnection

SIGNAL_BLOCK_MS = 1000
RETRY_SECONDS = 0.5
REQUEUE_SECONDS = 10.0
"""How long a worker that goes down at once waits for its commands to end."""

logger = logging.getLogger(__name__)


class LeaseRenewer:
    """The leases that this process holds, and the thread that keeps them.

    `owner` names this process (see `Store.claim`). `entry` is what the worker announces of
    itself, at least its `slots` and `queues`. `dispatcher` is for that thread alone: its store
    must not wait for long.

    Attributes:
        failures: how often Redis could not be reached.
        is_closing: whether it stops what runs, to go down.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        owner: str,
        entry: Mapping[str, Any],
        beacon: LivenessConnection,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher = dispatcher
        self._store = dispatcher.store
        self._owner = owner
        self._entry = dict(entry)
        self._beacon = beacon
        self._beacon_name = ""
        self._clock = clock
        self._heard_at = clock()
        self._renew_at = clock()
        self._refused_at: float | None = None
        self._is_away = False
        self.failures = 0
        self._held: dict[Lease, StopSignal] = {}
        self._ending: set[Lease] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._is_draining = False
        self.is_closing = False
        self._thread = threading.Thread(target=self._keep, name="clinvk-lease-renewer", daemon=True)

    def start(self) -> None:
        """Start keeping."""
        self._thread.start()

    def describe(self, **more: Any) -> None:
        """Add to what the worker announces of itself."""
        self._entry = {**self._entry, **more}

    def drain(self) -> None:
        """Take nothing more; what runs is kept until it ends."""
        self._is_draining = True
        self._shrink()

    def _shrink(self) -> None:
        """Once draining, have as many slots as tasks that still run: theirs, and no others'.

        With none at all, those tasks would be counted against the slots of the workers that
        take over. Called before a result is recorded, so that no slot is promised that is gone.
        """
        if not self._is_draining:
            return
        try:
            with self._lock:
                running = len(self._held) - len(self._ending)
            if running:
                self.describe(slots=running, draining=True)
                self._announce()
            else:
                self._store.drain(self._worker)
        except redis.RedisError as error:
            logger.warning("could not tell the fleet: %s", error)

    def close(self) -> None:
        """Stop every command that still runs, let others have their tasks, and stop keeping."""
        with self._lock:
            self.is_closing = True
        self.stop_all("requeued")
        give_up_at = time.monotonic() + REQUEUE_SECONDS
        while self._leases() and time.monotonic() < give_up_at:
            time.sleep(0.01)
        self._closing.set()
        self._thread.join()

    @contextmanager
    def hold(self, lease: Lease) -> Iterator[StopSignal]:
        """Keep a lease while a task runs; the signal says when it must stop."""
        with StopSignal() as stop:
            with self._lock:
                self._held[lease] = stop
                if self.is_closing:  # what comes now is too late
                    stop.set("requeued")
            try:
                yield stop
            finally:
                with self._lock:
                    del self._held[lease]
                    self._ending.discard(lease)

    def ends(self, lease: Lease) -> None:
        """Note that nothing runs any more under a lease that is still kept, for its result."""
        with self._lock:
            self._ending.add(lease)
        self._shrink()

    @property
    def is_idle(self) -> bool:
        """Whether it keeps nothing."""
        return not self._leases()

    def stop_all(self, reason: StoppedBy) -> None:
        """Stop every command of this worker."""
        self._stop(reason, self._leases())

    def _leases(self) -> list[Lease]:
        with self._lock:
            return list(self._held)

    def _stop(self, reason: StoppedBy, leases: Iterable[Lease]) -> None:
        with self._lock:
            for lease in leases:
                if lease in self._held:
                    self._held[lease].set(reason)

    def _keep(self) -> None:
        position: str | None = None
        while not self._closing.is_set():
            try:
                if self._clock() >= self._renew_at or not self._beacon.stands:
                    self._renew()
                position = position or self._store.last_signal()
                self._dispatcher.reap()
                block_ms = max(1, min(SIGNAL_BLOCK_MS, self._store.admit().retry_after_ms))
                position, canceled = self._store.wait_signals(position, block_ms)
                if canceled:
                    self._stop(
                        "canceled", [held for held in self._leases() if held.run in canceled]
                    )
            except redis.RedisError as error:
                self._out_of_touch(error)
            except Exception:  # whatever it was: without this thread every lease would run out
                logger.exception("the lease renewer goes on")
                self._closing.wait(RETRY_SECONDS)
        self._beacon.close()

    def _renew(self) -> None:
        asked_at = self._clock()
        if not self._beacon.stands:
            self._beacon_name = ""
            name = self._beacon.open()
        else:
            name = self._beacon_name
        leases = self._leases()
        stop = self._store.renew(self._owner, name, leases)
        self._beacon_name, self._heard_at = name, asked_at
        self._renew_at = asked_at + RENEW_SECONDS
        if self._is_away:
            logger.warning("Redis can be used again")
        self._is_away = False
        self._stop("canceled", stop)
        if not self._is_draining or leases:
            self._announce()

    def _out_of_touch(self, error: redis.RedisError) -> None:
        """Wait for Redis to come back; before anybody else may start our tasks, stop them."""
        if not self._is_away:  # once, not twice a second for as long as it lasts
            logger.warning("Redis cannot be used: %s", error)
        self._is_away = True
        now = self._clock()
        self.failures += 1
        self._renew_at = now  # before anything else
        if serves_nobody(error):
            self._refused_at = now
        stands = bool(self._beacon_name) and self._beacon.stands
        if now >= stop_deadline(self._heard_at, beacon_stands=stands, refused_at=self._refused_at):
            self.stop_all("disconnected")
        self._closing.wait(RETRY_SECONDS)

    def _announce(self) -> None:
        self._store.announce(self._worker, self._entry)

    @property
    def _worker(self) -> str:
        return self._owner.partition("/")[0]
