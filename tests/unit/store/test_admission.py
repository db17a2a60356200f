"""Admission over a fleet: slots, limits, rates, turns and priorities, on the real scripts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from clinvk.core.spec import RunOptions, TaskSpec, TaskStatus
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Admission, Lease
from tests.unit.store.test_store import result

A, B = "clinvk.a", "clinvk.b"


class Fleet:
    """A fleet on paper: submits runs, and plays the workers' part."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.out: list[Lease] = []

    def worker(self, slots: int, *queues: str, name: str = "w") -> list[str]:
        return self._take(self.store.announce(name, {"slots": slots, "queues": queues or (A, B)}))

    def submit(
        self, run: str, backends: str, max_parallel: int = 100, priority: int = 0
    ) -> list[str]:
        specs = [TaskSpec(backend=name, prompt="x") for name in backends]
        options = RunOptions(max_parallel=max_parallel, priority=priority)
        return self._take(self.store.submit(run, specs, options).admission)

    def _take(self, admission: Admission) -> list[str]:
        leases = [Lease(h.run, h.index, h.dispatch) for h in admission.dispatched]
        for lease in leases:
            assert self.store.claim(lease, "w/1", str(lease)).verdict == "go"
        self.out += leases
        return [f"{lease.run}{lease.index}" for lease in leases]

    def end(self, number: int = 0, status: TaskStatus = TaskStatus.OK) -> list[str]:
        """End the task that has been out longest; returns what is dispatched for it."""
        lease = self.out.pop(number)
        return self._take(self.store.finish(lease, result(lease.index, status)).admission)

    def admit(self) -> list[str]:
        return self._take(self.store.admit())


@pytest.fixture
def fleet(store: Store) -> Iterator[Fleet]:
    fleet = Fleet(store)
    yield fleet
    while fleet.out:  # whatever the limits were, all that was dispatched can end
        fleet.end()


def test_nothing_is_handed_out_that_no_worker_can_take(fleet: Fleet) -> None:
    assert fleet.submit("r", "aaaa") == []
    assert fleet.worker(1) == ["r0"]
    assert fleet.worker(2, name="another") == ["r1", "r2"]
    assert fleet.end() == ["r3"]


def test_what_a_dead_worker_holds_takes_no_slot_of_those_that_live(fleet: Fleet) -> None:
    fleet.worker(2, name="dead")
    assert fleet.submit("r", "aaaa") == ["r0", "r1"]
    fleet.store.drain("dead")  # its slots are gone; its leases are over, but may not be reaped
    assert fleet.worker(2, name="alive") == []
    long_ago = dict.fromkeys(map(str, fleet.out), 1)
    fleet.store.redis.zadd(key("leases", A), long_ago)
    assert fleet.admit() == ["r2", "r3"]


def test_what_a_dead_worker_holds_counts_against_a_limit(fleet: Fleet) -> None:
    fleet.store.limit(A, max_concurrency=2)
    fleet.worker(4)
    assert fleet.submit("r", "aaaa") == ["r0", "r1"]
    fleet.store.redis.zadd(key("leases", A), dict.fromkeys(map(str, fleet.out), 1))
    assert fleet.admit() == []  # it may still run


def test_a_worker_that_retires_takes_no_more(fleet: Fleet) -> None:
    fleet.worker(2)
    assert fleet.submit("r", "aaaa") == ["r0", "r1"]
    assert fleet._take(fleet.store.drain("w")) == []
    assert fleet.end() == []
    assert fleet.worker(1, name="new") == []  # one is still out
    assert fleet.end() == ["r2"]


def test_a_worker_that_drains_keeps_slots_for_what_it_runs_and_no_more(fleet: Fleet) -> None:
    fleet.worker(2)
    assert fleet.submit("r", "aaaa") == ["r0", "r1"]
    assert fleet.worker(2) == []  # it has draining, with two still running
    assert fleet.worker(1, name="new") == ["r2"]
    assert fleet.worker(1) == []  # r0 is about to end: its slot goes first
    assert fleet.end() == []
    assert fleet._take(fleet.store.drain("w")) == []
    assert fleet.end() == []
    assert fleet.end() == ["r3"]


def test_a_run_that_wants_nothing_more_is_in_no_ring(fleet: Fleet) -> None:
    fleet.worker(2)
    fleet.submit("r", "aa")
    fleet.submit("s", "aa", max_parallel=1)
    assert fleet.store.redis.zrange(key("fair_queue", A), 0, -1) == [b"s"]
    assert fleet.end() == ["s0"]
    assert fleet.store.redis.zrange(key("fair_queue", A), 0, -1) == []


def test_a_queue_that_nobody_serves_waits_and_holds_up_nothing_else(fleet: Fleet) -> None:
    fleet.worker(4, B)
    assert fleet.submit("r", "aabb") == ["r2", "r3"]
    assert fleet.worker(1, A, name="late") == ["r0"]


def test_slots_that_two_queues_share_are_not_promised_twice(fleet: Fleet) -> None:
    fleet.worker(3, A, B)
    assert len(fleet.submit("r", "aaabbb")) == 3


def test_a_queues_limit_is_never_exceeded_and_can_change_in_mid_run(fleet: Fleet) -> None:
    fleet.worker(10)
    fleet.store.limit(A, max_concurrency=2)
    assert fleet.submit("r", "aaaaaab") == ["r0", "r1", "r6"]
    fleet.store.limit(A, max_concurrency=3)
    assert fleet.admit() == ["r2"]
    fleet.store.limit(A, max_concurrency=1)
    assert fleet.end() == []
    assert fleet.end() == []
    fleet.store.limit(A, max_concurrency=None)
    assert fleet.admit() == ["r3", "r4", "r5"]


def test_a_paused_queue_hands_out_nothing_until_it_goes_on(fleet: Fleet) -> None:
    fleet.worker(10)
    fleet.store.limit(A, paused=1)
    assert fleet.submit("r", "ab") == ["r1"]
    fleet.store.limit(A, paused=None)
    assert fleet.admit() == ["r0"]


def test_a_configured_limit_never_overrides_an_owners(fleet: Fleet) -> None:
    fleet.store.limit(A, "config", max_concurrency=5)
    assert fleet.store.queues()[0].max_concurrency == 5
    fleet.store.limit(A, max_concurrency=2)
    fleet.store.limit(A, "config", max_concurrency=9)
    assert fleet.store.queues()[0].max_concurrency == 2


def test_a_rate_spaces_starts_evenly_and_says_when_to_come_back(fleet: Fleet) -> None:
    fleet.worker(10)
    fleet.store.limit(A, rate="10/s", interval_ms=100)
    began = time.monotonic()
    assert fleet.submit("r", "aaaa") == ["r0"]
    next_look = fleet.store.admit()
    assert 0 < next_look.retry_after_ms <= 100
    started = 1 + len(next_look.dispatched)  # one more where 100 ms have passed already
    while started < 4:
        started += len(fleet.admit())
        assert started <= 1 + (time.monotonic() - began) * 10 + 0.5


def test_a_rate_that_is_changed_counts_from_the_last_start(fleet: Fleet) -> None:
    fleet.worker(10)
    fleet.store.limit(A, rate="1/h", interval_ms=3_600_000)
    assert fleet.submit("r", "aaa") == ["r0"]
    assert fleet.admit() == []
    fleet.store.limit(A, rate="1000/s", interval_ms=1)
    time.sleep(0.002)
    assert fleet.admit() == ["r1"]
    fleet.store.limit(A, rate="1/h", interval_ms=3_600_000)
    assert 3_500_000 < fleet.store.admit().retry_after_ms <= 3_600_000
    fleet.store.limit(A, rate=None, interval_ms=None)
    assert fleet.admit() == ["r2"]


def test_runs_take_turns(fleet: Fleet) -> None:
    fleet.worker(1)
    assert fleet.submit("big", "aaaaaa") == ["big0"]
    assert fleet.submit("x", "aa") == []
    assert fleet.submit("y", "a") == []
    order = [fleet.end()[0] for _ in range(8)]
    # A newcomer goes before the run that was served last; then everyone in turn.
    assert order[:4] == ["x0", "y0", "big1", "x1"]
    assert order[4:] == ["big2", "big3", "big4", "big5"]


def test_a_small_run_behind_a_large_one_is_next(fleet: Fleet) -> None:
    fleet.worker(2)
    fleet.submit("big", "a" * 50)
    for _ in range(10):
        fleet.end()
    assert fleet.submit("one", "a") == []
    assert fleet.end() == ["one0"]


def test_a_higher_priority_goes_first(fleet: Fleet) -> None:
    fleet.worker(1)
    fleet.submit("low", "aaa")
    fleet.submit("high", "aa", priority=5)
    assert [fleet.end()[0] for _ in range(4)] == ["high0", "high1", "low1", "low2"]


def test_a_run_at_its_window_leaves_its_turn_to_others_and_comes_back(fleet: Fleet) -> None:
    fleet.worker(4)
    assert fleet.submit("r", "aaaa", max_parallel=1) == ["r0"]
    assert fleet.submit("s", "aa") == ["s0", "s1"]
    assert fleet.end() == ["r1"]


def test_counts_of_queues(fleet: Fleet) -> None:
    fleet.worker(2, A)
    fleet.submit("r", "aaaab")
    fleet.store.limit(A, rate="50/min", interval_ms=1200)
    state = {queue.name: queue for queue in fleet.store.queues()}
    assert (state[A].running, state[A].waiting, state[A].slots) == (2, 2, 2)
    assert (state[B].running, state[B].waiting, state[B].slots) == (0, 1, 0)
    assert state[A].rate == "50/min"
    fleet.store.cancel("r", "x")
    assert [queue.waiting for queue in fleet.store.queues()] == [0, 0]


def test_a_key_stands_for_one_run(fleet: Fleet) -> None:
    specs = [TaskSpec(backend="a", prompt="x")]
    first = fleet.store.submit("r1", specs, RunOptions(), "nightly", "digest")
    second = fleet.store.submit("r2", specs, RunOptions(), "nightly", "other")
    assert (first.run, first.taken_by_digest) == ("r1", None)
    assert (second.run, second.taken_by_digest) == ("r1", "digest")
    assert fleet.store.submitted("nightly") == ("r1", "digest")
    assert fleet.store.submitted("weekly") is None
    assert fleet.store.summary("r2") is None
    assert [run.run_id for run in fleet.store.runs(10)] == ["r1"]
    assert fleet.store.queues()[0].waiting == 1


def test_workers_are_there_while_they_say_so(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.store.announce("steady", {"slots": 1, "queues": [B]})
    monkeypatch.setattr("clinvk.store.queues.WORKER_MS", 1)
    fleet.store.announce("brief", {"slots": 5, "queues": [A]})
    monkeypatch.undo()
    while "brief" in fleet.store.workers():
        pass
    fleet.store.announce("steady", {"slots": 1, "queues": [B]})
    assert set(fleet.store.workers()) == {"steady"}
    assert fleet.submit("r", "aab") == ["r2"]
