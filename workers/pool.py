"""Celery's thread pool, which tells the consumer at once that a slot is free.

A worker fetches a message only when it can run it (`worker_disable_prefetch`); otherwise one
machine would hold tasks that another could start. Celery's event loop looks whether it may fetch
each time it wakes, and sleeps up to a second when nothing happens on its sockets: the end of a
task must wake it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from celery.concurrency.thread import TaskPool as ThreadPool


class TaskPool(ThreadPool):  # type: ignore[misc]
    """A thread pool whose tasks wake the event loop as they end.

    Attributes:
        hurry: stops the commands that run; set by the keeper.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hurry: Callable[[], None] = lambda: None
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)

    def register_with_event_loop(self, loop: Any) -> None:
        """Let the end of a task wake the loop."""
        loop.add_reader(self._wake_read, self._drain)

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Run a task in a thread."""
        running = super().on_apply(*args, **kwargs)
        running.f.add_done_callback(self._wake)
        return running

    def terminate_job(self, *_: object) -> None:
        """Have all commands stopped: Celery asks so of every task at a cold shutdown."""
        self.hurry()

    def _wake(self, _future: object) -> None:
        with contextlib.suppress(BlockingIOError):  # it is being woken already
            os.write(self._wake_write, b"!")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
