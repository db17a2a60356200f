"""A CLI that waits by itself is ended, so that its task can wait without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clinvk.core.steps import Step, StepKind
from workers.execution.retry_watch import RetryWatch
from workers.execution.stop_signal import StopSignal

RETRY, MESSAGE = Step(kind=StepKind.RETRY), Step(kind=StepKind.MESSAGE)


class Watched:
    def __init__(self, stop: StopSignal) -> None:
        self.now = 0.0
        self.stop = stop
        self.watch = RetryWatch(stop, lambda: self.now)

    def after(self, seconds: float, *steps: Step) -> str | None:
        self.now += seconds
        self.watch.saw(steps)
        return self.stop.reason


@pytest.fixture
def watched() -> Iterator[Watched]:
    with StopSignal() as stop:
        yield Watched(stop)


def test_a_long_wait_is_ended_at_once(watched: Watched) -> None:
    assert watched.after(0, Step(kind=StepKind.RETRY, delay_seconds=5.0)) is None
    assert watched.after(0, Step(kind=StepKind.RETRY, delay_seconds=3600.0)) == "waiting"


def test_so_is_one_that_tries_again_and_again(watched: Watched) -> None:
    assert watched.after(0, RETRY) is None
    assert watched.after(19, RETRY) is None
    assert watched.after(2) == "waiting", "it repeats itself"


def test_who_goes_on_may_try_again_later(watched: Watched) -> None:
    assert watched.after(0, RETRY) is None
    assert watched.after(15, MESSAGE) is None
    assert watched.after(15, RETRY) is None
    assert watched.after(15) is None
