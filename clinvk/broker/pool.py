"""Celery's thread pool, which tells the consumer at once that a slot is free.

A worker fetches a message only when it can run it (`worker_disable_prefetch`); otherwise one
machine would hold tasks that another could start. Celery's event loop looks whether it may fetch
each time it wakes, and sleeps up to a second when nothing happens on its sockets: the end of a
task must wake it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker.state import reserved_requests


class TaskPool(ThreadPool):  # type: ignore[misc]
    """A thread pool whose tasks wake the event loop as they end.

    Attributes:
        abort: stops the commands that run; set by the worker's bootstep.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.abort: Callable[[], None] = lambda: None
        self._loop: Any = None

    def register_with_event_loop(self, loop: Any) -> None:
        """Let the end of a task wake the loop."""
        self._loop = loop

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Run a task in a thread."""
        running = super().on_apply(*args, **kwargs)
        running.f.add_done_callback(self._wake)
        return running

    def terminate_job(self, *_: object) -> None:
        """Stop all commands: at a cold shutdown Celery calls this for every task."""
        self.abort()

    def _wake(self, _future: object) -> None:
        # Unless the slot has its next task already (clinvk/broker/consumer.py).
        if self._loop is not None and len(reserved_requests) < self.limit:
            self._loop.call_soon(_nothing)


def _nothing() -> None:
    """Do nothing: the call itself wakes the loop."""
