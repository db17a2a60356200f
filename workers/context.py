"""What the tasks of one worker process share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clinvk.broker.consumer import Consumer
from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.error_log import ErrorLog
from workers.execution.executor import Executor
from workers.liveness.lease_renewer import LeaseRenewer
from workers.observers import Observers


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Set up once, as the worker starts; `worker` is Celery's own controller."""

    renewer: LeaseRenewer
    dispatcher: Dispatcher
    executor: Executor
    observers: Observers
    errors: ErrorLog
    worker: Any

    @property
    def consumer(self) -> Consumer:
        """Celery's consumer, which is another one after the worker has reconnected."""
        consumer: Consumer = self.worker.consumer
        return consumer


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
