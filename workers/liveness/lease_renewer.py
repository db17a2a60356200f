"""The thread that renews a worker's leases, and stops what the worker may no longer run.

Every few seconds it renews all leases in one call. In between it waits for runs to be canceled and
looks for tasks that other workers lost. While Redis cannot be used it tries again, and stops this
worker's commands before any other worker may start their tasks (`contact`, and
`clinvk/store/failure_detector.py`, which has the times).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import redis

from clinvk.backends.base import StoppedBy
from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.error_log import ErrorLog
from clinvk.store.connection import is_transient
from clinvk.store.failure_detector import RENEW_SECONDS
from clinvk.store.types import Lease
from workers.execution.stop_signal import StopSignal
from workers.liveness.connection import LivenessConnection
from workers.liveness.contact import Contact
from workers.liveness.held_leases import HeldLeases
from workers.liveness.worker_info import Announcement
from workers.observers import Observers, RunCanceled, RunEnded, TaskLost, TaskRetried
from workers.server_clock import ServerClock

SIGNAL_BLOCK_MS = 1000
RETRY_SECONDS = 0.5
REQUEUE_SECONDS = 10.0
"""How long a worker that shuts down at once waits for its commands to end."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class LeaseRenewer:
    """The leases that this process holds, and the thread that renews them.

    `owner` names this process (see `Store.claim`). `announcement` is published with each renewal.
    `dispatcher` and `connection` are for this thread alone, and must not wait for long.
    `server_clock` is told the time with each renewal.

    Attributes:
        announcement: what the fleet knows of this worker.
        failures: how often Redis could not be used.
        is_draining: whether this worker takes no more tasks.
        is_closing: whether it stops what runs, to shut down.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        owner: str,
        announcement: Announcement,
        connection: LivenessConnection,
        observers: Observers | None = None,
        clock: Callable[[], float] = time.monotonic,
        server_clock: ServerClock | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._store = dispatcher.store
        self._owner = owner
        self.announcement = announcement
        self._connection = connection
        self._connection_id = ""
        self._server = ""
        self._observers = observers or Observers()
        self._clock = clock
        self._server_clock = server_clock or ServerClock()
        self._contact = Contact(clock())
        self._renew_at = clock()
        self._signals_after: str | None = None
        self._held = HeldLeases()
        self._errors = ErrorLog(logger)
        self._closing = threading.Event()
        self.is_draining = False
        self.failures = 0
        self.is_closing = False
        self._thread = threading.Thread(target=self._run, name="clinvk-lease-renewer", daemon=True)

    # For the tasks and the worker, from their own threads.

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @contextmanager
    def hold(self, lease: Lease) -> Iterator[StopSignal]:
        """Renew a lease while its task runs; the signal says when the task must stop."""
        with self._held.hold(lease) as stop:
            yield stop

    def mark_ended(self, lease: Lease) -> None:
        """Note that nothing runs any more under a lease, which is still renewed for its result.

        Called before the result is recorded, so that no slot is promised that will be gone.
        """
        self._held.mark_ended(lease)
        if self.is_draining:
            self._announce_drain()

    @property
    def is_idle(self) -> bool:
        """Whether no lease is held."""
        return not self._held.all()

    def drain(self) -> None:
        """Take no more tasks; the leases of those that run are renewed until they end."""
        self.is_draining = True
        self._announce_drain()

    def _announce_drain(self) -> None:
        try:
            self.announcement.drain(self._held.count_running())
        except redis.RedisError as error:
            logger.warning("could not announce that this worker drains: %s", error)

    def stop_all(self, reason: StoppedBy) -> None:
        """Stop every command of this worker."""
        self._held.stop(reason, self._held.all())

    def close(self) -> None:
        """Stop every command that still runs, let other workers have the tasks, end the thread."""
        self.is_closing = True
        self._held.close()
        give_up_at = time.monotonic() + REQUEUE_SECONDS
        while not self.is_idle and time.monotonic() < give_up_at:
            time.sleep(0.01)
        self._closing.set()
        self._thread.join()

    # The thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._renew_in_time()
                self._attempt("doing what a submitter asked for", self._dispatcher.serve)
                retry_after_ms = self._look_after_other_workers()
                self._stop_canceled_runs(retry_after_ms)
            except redis.RedisError as error:
                self._disconnected(error)
            except Exception as error:  # noqa: BLE001  (without this thread every lease runs out)
                self._errors.log("the lease renewer goes on after an error", error)
                self._closing.wait(RETRY_SECONDS)
        self._connection.close()

    def _renew_in_time(self) -> None:
        if self._clock() >= self._renew_at or not self._connection.stands:
            self._renew()

    def _renew(self) -> None:
        asked_at = self._clock()
        connection_id = self._open_connection()
        self._note_signals()  # what was canceled before it, the renewal tells
        leases = self._held.all()
        called_at = self._clock()
        renewed = self._store.renew(self._owner, connection_id, leases)
        self._server_clock.note(renewed.now_ms, called_at)
        self._connection_id = connection_id
        self._renew_at = asked_at + RENEW_SECONDS
        if self._contact.heard(asked_at):
            logger.warning("Redis can be used again")
        self._held.stop("canceled", renewed.stop)
        self._redeliver_to_new_server()  # before the announcement, which has more dispatched
        if leases or not self.is_draining:
            self._attempt("announcing this worker", self.announcement.publish)

    def _open_connection(self) -> str:
        """Return the id of the liveness connection, which is opened anew if it has closed."""
        if self._connection.stands:
            return self._connection_id
        self._connection_id = ""
        return self._connection.open()

    def _redeliver_to_new_server(self) -> None:
        """Deliver the latest results again to a server that may not have them.

        It was restarted, or is a replica that took over.
        """
        server = self._connection_id.partition(":")[0]
        if self._server not in {"", server}:
            self._signals_after = None  # its clock may be behind; renewals find what was missed
            self._attempt("delivering results again", self._dispatcher.redeliver)
        self._server = server

    def _look_after_other_workers(self) -> int:
        """Retry what other workers lost, and publish what time has made room for.

        Returns after how many milliseconds there is something to publish again.
        """
        if reaped := self._attempt("looking for lost tasks", self._dispatcher.reap):
            for exhausted in reaped.exhausted:
                self._observers.notify(
                    TaskLost(exhausted.lease, exhausted.reason, exhausted.worker_losses)
                )
            for dispatched in reaped.admission.dispatched:
                if dispatched.dispatch > 1:
                    lease = Lease(dispatched.run, dispatched.index, dispatched.dispatch)
                    self._observers.notify(TaskRetried(lease))
            for run in reaped.complete:
                self._observers.notify(RunEnded(run))
        admission = self._attempt("admitting tasks", self._dispatcher.admit)
        return admission.retry_after_ms if admission else SIGNAL_BLOCK_MS

    def _note_signals(self) -> str:
        """Return after which signal to wait for more."""
        if self._signals_after is None:
            self._signals_after = self._store.last_signal()
        return self._signals_after

    def _stop_canceled_runs(self, timeout_ms: int) -> None:
        """Wait for runs to be canceled, and stop what runs of them here."""
        after = self._note_signals()
        block_ms = max(1, min(SIGNAL_BLOCK_MS, timeout_ms))
        self._signals_after, canceled = self._store.wait_signals(after, block_ms)
        # Whoever hears of it late may run a task of a run that has been retried since.
        stopped = [run for run in canceled if not self._store.is_running(run)]
        self._held.stop("canceled", self._held.of_runs(stopped))
        for run in stopped:
            self._observers.notify(RunCanceled(run))

    def _attempt(self, doing: str, ask: Callable[[], T]) -> T | None:
        """Ask for something that this worker's own tasks do not need; None where that fails.

        Redis refuses it, say for one broken run: that is logged once, and must not keep this
        worker from renewing its leases. That Redis cannot be used is for `_run`.
        """
        try:
            return ask()
        except redis.RedisError as error:
            if is_transient(error):
                raise
            self._errors.log(doing, error)
            return None

    def _disconnected(self, error: redis.RedisError) -> None:
        """Wait for Redis to come back; stop our tasks before any other worker may start them."""
        now = self._clock()
        if self._contact.failed(error, now):
            logger.warning("Redis cannot be used: %s", error)
        self._renew_at = now  # before anything else
        connection_stands = bool(self._connection_id) and self._connection.stands
        if now >= self._contact.stop_deadline(connection_stands=connection_stands):
            self.stop_all("disconnected")
        self.failures += 1
        self._closing.wait(RETRY_SECONDS)
