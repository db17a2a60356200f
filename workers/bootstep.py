"""The bootstep that makes a Celery worker one of clinvk's: it starts and stops all that is ours.

A bootstep is Celery's own hook for what lives as long as a worker (`app.steps["worker"]`), so
`celery -A workers.app worker` and `python -m workers` start the same worker.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import re
import resource
import secrets
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import redis
from celery import bootsteps
from kombu.entity import Queue

from clinvk.broker.dispatcher import Dispatcher
from clinvk.broker.message import maker
from clinvk.broker.recent_results import RecentResults
from clinvk.core.error_log import ErrorLog
from clinvk.core.errors import BrokerError, ClinvkError, UsageError
from clinvk.core.spec import queue_of
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.failure_detector import ANSWER_SECONDS
from clinvk.store.store import Store
from workers import context, handover
from workers.context import WorkerContext
from workers.execution import orphans, process_tree
from workers.execution.environment import Environments
from workers.execution.executor import Executor
from workers.execution.sessions import SessionStore, directory_of
from workers.limit_reporter import LimitReporter
from workers.liveness import worker_info
from workers.liveness.connection import LivenessConnection
from workers.liveness.lease_renewer import LeaseRenewer
from workers.liveness.supervisor import WorkerSupervisor
from workers.liveness.worker_info import Announcement, HealthObserver
from workers.observers import LogObserver, Observers, WorkerStarted
from workers.remote_control import answer_questions_only
from workers.server_clock import ServerClock
from workers.step_publisher import StepPublisher

if TYPE_CHECKING:
    from workers.execution.reuse.reuse import Reuse

SUPPORTED_POOLS = {"clinvk.broker.pool", "celery.concurrency.thread", "celery.concurrency.solo"}

UNCONTAINED = (
    "a process that leaves its session and clears its environment outlives this worker if that is "
    "killed (SIGKILL): start the worker with `clinvk worker` on Linux, or in a container or a unit "
    "that is killed whole"
)

logger = logging.getLogger(__name__)


class WorkerBootstep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Sets up the `WorkerContext`, and takes lease renewer and supervisor up and down."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self.renewer: LeaseRenewer | None = None
        self.supervisor: WorkerSupervisor | None = None

    def start(self, parent: Any) -> None:
        """Start renewing leases before the first task comes.

        Raises:
            SystemExit: the worker was started in a way, or with settings, that cannot work.
        """
        raise_open_files_limit()
        process_tree.become_subreaper()
        try:
            check_pool(parent.pool_cls)
            self._set_up(parent, WorkerConfig.load(handover.config()))
        except ClinvkError as error:
            sys.stderr.writelines(f"{problem}\n" for problem in error.problems)
            raise SystemExit(error.exit_code) from error

    def _set_up(self, parent: Any, config: WorkerConfig) -> None:
        app, name, slots = parent.app, parent.hostname, parent.pool.limit
        url = app.conf.broker_url
        queues = sorted(app.amqp.queues.consume_from)
        owner = new_owner(name)
        app.amqp.queues.select_add(own_queue(worker_of(owner)))
        observers = Observers([LogObserver()])
        clock = ServerClock()
        sessions = SessionStore(
            directory_of(config.state_dir),
            f"{name} {config.local_run or url}",
            is_passing=not (config.checks_server or config.local_run),
            is_over=partial(is_over, Store.connect(url, ANSWER_SECONDS)),
        )
        observers.add(sessions)
        executor = Executor(
            config, name, owner, observers, queues, clock, sessions, partial(_reuse, config, url)
        )
        observers.add(executor.worktrees)
        executor.worktrees.clean_up_soon()
        for line in executor.unenforced_limits():
            logger.warning("%s", line)
        recent = RecentResults()
        patient = Dispatcher(maker(app), Store.connect(url), recent, patience_seconds=math.inf)
        quick = Dispatcher(maker(app), Store.connect(url, ANSWER_SECONDS), recent)
        executor.shipped_by(patient)
        if config.checks_server:
            check_server(quick.store)
        if not config.remote_control:
            answer_questions_only()
        observers.add(LimitReporter(quick.store, worker_of(owner)))
        observers.add(StepPublisher(Store.connect(url, ANSWER_SECONDS)))
        limits = {queue_of(queue): limits for queue, limits in config.queues.items()}
        entry = worker_info.entry(owner, slots, queues, config)
        announcement = Announcement(quick.store, worker_of(owner), entry, limits, config.budgets)
        connection = LivenessConnection(url)
        self.renewer = LeaseRenewer(
            quick, owner, announcement, connection, observers, server_clock=clock
        )
        if config.reports_versions:
            from workers import health  # the workers of local mode do without

            look = partial(health.announced, config, executor)
            programs = partial(health.programs, executor)
            observers.add(HealthObserver(look, programs, announcement.describe))
            announcement.describe(sandbox=executor.sandbox.description())
        if config.has_supervisor:
            self.supervisor = WorkerSupervisor.start(owner, url)
            atexit.register(self._dismiss_supervisor)  # tasks have ended by then
            if not (self.supervisor.is_parent and process_tree.is_subreaper()):
                logger.warning("%s", UNCONTAINED)
        parent.pool.abort = self._abort
        self.renewer.start()
        context.set_up(
            WorkerContext(self.renewer, patient, executor, observers, ErrorLog(logger), parent)
        )
        observers.notify(WorkerStarted(name, slots, queues))

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Take no more tasks. Running tasks and the renewal of their leases go on until they end.

        Celery takes a second SIGTERM for the first; here it stops what runs.
        """
        if self.renewer is not None:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, self._abort)
            self.renewer.drain()
            if context.is_set_up():
                context.current().close_runs()

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
        process_tree.end_descendants(orphans.GRACE_SECONDS)
        if self.supervisor is not None and self.renewer is not None and self.renewer.is_idle:
            self.supervisor.dismiss()


def _reuse(config: WorkerConfig, url: str, environments: Environments) -> Reuse:
    """Make what finds and keeps results: for the first task that asks, if one does."""
    from workers.execution.reuse import index, reuse

    return reuse.Reuse(config, index.open_index(config, url), environments)


def is_over(store: Store, run: str) -> bool:
    """Whether nothing of a run will start any more; a run that is not known is over."""
    summary = store.summary(run)
    return summary is None or summary.ended_ms is not None or summary.canceled_run


def check_server(store: Store) -> None:
    """Log what of the broker's configuration can lose tasks. One that is down is waited for.

    Raises:
        BrokerError: the broker lacks something that clinvk needs.
    """
    with contextlib.suppress(redis.RedisError):
        for warning in store.check_server():
            logger.warning("%s", warning)
    if store.submitter is not None:
        raise BrokerError(
            f"the broker's user {store.submitter} may not do what a worker does: use one that "
            "`clinvk acl` made for workers"
        )


def check_pool(pool: type) -> None:
    """Refuse a pool that is not one of threads: one process holds all leases of a worker.

    Raises:
        UsageError: it is another pool.
    """
    if pool.__module__ not in SUPPORTED_POOLS:
        raise UsageError("a worker runs on the threads pool: start it with -P threads")


def new_owner(worker: str) -> str:
    """Return an owner of leases that no other process ever is: "<worker>/<token>"."""
    name = re.sub(r"[:/\s]", "_", worker)  # it becomes a part of a lease's entry
    return f"{name}/{secrets.token_hex(4)}"


def worker_of(owner: str) -> str:
    """Return the worker's name in an owner."""
    return owner.partition("/")[0]


def own_queue(worker: str) -> Any:
    """Return the queue of what only this worker can go on with, see lua/lib/admission.lua.

    Its list is read by its name alone, so that no binding of it stays behind on the server.
    """
    queue: Any = Queue
    return queue(queue_of(f"@{worker}"), no_declare=True)


def raise_open_files_limit() -> None:
    """Allow as many open files as the system lets us: each task needs about eight."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
