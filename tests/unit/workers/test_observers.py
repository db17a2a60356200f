"""Observers: what the contract in the module's docstring promises them, and what they may do."""

from __future__ import annotations

import inspect
import logging
import re
import textwrap
from typing import Any

import pytest

from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.store.types import Lease
from workers import observers
from workers.observers import (
    LogObserver,
    Observers,
    RunEnded,
    TaskEnded,
    TaskLost,
    TaskReleased,
    TaskStarted,
    WorkerEvent,
)

LEASE = Lease("run", 0, 1)


def ended(cost_usd: float | None = None) -> TaskEnded:
    return TaskEnded(
        LEASE,
        TaskResult(
            index=0, status=TaskStatus.OK, exit_code=0, duration_seconds=2.5, cost_usd=cost_usd
        ),
    )


class Broken:
    """An observer with a bug."""

    def saw(self, event: WorkerEvent) -> None:
        raise KeyError("no such metric")


class Seen:
    """An observer that keeps what it saw."""

    def __init__(self) -> None:
        self.events: list[WorkerEvent] = []

    def saw(self, event: WorkerEvent) -> None:
        self.events.append(event)


def test_the_example_of_the_contract_works() -> None:
    documentation = inspect.getdoc(observers)
    assert documentation is not None
    example = re.search(r"^    class .*?(?=^\S)", documentation, re.MULTILINE | re.DOTALL)
    assert example is not None
    names: dict[str, Any] = vars(observers).copy()
    exec(textwrap.dedent(example[0]), names)
    costs = names["Costs"]()
    observed = Observers([costs])
    for event in (ended(0.25), RunEnded("run"), ended(None), ended(0.5)):
        observed.notify(event)
    assert costs.usd == 0.75


def test_an_observer_that_raises_is_logged_once_and_costs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Seen()
    observed = Observers([Broken(), seen])
    for _ in range(3):
        observed.notify(RunEnded("run"))
    assert seen.events == [RunEnded("run")] * 3
    (record,) = caplog.records
    assert record.getMessage() == "observer Broken: KeyError: 'no such metric'"
    assert record.exc_info


def test_without_observers_nothing_happens() -> None:
    Observers().notify(RunEnded("run"))


def test_an_observer_sees_what_happens_after_it_was_added() -> None:
    seen, observed = Seen(), Observers()
    observed.notify(RunEnded("before"))
    observed.add(seen)
    observed.notify(RunEnded("after"))
    assert seen.events == [RunEnded("after")]


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (TaskStarted(LEASE, TaskSpec(backend="b", prompt="p")), logging.INFO, "run:0:1: b started"),
        (ended(), logging.INFO, "run:0:1: ok after 2.5 s"),
        (
            TaskReleased(LEASE, "requeued"),
            logging.WARNING,
            "run:0:1: stopped and released (requeued)",
        ),
        (
            TaskLost(LEASE, "its worker ended", 3),
            logging.WARNING,
            "run:0:1: lost 3 times, not retried: its worker ended",
        ),
    ],
)
def test_the_log_has_a_line_for_each_event(
    event: WorkerEvent, level: int, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        LogObserver().saw(event)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, line)
