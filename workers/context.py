"""What the tasks of one worker process share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import redis

from clinvk.broker.consumer import Consumer
from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.error_log import ErrorLog
from workers.execution.executor import Executor
from workers.liveness.lease_renewer import LeaseRenewer
from workers.observers import Observers, RunEnded

MOST_UNCLOSED = 100


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Set up once, as the worker starts; `worker` is Celery's own controller.

    `unclosed` are runs whose last result was recorded here. The message that closes one may be left
    in its queue when this worker stops.
    """

    renewer: LeaseRenewer
    dispatcher: Dispatcher
    executor: Executor
    observers: Observers
    errors: ErrorLog
    worker: Any
    unclosed: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_UNCLOSED))

    @property
    def consumer(self) -> Consumer:
        """Celery's consumer, which is another one after the worker has reconnected."""
        consumer: Consumer = self.worker.consumer
        return consumer

    def close_run(self, run: str) -> None:
        """Close a run whose results are all in; the second time changes nothing."""
        if self.dispatcher.store.aggregate(run):
            self.observers.notify(RunEnded(run))

    def close_runs(self) -> None:
        """Close the runs that may still be open: perhaps no worker is left to take the message."""
        while True:
            try:
                run = self.unclosed.popleft()
            except IndexError:
                return
            try:
                self.close_run(run)
            except redis.RedisError as error:  # a reaper closes it
                self.errors.log(f"run {run}", error)


_context: WorkerContext | None = None


def set_up(context: WorkerContext) -> None:
    """Make this the context of the worker in this process."""
    global _context
    _context = context


def is_set_up() -> bool:
    """Whether a worker runs in this process, or did."""
    return _context is not None


def current() -> WorkerContext:
    """Return the context of the worker that runs in this process."""
    assert _context is not None, "no worker runs in this process"
    return _context
