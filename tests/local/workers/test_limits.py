"""What a worker does with a task that meets a limit, or fails in a way that passes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Ignore

from clinvk.core.spec import ErrorKind, RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.store.types import Lease
from tests.local.workers.test_tasks import RUN, Worker, execute, worker
from tests.scripted_claude import SESSION, Script
from workers.observers import CommandEnded, TaskClaimed, TaskEnded, TaskHeld, TaskStarted, TaskStep

__all__ = ["worker"]

WINDOW = "You've hit your session limit · resets {}"
OVERLOADED = "API Error: 529 Overloaded"
BROKEN = "API Error: 500 Internal server error"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("random.random", lambda: 0.0)
    return Script(folder)


def submit(worker: Worker, tasks: int = 1, **fields: Any) -> None:
    queues = ["clinvk.claude", "clinvk.py"]
    worker.store.announce("w", {"slots": tasks, "queues": queues})
    given: dict[str, Any] = {"backend": "claude", "prompt": "hello", "steps": "off"}
    given |= {"retries": 2, "max_wait_seconds": 60.0}
    spec = TaskSpec(**(given | fields))
    worker.store.submit(RUN, [spec] * tasks, RunOptions(max_parallel=tasks, fail_fast=True))


def result(worker: Worker) -> TaskResult:
    (found,) = worker.store.results(RUN, [0])
    assert found is not None
    return found


def put_back(dispatch: int = 1) -> None:
    with pytest.raises(Ignore):
        execute(Lease(RUN, 0, dispatch))


def test_what_passes_is_tried_again(worker: Worker, script: Script) -> None:
    script.says(BROKEN, error="server_error")
    script.says("fine")
    submit(worker)
    put_back()
    assert worker.of_task() == [TaskClaimed, TaskStarted, CommandEnded, TaskHeld]
    assert execute(Lease(RUN, 0, 2))
    assert worker.of_task()[-1] is TaskEnded
    ended = result(worker)
    assert (ended.status, ended.output, ended.attempts) == (TaskStatus.OK, "fine", 1)
    assert [(each.backend, each.error_kind) for each in ended.tried] == [
        ("claude", ErrorKind.OVERLOADED)
    ]
    assert worker.store.summary(RUN).ok == 1  # type: ignore[union-attr]


def test_tries_come_to_an_end(worker: Worker, script: Script) -> None:
    for _ in range(3):
        script.says(BROKEN, error="server_error")
    submit(worker)
    put_back(1)
    put_back(2)
    assert execute(Lease(RUN, 0, 3))
    ended = result(worker)
    assert (ended.error_kind, len(ended.tried)) == (ErrorKind.OVERLOADED, 2)


def test_a_limit_that_opens_too_late_is_the_end_and_says_both(
    worker: Worker, script: Script
) -> None:
    script.says(
        WINDOW.format(time.strftime("%I%p", time.gmtime(time.time() + 7200)) + " (UTC)"),
        error="rate_limit",
    )
    submit(worker)
    assert execute()
    ended = result(worker)
    assert (ended.error_kind, ended.rejections) == (ErrorKind.USAGE_LIMIT, 1)
    assert ended.error is not None
    assert ended.error.startswith("usage limit until ")
    assert "longer than max_wait (1m) allows: You've hit your session limit" in ended.error
    (queue,) = [each for each in worker.store.queues() if each.name == "clinvk.claude"]
    (gate,) = queue.gates
    assert gate.closed_until_ms is not None
    assert (gate.kind, gate.worker) == ("usage_limit", "w@h")


def test_a_task_that_is_held_has_no_result_yet(worker: Worker, script: Script) -> None:
    script.says(OVERLOADED, error="overloaded")
    script.says("fine")
    submit(worker)
    put_back()
    assert list(worker.store.results(RUN, [0])) == [None]
    assert worker.store.summary(RUN).state == "running"  # type: ignore[union-attr]
    held = worker.events[-1]
    assert isinstance(held, TaskHeld)
    assert held.queue == "clinvk.claude"
    worker.store.cancel(RUN, "user")
    assert worker.store.summary(RUN).canceled == 1  # type: ignore[union-attr]


def test_the_steps_of_a_task_tell_that_it_was_put_back(worker: Worker, script: Script) -> None:
    script.says(BROKEN, error="server_error")
    submit(worker, steps="summary")
    put_back()
    assert worker.of_task()[-3:] == [CommandEnded, TaskStep, TaskHeld]
    (step,) = [event.step for event in worker.events[-2:] if isinstance(event, TaskStep)]
    assert (step.kind, step.text) == ("retry", "put back after overloaded, for claude")
    assert step.error_kind is ErrorKind.OVERLOADED


def test_a_task_goes_on_at_its_fallback(worker: Worker, script: Script) -> None:
    script.says("Not logged in", error="authentication_failed")
    submit(worker, fallback=["py"], model="opus")
    put_back()
    assert execute(Lease(RUN, 0, 2))
    ended = result(worker)
    assert (ended.backend, ended.output) == ("py", "hello")
    assert [(each.backend, each.model) for each in ended.tried] == [("claude", "opus")]


def test_what_has_acted_goes_on_in_its_session(worker: Worker, script: Script) -> None:
    script.says(BROKEN, error="server_error", acts=True)
    script.says("fine")
    submit(worker)
    put_back()
    assert execute(Lease(RUN, 0, 2))
    assert result(worker).output == "fine"
    first, second = script.said("argv")
    assert "--no-session-persistence" not in first
    assert f"--resume {SESSION}" in second
    assert script.said("prompts")[0] == "hello"
    assert script.said("prompts")[1].startswith("You were interrupted by an error of the service")


def test_a_run_that_is_canceled_meanwhile_gets_the_result(worker: Worker, script: Script) -> None:
    script.says(BROKEN, error="server_error")
    submit(worker)

    def cancel(event: Any) -> None:
        if isinstance(event, CommandEnded):
            worker.store.cancel(RUN, "user")

    worker.on_event = cancel
    assert execute()
    assert result(worker).status is TaskStatus.FAILED


def test_a_client_that_knows_nothing_of_limits_has_its_task_end_at_once(
    worker: Worker, script: Script
) -> None:
    script.says(OVERLOADED, error="overloaded")
    submit(worker, retries=None, max_wait_seconds=None)
    assert execute()
    assert result(worker).error == OVERLOADED
    assert "--no-session-persistence" in script.said("argv")[0]
