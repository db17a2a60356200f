"""What would wait for longer than it may goes on elsewhere, or ends: the reaper's part."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.broker.app import create_app
from clinvk.broker.dispatcher import Dispatcher
from clinvk.broker.message import maker
from clinvk.core.history import History
from clinvk.core.spec import ErrorKind, RunOptions, TaskResult, TaskSpec, TaskStatus, Try
from clinvk.store.types import Hold, Lease
from tests.virtual_time import VirtualTimeStore

HOUR = 3600


class Fleet:
    """A store with a closed queue, and its reaper."""

    def __init__(self, client: Any) -> None:
        self.store = VirtualTimeStore(client)
        self.reaper = Dispatcher(maker(create_app(None)), self.store)
        self.store.announce("w", {"slots": 1, "queues": ["clinvk.a", "clinvk.b"]})

    def close(self, *tasks: TaskSpec, history: History | None = None) -> None:
        """Submit tasks, of which the first meets a window limit that opens in an hour."""
        self.store.submit("r", tasks, RunOptions())
        self.store.claim(Lease("r", 0, 1), "w/1", "n")
        held = self.store.hold(
            Lease("r", 0, 1),
            Hold(
                signal="window",
                retry_at_ms=self.store.now_ms + HOUR * 1000,
                kind="usage_limit",
                worker="w@h",
                history=history.to_wire().decode() if history else "",
            ),
        )
        assert held.verdict == "held"

    def results(self, count: int) -> list[TaskResult | None]:
        return list(self.store.results("r", range(count)))


@pytest.fixture
def fleet(redis_client: Any) -> Fleet:
    return Fleet(redis_client)


def task(**fields: Any) -> TaskSpec:
    given: dict[str, Any] = {"backend": "a", "prompt": "x", "retries": 2, "max_wait_seconds": 900.0}
    return TaskSpec(**(given | fields))


def test_a_wait_that_is_too_long_is_the_end_and_says_both(fleet: Fleet) -> None:
    said = "You've hit your session limit"
    history = History(tried=[Try(backend="a", error=said)], entries=["a"])
    fleet.close(task(), task(), history=history)
    fleet.reaper.reap()
    first, second = fleet.results(2)
    assert first is not None
    assert second is not None
    assert (first.status, first.error_kind) == (TaskStatus.FAILED, ErrorKind.USAGE_LIMIT)
    assert first.error == (
        f"usage limit until 2027-01-15 09:00 UTC, longer than max_wait (15m) allows: {said}"
    )
    assert first.retry_at == "2027-01-15T09:00:00.000Z"
    assert (first.rejections, first.attempts, len(first.tried)) == (1, 1, 1)
    assert (
        second.error == "usage limit until 2027-01-15 09:00 UTC, longer than max_wait (15m) allows"
    )
    assert (second.rejections, second.attempts, second.tried) == (0, 0, [])
    summary = fleet.store.summary("r")
    assert summary is not None
    assert (summary.state, summary.failed) == ("done", 2)


def test_what_may_wait_does(fleet: Fleet) -> None:
    fleet.close(task(max_wait_seconds=None), task(max_wait_seconds=2.0 * HOUR))
    fleet.reaper.reap()
    assert fleet.results(2) == [None, None]


def test_what_has_a_fallback_goes_on_there(fleet: Fleet) -> None:
    fleet.close(task(fallback=["b"]), task())
    fleet.reaper.reap()
    first, second = fleet.results(2)
    assert first is None
    assert second is not None
    claim = fleet.store.claim(Lease("r", 0, 2), "w/1", "n")
    assert (claim.verdict, claim.queue) == ("go", "clinvk.b")


def test_what_has_acted_stays_with_its_session(fleet: Fleet) -> None:
    history = History(entries=["a"], session="s1", session_entry="a", session_worker="w")
    fleet.close(task(fallback=["b"]), history=history)
    fleet.reaper.reap()
    (result,) = fleet.results(1)
    assert result is not None
    assert (result.backend, result.error_kind) == ("a", ErrorKind.USAGE_LIMIT)


def test_what_may_wait_is_looked_at_once(fleet: Fleet) -> None:
    """A hundred thousand tasks that wait would cost the server much each time."""
    fleet.close(task(max_wait_seconds=2.0 * HOUR))
    fleet.reaper.reap()
    fleet.store.redis.hset("clinvk:run:r:specs", "0", task().to_wire())  # which it would find
    fleet.store.seconds += 100
    fleet.reaper.reap()
    assert fleet.results(1) == [None]


def test_what_waits_from_now_on_is_looked_at(fleet: Fleet) -> None:
    fleet.close(task(max_wait_seconds=2.0 * HOUR))
    fleet.reaper.reap()
    fleet.store.submit("other", [task()], RunOptions())
    fleet.reaper.reap()
    assert next(iter(fleet.store.results("other", [0]))) is not None
