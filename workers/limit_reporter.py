"""Tells the store of burst limits that the CLI of a running task waits out itself.

So the gate of its queue learns of them at once, and not when the task ends, perhaps long after.
A limit that ends the task is told with its end.
"""

from __future__ import annotations

import logging

import redis

from clinvk.core.error_log import ErrorLog
from clinvk.core.spec import ErrorKind
from clinvk.store.leases import Leases
from workers.observers import TaskRetries, WorkerEvent

logger = logging.getLogger(__name__)


class LimitReporter:
    """An observer; `store` must not wait for long, `worker` is shown with the gate."""

    def __init__(self, store: Leases, worker: str) -> None:
        self._store = store
        self._worker = worker
        self._errors = ErrorLog(logger)

    def saw(self, event: WorkerEvent) -> None:
        """Tell the store of a CLI that was asked to slow down."""
        if isinstance(event, TaskRetries) and event.kind is ErrorKind.RATE_LIMITED:
            try:
                self._store.slow_down(event.lease, event.kind.value, self._worker)
            except redis.RedisError as error:  # the next time, or at the end
                self._errors.log("telling of a limit", error)
