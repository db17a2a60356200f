"""A gate learns of a limit while the task that met it goes on."""

from __future__ import annotations

from typing import Any

import redis

from clinvk.core.spec import ErrorKind
from clinvk.core.steps import Step, StepKind
from clinvk.store.types import Lease
from workers.execution.masking import NOTHING
from workers.execution.step_feed import StepFeed
from workers.limit_reporter import LimitReporter
from workers.observers import Observers

LEASE = Lease("r", 0, 1)


class Store:
    def __init__(self, error: redis.RedisError | None = None) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.error = error

    def slow_down(self, *arguments: Any) -> bool:
        self.told.append(arguments)
        if self.error:
            raise self.error
        return True


def feed(store: Any) -> StepFeed:
    return StepFeed(LEASE, 1, "off", NOTHING, Observers([LimitReporter(store, "w@h")]))


def retry(kind: ErrorKind | None) -> Step:
    return Step(kind=StepKind.RETRY, text="retry 1 of 10", error_kind=kind)


def test_a_cli_that_waits_for_a_rate_tells_the_gate() -> None:
    store = Store()
    feed(store).saw("line", [retry(ErrorKind.RATE_LIMITED)])
    assert store.told == [(LEASE, "rate_limited", "w@h")]


def test_other_steps_tell_it_nothing() -> None:
    store = Store()
    limit = Step(kind=StepKind.LIMIT, text="near", error_kind=ErrorKind.RATE_LIMITED)
    feed(store).saw("line", [retry(ErrorKind.OVERLOADED), retry(None), limit])
    assert store.told == []


def test_a_server_that_is_away_costs_nothing() -> None:
    store = Store(redis.ConnectionError("away"))
    feed(store).saw("line", [retry(ErrorKind.RATE_LIMITED)])
    assert len(store.told) == 1
