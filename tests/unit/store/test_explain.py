"""Why tasks of a run are pending, by the rules of admission."""

from __future__ import annotations

import pytest

from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.store.store import Store
from clinvk.store.types import Explanation, Lease, PendingReason

A = "clinvk.a"


def submit(store: Store, run: str, count: int, max_parallel: int) -> None:
    specs = [TaskSpec(backend="a", prompt="p")] * count
    store.submit(run, specs, RunOptions(max_parallel=max_parallel))


def explained(store: Store, run: str = "r") -> Explanation:
    found = store.explain(run)
    assert found is not None
    return found


def test_running_dispatched_and_pending_tasks_are_counted(store: Store) -> None:
    store.announce("w@h", {"slots": 9, "queues": [A]})
    submit(store, "r", 6, max_parallel=3)
    for index in range(2):
        store.claim(Lease("r", index, 1), "w@h/1", "n")
    assert explained(store) == Explanation(
        state="running",
        remaining=6,
        running={"w@h": 2},
        dispatched=1,
        pending=[PendingReason(A, 3, "run")],
    )
    assert store.explain("no-such-run") is None


@pytest.mark.parametrize(
    ("slots", "limits", "reason"),
    [
        (1, {}, "busy"),
        (9, {"paused": 1}, "paused"),
        (9, {"max_concurrency": 1}, "limit"),
        (9, {"interval_ms": 10**9}, "rate"),
    ],
)
def test_the_reason_is_what_keeps_the_queue_closed(
    store: Store, slots: int, limits: dict[str, int], reason: str
) -> None:
    store.announce("w", {"slots": slots, "queues": [A]})
    submit(store, "first", 1, max_parallel=9)
    store.limit(A, "operator", **limits)
    submit(store, "r", 2, max_parallel=9)
    assert [pending.reason for pending in explained(store).pending] == [reason]


def test_a_queue_that_nobody_serves(store: Store) -> None:
    submit(store, "r", 2, max_parallel=9)
    assert [pending.reason for pending in explained(store).pending] == ["unserved"]
