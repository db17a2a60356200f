"""The bootstep that gives a Celery worker what makes it one of clinvk."""

from __future__ import annotations

import atexit
import logging
import re
import resource
import secrets
import signal
import subprocess
import threading
from dataclasses import dataclass
from typing import Any

from celery import bootsteps

from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.spec import queue_of
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.failure_detector import ANSWER_SECONDS
from clinvk.store.store import Store
from workers.execution import process_tree
from workers.execution.executor import Executor
from workers.liveness import supervisor, worker_info
from workers.liveness.connection import LivenessConnection
from workers.liveness.lease_renewer import LeaseRenewer

SUPPORTED_POOLS = {"clinvk.broker.pool", "celery.concurrency.thread", "celery.concurrency.solo"}

logger = logging.getLogger(__name__)


class WorkerBootstep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Gives the worker its `WorkerContext`, and takes the lease renewer up and down with it."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self.renewer: LeaseRenewer | None = None
        self.supervisor: subprocess.Popen[bytes] | None = None

    def start(self, parent: Any) -> None:
        """Start keeping leases before the first task comes."""
        global _context
        if parent.pool_cls.__module__ not in SUPPORTED_POOLS:
            raise SystemExit("clinvk runs on the threads pool: start the worker with -P threads")
        raise_open_files_limit()
        process_tree.become_subreaper()
        config = WorkerConfig.load()
        url = parent.app.conf.broker_url
        owner = f"{_name(parent.hostname)}/{secrets.token_hex(4)}"
        executor = Executor(config, worker=parent.hostname, owner=owner)
        store = Store.connect(url)
        queues = sorted(parent.app.amqp.queues.consume_from)
        for queue, limits in config.queues.items():
            store.limit(queue_of(queue), "config", **limits)
        self.renewer = LeaseRenewer(
            Dispatcher(parent.app, Store.connect(url, ANSWER_SECONDS)),
            owner,
            worker_info.entry(slots=parent.pool.limit, queues=queues),
            LivenessConnection(url),
        )
        if config.has_supervisor:
            self.supervisor = supervisor.start(owner, url)
            process_tree.own(self.supervisor.pid)
            atexit.register(self._dismiss_supervisor)  # tasks have ended by then
        parent.pool.abort = self._abort
        self.renewer.start()
        _context = WorkerContext(self.renewer, Dispatcher(parent.app, store), executor, parent)
        if config.tells_versions:
            worker_info.find_versions(executor.backends(queues), self.renewer.describe)

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Take no more tasks. Running tasks and the renewal of their leases go on until they end.

        Celery takes a second SIGTERM for the first; here it means at once.
        """
        if self.renewer is not None:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, self._abort)
            self.renewer.drain()

    def terminate(self, parent: Any) -> None:  # noqa: ARG002
        """Stop all commands and let other workers have their tasks."""
        if self.renewer is not None:
            self.renewer.close()

    def _abort(self, *_signal: object) -> None:
        assert self.renewer is not None
        if self.renewer.is_closing:
            return
        logger.warning("stopping what runs; other workers may have it")
        threading.Thread(target=self.renewer.close, name="clinvk-close", daemon=True).start()

    def _dismiss_supervisor(self) -> None:
        if self.supervisor is not None and self.renewer is not None and self.renewer.is_idle:
            supervisor.shutdown(self.supervisor)


def _name(worker: str) -> str:
    """Return a worker's name as a part of a owner, and of a lease's entry."""
    return re.sub(r"[:/\s]", "_", worker)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What the tasks of one worker process share; `worker` is Celery's own controller."""

    renewer: LeaseRenewer
    dispatcher: Dispatcher
    executor: Executor
    worker: Any


_context: WorkerContext | None = None


def is_up() -> bool:
    """Whether a worker runs in this process, or did."""
    return _context is not None


def context() -> WorkerContext:
    """Return the station of the worker that runs in this process."""
    assert _context is not None, "no worker runs in this process"
    return _context


def raise_open_files_limit() -> None:
    """Allow as many open files as the system lets us: each task needs about eight."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
