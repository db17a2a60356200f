"""Why tasks of a run are pending, by the rules of admission."""

from __future__ import annotations

import pytest

from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.store.store import Store
from clinvk.store.types import Explanation, Hold, Lease, PendingReason

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


def test_what_a_limit_holds_up_is_told_with_its_end(store: Store) -> None:
    """The task that met it waits with the others, though it is held and not pending."""
    store.announce("w", {"slots": 9, "queues": [A]})
    submit(store, "r", 3, max_parallel=1)
    store.claim(Lease("r", 0, 1), "w/1", "n")
    reset_ms = store.server_time_ms() + 3_600_000
    store.hold(
        Lease("r", 0, 1),
        Hold(signal="window", retry_at_ms=reset_ms, kind="usage_limit", worker="w", delay_ms=1000),
    )
    found = explained(store)
    (pending,) = found.pending
    assert (pending.queue, pending.model, pending.count, pending.reason) == (A, "", 3, "limited")
    assert (pending.kind, pending.worker) == ("usage_limit", "w")
    assert reset_ms <= (pending.until_ms or 0) < reset_ms + 120_000
    assert reset_ms - 3_600_000 <= found.now_ms < reset_ms


def test_the_limit_of_a_model_holds_up_tasks_of_this_model(store: Store) -> None:
    store.announce("w", {"slots": 9, "queues": [A]})
    tasks = [TaskSpec(backend="a", prompt="p", model=model) for model in ("m", "n", "m")]
    store.submit("r", tasks, RunOptions(max_parallel=2))
    store.claim(Lease("r", 0, 1), "w/1", "n")
    reset_ms = store.server_time_ms() + 3_600_000
    store.hold(
        Lease("r", 0, 1), Hold(signal="window", retry_at_ms=reset_ms, model="m", kind="usage_limit")
    )
    (pending,) = explained(store).pending
    assert (pending.model, pending.count, pending.reason) == ("m", 2, "limited")


def test_what_is_tried_again_is_told_with_the_time(store: Store) -> None:
    store.announce("w", {"slots": 9, "queues": [A]})
    submit(store, "r", 1, max_parallel=1)
    store.claim(Lease("r", 0, 1), "w/1", "n")
    held = store.hold(Lease("r", 0, 1), Hold(delay_ms=60_000))
    (pending,) = explained(store).pending
    assert (pending.count, pending.reason, pending.kind) == (1, "held", "")
    assert abs((pending.until_ms or 0) - held.until_ms) < 1000


def test_a_queue_that_is_paused_for_a_time(store: Store) -> None:
    store.announce("w", {"slots": 9, "queues": [A]})
    store.limit(A, paused=1, paused_until=4_000_000_000_000)
    submit(store, "r", 1, max_parallel=1)
    (pending,) = explained(store).pending
    assert (pending.reason, pending.until_ms) == ("paused", 4_000_000_000_000)
