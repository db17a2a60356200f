"""Keeps the leases of all that a worker runs, and stops what it may no longer run.

One thread per worker: it renews every lease in one call every few seconds, waits in between for
runs to be canceled, and looks for tasks that other workers lost. When Redis cannot be reached
for so long that the leases are about to run out, the worker stops its own commands: from then on
somebody else may start them.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from celery import bootsteps

from workers import process_tree, registry
from workers.backends.base import StoppedBy
from workers.config import WorkerConfig
from workers.dispatch import Dispatcher
from workers.execute import Executor
from workers.kernel import LEASE_MS, Kernel, Lease
from workers.process import TERM_GRACE_SECONDS, StopSignal
from workers.spec import queue_of

RENEW_SECONDS = 3.0
SIGNAL_BLOCK_MS = 1000
RETRY_SECONDS = 0.5
CUT_OFF_SECONDS = LEASE_MS / 1000 - TERM_GRACE_SECONDS - 1.0
"""Out of touch for longer than this, a worker stops its commands: they are gone, KILL
included, before the lease is over."""

SUPPORTED_POOLS = {"workers.pool", "celery.concurrency.thread", "celery.concurrency.solo"}

logger = logging.getLogger(__name__)


class Keeper:
    """The leases that this process holds, and the thread that keeps them.

    `entry` is what the worker announces of itself, at least its `slots` and `queues`.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        worker: str,
        entry: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dispatcher = dispatcher
        self.kernel = dispatcher.kernel
        self._worker = worker
        self._entry = dict(entry)
        self._clock = clock
        self._held: dict[Lease, StopSignal] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._retired = False
        self._thread = threading.Thread(target=self._keep, name="clinvk-keeper", daemon=True)

    def start(self) -> None:
        """Start keeping."""
        self._thread.start()

    def describe(self, **more: Any) -> None:
        """Add to what the worker announces of itself."""
        self._entry = {**self._entry, **more}

    def retire(self) -> None:
        """Take nothing more; what runs is kept until it ends."""
        self._retired = True
        self._shrink()

    def _shrink(self) -> None:
        """Once retired, have as many slots as tasks that still run: theirs, and no other's.

        With none at all, those tasks would be counted against the slots of the workers that
        take over. Called before a result is recorded, so that no slot is promised that is gone.
        """
        if not self._retired:
            return
        try:
            running = len(self._leases())
            if running:
                self.describe(slots=running, draining=True)
                self._announce()
            else:
                self.kernel.retire(self._worker)
        except redis.RedisError as error:
            logger.warning("could not tell the fleet: %s", error)

    def close(self) -> None:
        """Stop every command that still runs and the thread."""
        self._closing.set()
        self.stop_all("canceled")
        self._thread.join()

    @contextmanager
    def hold(self, lease: Lease) -> Iterator[StopSignal]:
        """Keep a lease while a task runs; the signal says when it must stop."""
        with StopSignal() as stop:
            with self._lock:
                self._held[lease] = stop
            try:
                yield stop
            finally:
                with self._lock:
                    del self._held[lease]
                self._shrink()

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
        block_ms = 1
        kept_at = self._clock() - RENEW_SECONDS
        while not self._closing.is_set():
            try:
                position = position or self.kernel.last_signal()
                if self._clock() - kept_at >= RENEW_SECONDS:
                    asked_at = self._clock()
                    self._renew()
                    kept_at = asked_at
                    self._announce()
                    self.dispatcher.reap()
                else:
                    retry_after_ms = self.kernel.admit().retry_after_ms
                    block_ms = max(1, min(SIGNAL_BLOCK_MS, retry_after_ms))
                position, canceled = self.kernel.wait_signals(position, block_ms)
                if canceled:
                    self._stop(
                        "canceled", [held for held in self._leases() if held.run in canceled]
                    )
            except redis.RedisError as error:
                logger.warning("Redis cannot be reached: %s", error)
                if self._clock() - kept_at >= CUT_OFF_SECONDS:
                    self.stop_all("cut_off")
                self._closing.wait(RETRY_SECONDS)

    def _renew(self) -> None:
        if leases := self._leases():
            self._stop("canceled", self.kernel.renew(leases))

    def _announce(self) -> None:
        if not self._retired or self._leases():
            self.kernel.announce(self._worker, self._entry)


class KeeperStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Gives the worker its `Station`, and takes the keeper up and down with it."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self.keeper: Keeper | None = None

    def start(self, parent: Any) -> None:
        """Start keeping leases before the first task comes."""
        global _station
        if parent.pool_cls.__module__ not in SUPPORTED_POOLS:
            raise SystemExit("clinvk runs on the threads pool: start the worker with -P threads")
        raise_open_files_limit()
        process_tree.become_subreaper()
        config = WorkerConfig.load()
        executor = Executor(config, worker=parent.hostname)
        kernel = Kernel.connect(parent.app.conf.broker_url)
        queues = sorted(parent.app.amqp.queues.consume_from)
        for queue, limits in config.queues.items():
            kernel.limit(queue_of(queue), "config", **limits)
        self.keeper = Keeper(
            Dispatcher(parent.app, kernel),
            parent.hostname,
            registry.entry(slots=parent.concurrency, queues=queues),
        )
        self.keeper.start()
        _station = Station(self.keeper, executor)
        if config.tells_versions:
            registry.find_versions(executor.backends(queues), self.keeper.describe)

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Take nothing more. What runs goes on, and so does the keeper, until the process ends."""
        if self.keeper is not None:
            self.keeper.retire()

    def terminate(self, parent: Any) -> None:  # noqa: ARG002
        """Leave no command behind when the worker goes down at once."""
        if self.keeper is not None:
            self.keeper.close()


@dataclass(frozen=True, slots=True)
class Station:
    """What the tasks of one worker process share."""

    keeper: Keeper
    executor: Executor


_station: Station | None = None


def station() -> Station:
    """Return the station of the worker that runs in this process."""
    assert _station is not None, "no worker runs in this process"
    return _station


def raise_open_files_limit() -> None:
    """Allow as many open files as the system lets us: each task needs about eight."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
