"""A task on its way through a worker: claimed, run, recorded, and what observers see of it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.exceptions import Ignore

from clinvk.broker.app import create_app
from clinvk.broker.dispatcher import Dispatcher
from clinvk.broker.message import maker
from clinvk.core.error_log import ErrorLog
from clinvk.core.spec import RunOptions, TaskSpec, queue_of
from clinvk.core.steps import StepRecord
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.failure_detector import ANSWER_SECONDS
from clinvk.store.store import Store
from clinvk.store.types import Lease, Recorded
from tests.unit.git.checkouts import repository
from workers import context, tasks
from workers.context import WorkerContext
from workers.execution.executor import Executor
from workers.liveness.connection import LivenessConnection
from workers.liveness.lease_renewer import LeaseRenewer
from workers.liveness.worker_info import Announcement
from workers.observers import (
    CommandEnded,
    Observers,
    TaskClaimed,
    TaskEnded,
    TaskReleased,
    TaskStarted,
    WorkerEvent,
)
from workers.step_publisher import StepPublisher

RUN = f"run-{os.getpid()}"
"""Its own in each process of tests: what a task started is found, and ended, by its name."""
LEASE = Lease(RUN, 0, 1)


@dataclass
class Worker:
    """A worker without Celery's part, and what its observer saw."""

    store: Store
    renewer: LeaseRenewer
    events: list[WorkerEvent] = field(default_factory=list)
    on_event: Callable[[WorkerEvent], None] = lambda _: None

    def saw(self, event: WorkerEvent) -> None:
        self.events.append(event)
        self.on_event(event)

    def submit(self, tasks: int = 1, backend: str = "py", **fields: Any) -> None:
        self.store.announce("w", {"slots": tasks, "queues": [queue_of(backend)]})
        specs = [TaskSpec(backend=backend, prompt="hello", **fields)] * tasks
        self.store.submit(RUN, specs, RunOptions(max_parallel=tasks))

    def of_task(self) -> list[type]:
        """What was seen of tasks, in order."""
        return [type(event) for event in self.events if hasattr(event, "lease")]


@pytest.fixture
def worker(broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    app = create_app(broker_url)
    store, observers = Store.connect(broker_url), Observers()
    script = "import sys; print(sys.stdin.read())"
    config = WorkerConfig(
        backends={"py": {"command": [sys.executable, "-c", script]}},
        spill_dir=str(tmp_path),
        worktrees_dir=str(tmp_path / "worktrees"),
    )
    executor = Executor(config, "w@h", "w@h/1", observers)
    renewer = LeaseRenewer(
        Dispatcher(maker(app), Store.connect(broker_url)),
        executor.owner,
        Announcement(store, "w@h", {"slots": 0, "queues": []}),
        LivenessConnection(broker_url),
    )
    found = Worker(store, renewer)
    observers.add(found)
    observers.add(executor.worktrees)
    consumer = SimpleNamespace(serves=list, take=lambda *_: None)
    monkeypatch.setattr(context, "_context", None)
    errors = ErrorLog(logging.getLogger("workers"))
    context.set_up(
        WorkerContext(
            renewer,
            Dispatcher(maker(app), store),
            executor,
            observers,
            errors,
            SimpleNamespace(consumer=consumer),
        )
    )
    renewer.start()
    yield found
    renewer.close()
    app.close()


def execute(lease: Lease = LEASE) -> bool:
    last: bool = tasks.execute.run(lease.run, lease.index, lease.dispatch)
    return last


def test_observers_see_a_task_from_its_claim_to_its_result(worker: Worker) -> None:
    worker.submit()
    assert execute()
    claimed, started, stopped, ended = worker.events
    assert claimed == TaskClaimed(LEASE, 1)
    assert isinstance(started, TaskStarted)
    assert (started.lease, started.spec.prompt) == (LEASE, "hello")
    assert stopped == CommandEnded(LEASE)
    assert isinstance(ended, TaskEnded)
    assert (ended.lease, ended.result.output) == (LEASE, "hello")
    assert list(worker.store.results(RUN, [0])) == [ended.result]


def test_a_drain_closes_the_runs_whose_message_nobody_may_take(worker: Worker) -> None:
    worker.submit()
    assert execute()
    before = worker.store.summary(RUN)
    worker.renewer.drain()
    context.current().close_runs()
    after = worker.store.summary(RUN)
    assert before is not None
    assert after is not None
    assert (before.state, after.state) == ("running", "done")


def test_the_end_is_seen_when_the_result_is_recorded(worker: Worker) -> None:
    recorded: list[Any] = []

    def look(event: WorkerEvent) -> None:
        if isinstance(event, TaskEnded):
            recorded.extend(worker.store.results(RUN, [0]))

    worker.on_event = look
    worker.submit()
    execute()
    assert [result.output for result in recorded] == ["hello"]


@pytest.mark.parametrize(("detail", "raw"), [("summary", [False]), ("full", [True]), ("off", [])])
def test_the_steps_of_a_task_are_recorded_before_its_result(
    worker: Worker, broker_url: str, detail: str, raw: list[bool]
) -> None:
    publisher = StepPublisher(Store.connect(broker_url, ANSWER_SECONDS))
    context.current().observers.add(publisher)
    recorded: list[list[StepRecord]] = []

    def look(event: WorkerEvent) -> None:
        if isinstance(event, TaskEnded):
            recorded.append(list(worker.store.steps_since(RUN, 0).records))

    worker.on_event = look
    worker.submit(backend="echo", steps=detail)
    assert execute()
    (steps,) = recorded
    told = [(step.kind, step.text, step.attempt, step.raw is not None) for step in steps]
    assert told == [("message", "hello", 1, is_raw) for is_raw in raw]


def test_a_task_of_a_worker_that_shuts_down_is_released(worker: Worker) -> None:
    def close(event: WorkerEvent) -> None:
        if isinstance(event, TaskStarted):
            worker.renewer.stop_all("requeued")

    worker.on_event = close
    worker.submit()
    with pytest.raises(Ignore):
        execute()
    assert worker.of_task() == [TaskClaimed, TaskStarted, CommandEnded, TaskReleased]
    assert list(worker.store.results(RUN, [0])) == [None]


def test_a_dispatch_that_does_not_count_is_not_seen(worker: Worker) -> None:
    worker.submit()
    execute()
    with pytest.raises(Ignore):
        execute()
    assert worker.of_task() == [TaskClaimed, TaskStarted, CommandEnded, TaskEnded]


def test_an_observer_that_raises_costs_no_task(worker: Worker) -> None:
    def fail(event: WorkerEvent) -> None:
        raise RuntimeError("a bug")

    worker.on_event = fail
    worker.submit()
    assert execute()
    (result,) = worker.store.results(RUN, [0])
    assert result is not None
    assert result.output == "hello"


def test_what_redis_refuses_is_logged_once_with_its_run(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> Recorded:
        raise redis.ResponseError("wrong type in a script")

    worker.submit(tasks=2)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "finish", refuse)
        for index in range(2):
            with pytest.raises(Ignore):
                execute(Lease(RUN, index, 1))
    assert [record.getMessage() for record in caplog.records] == [
        f"run {RUN}: ResponseError: wrong type in a script"
    ]


def test_the_result_of_a_retry_says_what_was_tried_before(worker: Worker) -> None:
    worker.submit(2, timeout_seconds=60)
    for index in range(2):
        execute(Lease(RUN, index, 1))
    worker.store.aggregate(RUN)
    worker.store.retry(RUN, {1: TaskSpec(backend="py", prompt="again")}, 0)
    assert execute(Lease(RUN, 1, 2))
    worker.store.aggregate(RUN)
    worker.store.retry(RUN, {1: None}, 1)
    assert execute(Lease(RUN, 1, 3))
    first, second = worker.store.results(RUN, [0, 1])
    assert first is not None
    assert second is not None
    assert (first.tried, second.output) == ([], "again")
    assert [each.backend for each in second.tried] == ["py", "py"]


def test_a_cancellation_before_a_retry_stops_nothing_after_it(worker: Worker) -> None:
    worker.submit()
    worker.store.cancel(RUN, "interrupted")
    worker.store.aggregate(RUN)
    worker.store.retry(RUN, {0: None}, 0)
    assert worker.store.is_running(RUN)
    assert execute(Lease(RUN, 0, 2))
    (result,) = worker.store.results(RUN, [0])
    assert result is not None
    assert (result.output, result.tried) == ("hello", [])


def test_a_worktree_is_removed_once_the_result_is_recorded(worker: Worker, tmp_path: Path) -> None:
    place, there = tmp_path / "worktrees", list[bool]()

    def look(event: WorkerEvent) -> None:
        if isinstance(event, TaskEnded):  # the result is recorded, and not earlier
            there.append(any(place.iterdir()))

    worker.on_event = look
    worker.submit(workspace="worktree", workdir=str(repository(tmp_path / "repo")))
    execute()
    assert there == [True]
    assert list(place.iterdir()) == []


def test_a_worktree_goes_with_an_execution_whose_result_is_refused(
    worker: Worker, tmp_path: Path
) -> None:
    top = repository(tmp_path / "repo")
    worker.submit(workspace="worktree", workdir=str(top))

    def lose(event: WorkerEvent) -> None:
        if isinstance(event, CommandEnded):
            worker.store.release("w@h/1", LEASE)
            worker.store.reap()

    worker.on_event = lose
    with pytest.raises(Ignore):
        execute()
    assert list((tmp_path / "worktrees").iterdir()) == []
