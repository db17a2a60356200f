"""A run whose keys do not agree is repaired, says so once, and ends with one result per index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.store import leases
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Lease, Reaped, Repair

RUN = "20260102-030405-abcdef01"
A = "clinvk.a"
OWNER = "w/1"

pytestmark = pytest.mark.usefixtures("no_time")


@pytest.fixture(autouse=True)
def _each_reap_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "AUDIT_INTERVAL_MS", -1)


@pytest.fixture
def run(store: Store) -> Store:
    """A run of six tasks: one has its result, one runs, one is dispatched, three are pending."""
    store.announce("w", {"slots": 9, "queues": [A]})
    specs = [TaskSpec(backend="a", prompt=f"p{i}") for i in range(6)]
    store.submit(RUN, specs, RunOptions(max_parallel=2), message="@LEASE@")
    store.claim(Lease(RUN, 0, 1), OWNER, "n0")
    store.finish(Lease(RUN, 0, 1), result(0))
    store.claim(Lease(RUN, 1, 1), OWNER, "n1")
    assert repairs(store.reap()) == []
    return store


def result(index: int, status: TaskStatus = TaskStatus.OK) -> TaskResult:
    return TaskResult(index=index, status=status, exit_code=0, duration_seconds=0.1)


def repairs(reaped: Reaped) -> list[Repair]:
    assert reaped.failures == []
    return list(reaped.repairs)


def finish_all(store: Store) -> None:
    """Be the workers of the fleet until the run is over."""
    for _ in range(50):
        summary = store.summary(RUN)
        assert summary is not None
        if summary.ended_ms is not None:
            break
        for exhausted in store.reap().exhausted:
            lost = TaskResult.canceled_and_lost(exhausted.lease.index, "lost", 1)
            store.finish(exhausted.lease, lost)
        while message := store.redis.rpop(A):
            lease = Lease.parse(message.decode())
            if store.claim(lease, OWNER, f"n{lease}").verdict == "go":
                store.finish(lease, result(lease.index))
        store.aggregate(RUN)
    else:
        raise AssertionError(f"the run hangs: {store.summary(RUN)}")


def check_ended(store: Store) -> None:
    """One result for each index, counters that add up, and nothing left in the queues."""
    summary = store.summary(RUN)
    assert summary is not None
    assert summary.state == "done"
    assert summary.ended == summary.total == 6
    found = [each for each in store.results(RUN, range(6)) if each is not None]
    statuses = [each.status for each in found]
    assert summary.ok == statuses.count(TaskStatus.OK)
    assert summary.canceled == statuses.count(TaskStatus.CANCELED) + 6 - len(found)
    assert [(queue.waiting, queue.in_flight) for queue in store.queues()] == [(0, 0)]
    for name in ("fair_queue", "leases"):
        assert store.redis.zcard(key(name, A)) == 0
    assert store.redis.zcard(key("active")) == store.redis.zcard(key("complete")) == 0


Damage = Callable[[Any], object]


def by_the_negative_zero(client: Any) -> None:
    """What cancel left behind on a server that refuses HINCRBY by -0."""
    client.hset(key("run", RUN), mapping={"state": "canceled", "cancel_reason": "fail_fast"})
    client.zrem(key("fair_queue", A), RUN)
    client.delete(key("pending", RUN, A))


def and_nothing_in_flight(client: Any) -> None:
    by_the_negative_zero(client)
    client.delete(key("in_flight", RUN), key("leases", A))


def widened(client: Any) -> object:
    """Room for one more task, as if one had ended."""
    return client.hset(key("run", RUN), "max_parallel", 3)


def becomes_a_string(*name: str) -> Damage:
    def act(client: Any) -> None:
        client.delete(key(*name))
        client.set(key(*name), "x", px=9_999_999)

    return act


DAMAGES: dict[str, tuple[Damage, str]] = {
    "canceled with a pending list that is gone": (by_the_negative_zero, "tasks remained"),
    "canceled with nothing in flight and something remaining": (
        and_nothing_in_flight,
        "tasks remained instead of 0",
    ),
    "canceled with a pending list": (
        lambda client: client.hset(key("run", RUN), mapping={"state": "canceled"}),
        "tasks were pending in a canceled run",
    ),
    "running with nothing in flight and nothing pending": (
        lambda client: client.delete(
            key("in_flight", RUN), key("pending", RUN, A), key("leases", A), A
        ),
        "0 tasks were pending instead of 5",
    ),
    "a pending list without a turn": (
        lambda client: (
            client.zrem(key("fair_queue", A), RUN),
            client.hset(key("run", RUN), "max_parallel", 3),
        ),
        "without a turn",
    ),
    "a queue that nobody looks into": (
        lambda client: (
            client.srem(key("waiting_queues"), A),
            client.hset(key("run", RUN), "max_parallel", 3),
        ),
        "without a turn",
    ),
    "a task in flight without a lease": (
        lambda client: client.delete(key("leases", A)),
        "in flight without a lease",
    ),
    "a task in flight that has its result": (
        lambda client: client.hset(key("results", RUN), 1, result(1).to_wire()),
        "task 1 was in flight",
    ),
    "an entry that is no entry": (
        lambda client: client.hset(key("in_flight", RUN), 1, "x"),
        "task 1 was in flight",
    ),
    "a task that is pending twice": (
        lambda client: client.rpush(key("pending", RUN, A), 4),
        "4 tasks were pending instead of 3",
    ),
    "counters that do not add up": (
        lambda client: client.hincrby(key("run", RUN), "remaining", -2),
        "3 tasks remained instead of 5",
    ),
    "a counter that is no number": (
        lambda client: client.hset(key("run", RUN), "remaining", "x"),
        "x tasks remained instead of 5",
    ),
    "results whose run does not count them": (
        lambda client: client.hset(key("run", RUN), "ok", 4),
        "tasks remained instead of 5",
    ),
    "a pending list that is no list": (
        lambda client: (
            client.delete(key("pending", RUN, A)),
            client.set(key("pending", RUN, A), "x", px=9999999),
        ),
        "pending was a string",
    ),
    "events that are no stream": (
        becomes_a_string("events", RUN),
        "events was a string",
    ),
    "steps that are no hash": (
        becomes_a_string("steps", RUN),
        "steps was a string",
    ),
    "an order of steps that is no sorted set": (
        becomes_a_string("step_order", RUN),
        "step_order was a string",
    ),
    "results that are no hash": (
        becomes_a_string("results", RUN),
        "results was a string",
    ),
    "dispatches that are no hash": (
        becomes_a_string("dispatches", RUN),
        "dispatches was a string",
    ),
    "a message template that is gone": (
        lambda client: client.delete(key("message", RUN)),
        "message is gone",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_repaired_and_ends(run: Store, damage: str) -> None:
    act, what = DAMAGES[damage]
    act(run.redis)
    (repair,) = repairs(run.reap())
    assert repair.run == RUN
    assert what in repair.what
    assert repairs(run.reap()) == []  # once
    kinds = [event["kind"] for event in run.wait_events(RUN, "0", 10)[1]]
    assert kinds.count("repaired") == 1
    finish_all(run)
    check_ended(run)


def test_a_complete_run_that_nobody_was_to_close(run: Store) -> None:
    while run.reap().complete == []:
        while message := run.redis.rpop(A):
            lease = Lease.parse(message.decode())
            if run.claim(lease, OWNER, f"n{lease}").verdict == "go":
                run.finish(lease, result(lease.index))
    run.redis.delete(key("complete"))
    (repair,) = repairs(run.reap())
    assert "nobody was to close it" in repair.what
    finish_all(run)
    check_ended(run)


def test_a_chain_without_a_next_step(store: Store) -> None:
    store.announce("w", {"slots": 9, "queues": [A]})
    specs = [TaskSpec(backend="a", prompt=f"p{i}") for i in range(6)]
    store.submit(RUN, specs, RunOptions(max_parallel=1, kind="chain"), message="@LEASE@")
    store.claim(Lease(RUN, 0, 1), OWNER, "n")
    store.redis.delete(key("in_flight", RUN), key("leases", A), A)
    (repair,) = repairs(store.reap())
    assert "0 tasks were pending instead of 1" in repair.what
    finish_all(store)
    check_ended(store)


def test_waiting_tasks_that_no_list_explains(run: Store) -> None:
    run.redis.hset(key("queue", A), "waiting", 77)
    run.reap()
    assert [queue.waiting for queue in run.queues()] == [3]


def test_what_a_run_left_that_expired_is_not_waiting(run: Store) -> None:
    run.redis.delete(key("run", RUN), key("pending", RUN, A))
    run.reap()
    run.reap()
    assert [queue.waiting for queue in run.queues()] == [0]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (
            lambda c: (c.delete(key("run", RUN)), c.set(key("run", RUN), "x", px=9999999)),
            "a string",
        ),
        (lambda c: c.hdel(key("run", RUN), "total"), "incomplete"),
        (lambda c: c.hset(key("run", RUN), "max_parallel", "x"), "incomplete"),
    ],
)
def test_a_run_without_a_usable_record_is_removed_and_said_to_be_gone(
    run: Store, damage: Damage, what: str
) -> None:
    damage(run.redis)
    (repair,) = repairs(run.reap())
    assert what in repair.what
    assert run.summary(RUN) is None
    assert repairs(run.reap()) == []


def test_a_damaged_run_stops_no_other(run: Store) -> None:
    """Its pending list is no list: it is first in the queue's order, and is passed over."""
    becomes_a_string("pending", RUN, A)(run.redis)
    run.redis.hset(key("run", RUN), "max_parallel", 9)
    run.redis.zadd(key("fair_queue", A), {RUN: -1e15})
    admission = run.submit("other", [TaskSpec(backend="a", prompt="x")], RunOptions()).admission
    assert [each.run for each in admission.dispatched] == ["other"]
    assert [failure.run for failure in admission.failures] == [RUN]
    assert "WRONGTYPE" in admission.failures[0].error
    (repair,) = repairs(run.reap())
    assert repair.run == RUN
    finish_all(run)


def test_a_worker_renews_its_other_leases_beside_a_damaged_run(run: Store) -> None:
    run.submit("other", [TaskSpec(backend="a", prompt="x")], RunOptions())
    run.claim(Lease("other", 0, 1), OWNER, "n")
    becomes_a_string("in_flight", RUN)(run.redis)
    assert run.renew(OWNER, "server:1", [Lease(RUN, 1, 1), Lease("other", 0, 1)]).stop == [
        Lease(RUN, 1, 1)
    ]
