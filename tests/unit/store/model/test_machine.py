"""The real scripts against the model, in any order of steps; no run may be stuck at the end.

By default a fixed set of examples, the same each time. To look further, at random:

    MODEL_EXAMPLES=5000 MODEL_STEPS=80 python -m pytest -n 1 tests/local/store/test_model.py

A failure prints the steps that lead to it, the fewest that were found.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clinvk.core.spec import ErrorKind, RunOptions, TaskResult, TaskSpec, TaskStatus, Usage
from clinvk.core.steps import StepKind, StepRecord
from clinvk.store import decoding, failure_detector, leases, queues, steps
from clinvk.store.failure_detector import Overdue, Server
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Admission, Canceled, Hold, Lease
from tests.unit.store.model import record
from tests.unit.store.model.fleet import Model, Out

QUEUES = ["clinvk.a", "clinvk.b", "clinvk.c"]
WORKERS = ["w0", "w1", "w2"]
HOLDERS = ["w0/1", "w0/2", "w1/1"]
MAX_STEPS = 3
AGES_MS = 10**10
"""So long that no example sees its end; time passes by a step that rewrites what is in Redis."""
DAY_SECONDS = 86400
BOUND = 60
"""Rounds in which a fleet with slots for all must have ended whatever there is."""

SPECS = st.builds(
    TaskSpec,
    backend=st.sampled_from("aaabbc"),
    prompt=st.just("x"),
    max_attempts=st.sampled_from([None, None, None, 1, 2]),
    on_worker_lost=st.sampled_from([None, None, None, "retry", "fail"]),
    max_wait_seconds=st.sampled_from([None, None, 60.0]),
    model=st.sampled_from([None, "m"]),
    tags=st.sampled_from([[], [], ["t"], ["t", "u"]]),
)
ENOUGH = 1 << 52
"""A budget that no example uses up: what is reserved and counted shows all the same."""
COSTS: list[dict[str, Any]] = [
    {},
    {"cost_source": "unknown"},
    {"cost_source": "cli", "cost_usd": 0.1, "model": "m", "usage": Usage(input_tokens=3)},
    {"cost_source": "estimated", "cost_usd": 0.000001, "usage": Usage(total_tokens=7)},
    {"cost_source": "cli", "cost_usd": 1e6, "usage": Usage(output_tokens=1 << 62)},
]
"""What an execution may have used."""
OPTIONS = st.builds(
    RunOptions,
    max_parallel=st.integers(1, 4),
    fail_fast=st.booleans(),
    priority=st.sampled_from([0, 0, 0, 1, -1]),
    max_attempts=st.integers(1, 3),
    keep_seconds=st.sampled_from([3600.0, 7 * 86400.0, 30 * 86400.0]),
    max_micro_usd=st.sampled_from([None, None, ENOUGH]),
    max_total_tokens=st.sampled_from([None, None, ENOUGH]),
    allow_unknown_cost=st.just(True),
)
STATUSES = st.sampled_from([TaskStatus.OK, TaskStatus.OK, TaskStatus.FAILED, TaskStatus.TIMEOUT])
SERVES = st.lists(st.sampled_from(QUEUES), min_size=1, max_size=3, unique=True)


class Reaper(Store):
    """A store whose reaper is told what is lost, and tells what it was asked and dispatched.

    Attributes:
        lost: the leases that the failure detector takes for lost.
        renewing: those whose owners come back just then.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.lost: set[str] = set()
        self.renewing: set[str] = set()
        self.asked: list[Overdue] = []
        self.let_out_first: Admission | None = None

    def loss_reason(self, overdue: Overdue, server: Server) -> str | None:
        """Stand in for the failure detector."""
        self.asked.append(overdue)
        if overdue.lease in self.renewing:
            self.renew(overdue.owner, "server:1", [Lease.parse(overdue.lease)])
        return "its worker ended" if overdue.lease in self.lost else None

    def server(self) -> Server:
        """Stand in for the server's word: nobody asks."""
        return Server("server", 1, None)

    def call(self, name: str, **arguments: Any) -> Any:
        answer = super().call(name, **arguments)
        if name == "reap":
            self.let_out_first = decoding.admission(answer[1])
        return answer


class Machine(RuleBasedStateMachine):
    """The steps. Each asks the store and the model, and compares."""

    def __init__(self, store: Reaper) -> None:
        super().__init__()
        self.store = store
        self.store.redis.flushall()
        self.model = Model(QUEUES)
        self.in_hand: list[tuple[Lease, str, str]] = []
        self.results: list[tuple[Lease, TaskResult]] = []
        self.named = 0

    def _take(self, admission: Admission) -> None:
        self.model.take(admission.dispatched)
        if self.model.is_held_up_by_time():
            assert 0 < admission.retry_after_ms < AGES_MS

    def _name(self, what: str) -> str:
        self.named += 1
        return f"{what}{self.named}"

    def _leases(self, **where: bool) -> list[Lease]:
        """What is in flight, by what is so of it: is_claimed, is_over, is_released."""
        return [
            lease
            for lease, in_flight in self.model.leases().items()
            if all(is_so == _is(in_flight, name) for name, is_so in where.items())
        ]

    def _any_lease(self, data: st.DataObject) -> Lease:
        """A lease that is, or was, or may be next, or cannot be."""
        known = [
            Lease(name, index, dispatch)
            for name, run in self.model.runs.items()
            for index, task in enumerate(run.tasks)
            for dispatch in range(1, task.handed + 2)
        ]
        return data.draw(st.sampled_from([*known, Lease("r1", 8, 1), Lease("no-such-run", 0, 1)]))

    # Workers.

    @initialize(slots=st.integers(1, 8))
    def first_worker(self, slots: int) -> None:
        self.announce("w0", slots, QUEUES)

    @rule(worker=st.sampled_from(WORKERS), slots=st.integers(1, 5), serves=SERVES)
    def announce(self, worker: str, slots: int, serves: Sequence[str]) -> None:
        self.model.announce(worker, slots, serves)
        self._take(self.store.announce(worker, {"slots": slots, "queues": serves}))

    @rule(data=st.data())
    @precondition(lambda self: self.model.workers)
    def announce_again(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.model.workers)))
        self.announce(worker, *self.model.workers[worker])

    @rule(worker=st.sampled_from(WORKERS))
    def drain(self, worker: str) -> None:
        self.model.announce(worker, 0, [])
        self._take(self.store.drain(worker))

    @rule(data=st.data(), has_expired=st.booleans())
    @precondition(lambda self: self.model.workers)
    def fall_silent(self, data: st.DataObject, has_expired: bool) -> None:
        worker = data.draw(st.sampled_from(sorted(self.model.workers)))
        if has_expired:
            self.store.redis.delete(key("worker", worker))
        self.store.redis.zadd(key("workers"), {worker: 1})
        self.model.silent.add(worker)

    # Queues.

    @rule(queue=st.sampled_from(QUEUES), most=st.sampled_from([None, 0, 1, 1, 2, 2]))
    def limit(self, queue: str, most: int | None) -> None:
        self.store.limit(queue, max_concurrency=most)
        self.model.queues[queue].max_concurrency = most

    @rule(queue=st.sampled_from(QUEUES), is_paused=st.booleans())
    def pause(self, queue: str, is_paused: bool) -> None:
        self.store.limit(queue, paused=1 if is_paused else None)
        self.model.queues[queue].is_paused = is_paused

    @rule(queue=st.sampled_from(QUEUES), has_rate=st.booleans())
    def rate(self, queue: str, has_rate: bool) -> None:
        interval_ms = AGES_MS if has_rate else None
        self.store.limit(queue, interval_ms=interval_ms)
        self.model.queues[queue].interval_ms = interval_ms

    @rule(queue=st.sampled_from(QUEUES))
    def rate_allows_again(self, queue: str) -> None:
        self.store.redis.hdel(key("queue", queue), "last_ms")
        self.model.queues[queue].is_used_up = False

    @rule(is_limited=st.booleans())
    def set_budgets(self, is_limited: bool) -> None:
        limits = {"all cost": ENOUGH, "clinvk.a tokens": ENOUGH, "key * cost": ENOUGH}
        self.store.set_budgets(limits if is_limited else {})

    @rule(queue=st.sampled_from(QUEUES))
    def reopen(self, queue: str) -> None:
        admission = self.store.reopen(queue)
        self.model.queues[queue].is_closed = False
        self._take(admission)

    @rule()
    def admit(self) -> None:
        self._take(self.store.admit())

    # Runs.

    @initialize(specs=st.lists(SPECS, min_size=1, max_size=8), options=OPTIONS)
    def first_run(self, specs: list[TaskSpec], options: RunOptions) -> None:
        self.submit(specs, options, "")

    @rule(
        specs=st.lists(SPECS, min_size=1, max_size=8),
        options=OPTIONS,
        run_key=st.sampled_from(["", "nightly"]),
    )
    @precondition(lambda self: len(self.model.runs) < 5)
    def submit(self, specs: list[TaskSpec], options: RunOptions, run_key: str) -> None:
        name = self._name("r")
        submitted = self.store.submit(name, specs, options, run_key, "digest", "@QUEUE@ @LEASE@")
        assert submitted.run == self.model.submit(name, specs, options, run_key)
        if submitted.run == name:
            self._take(submitted.admission)
        else:
            assert (submitted.taken_by_digest, submitted.admission.dispatched) == ("digest", [])
            assert not self.store.redis.keys(f"*{name}*")

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from([*self.model.runs, "no-such-run"]))
        self._compare(self.store.cancel(run, "interrupted"), self.model.cancel(run))

    def _compare(self, canceled: Canceled, expected: Canceled) -> None:
        assert canceled.unpublished == expected.unpublished
        assert sorted(canceled.published) == sorted(expected.published)

    @rule(data=st.data())
    def aggregate(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from([*self.model.runs, "no-such-run"]))
        assert self.store.aggregate(run) == self.model.aggregate(run)

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        done = [name for name, run in self.model.runs.items() if run.state == "done"]
        name = data.draw(st.sampled_from([*(done or self.model.runs), "no-such-run"]))
        self._retry(name, data)

    @rule(data=st.data())
    def retry_what_goes_on(self, data: st.DataObject) -> None:
        self._retry(data.draw(st.sampled_from([*self.model.runs])), data)

    def _retry(self, name: str, data: st.DataObject) -> None:
        run = self.model.runs.get(name)
        its = list(range(len(run.tasks))) if run else [0]
        have_ended = [i for i in its if run and (run.tasks[i].result or run.tasks[i].is_canceled)]
        indexes = data.draw(st.sets(st.sampled_from(have_ended or its), min_size=1))
        tasks = {index: data.draw(st.one_of(st.none(), SPECS)) for index in indexes}
        in_flight = len(run.in_flight()) if run else 0
        most = data.draw(st.sampled_from([None, None, max(1, in_flight), 4]))
        seen = (run.retries if run else 0) - data.draw(st.sampled_from([0] * 9 + [1]))
        retried = self.store.retry(name, tasks, max(0, seen), most)
        assert retried.verdict == self.model.retry(name, tasks, max(0, seen), most)
        if retried.verdict == "retried":
            self._take(retried.admission)

    # What workers do.

    @rule(data=st.data(), owner=st.sampled_from(HOLDERS), count=st.integers(1, 3))
    @precondition(lambda self: self._full_queues())
    def receive_and_claim(self, data: st.DataObject, owner: str, count: int) -> None:
        for _ in range(count):
            if self._full_queues():
                self._claim(self._receive(data), owner, self._name("n"))

    @rule(data=st.data())
    @precondition(lambda self: self._full_queues())
    def message_is_dropped(self, data: st.DataObject) -> None:
        self._receive(data)

    @rule(data=st.data(), owner=st.sampled_from(HOLDERS))
    @precondition(lambda self: self._full_queues())
    def message_is_received(self, data: st.DataObject, owner: str) -> None:
        self.in_hand.append((self._receive(data), owner, self._name("n")))

    @rule(data=st.data())
    @precondition(lambda self: self.in_hand)
    def claim_or_ask_again(self, data: st.DataObject) -> None:
        self._claim(*data.draw(st.sampled_from(self.in_hand)))

    def _full_queues(self) -> list[str]:
        return [name for name in QUEUES if self.model.queues[name].messages]

    def _receive(self, data: st.DataObject) -> Lease:
        queue = data.draw(st.sampled_from(self._full_queues()))
        lease = self.model.queues[queue].messages.pop(0)
        assert self.store.redis.rpop(queue).decode() == f"{queue} {lease}"
        return lease

    def _claim(self, lease: Lease, owner: str, nonce: str) -> str:
        verdict = self.model.claim(lease, owner, nonce)
        answer = self.store.claim(lease, owner, nonce)
        assert answer.verdict == verdict
        if verdict == "go":
            task = self.model.runs[lease.run].tasks[lease.index]
            assert TaskSpec.from_wire(answer.spec or b"") == task.spec
            assert answer.attempts == 1 + task.worker_losses
        return verdict

    @rule(data=st.data(), owner=st.sampled_from(HOLDERS))
    def claim_out_of_the_blue(self, data: st.DataObject, owner: str) -> None:
        self._claim(self._any_lease(data), owner, self._name("n"))

    def _an_owner(self, data: st.DataObject) -> str:
        """One that holds something, if there is one."""
        claims = {
            in_flight.claim.rpartition("/")[0] for in_flight in self.model.leases().values()
        } - {""}
        return data.draw(st.sampled_from(sorted(claims) or HOLDERS))

    @rule(data=st.data())
    @precondition(lambda self: self._leases())
    def renew(self, data: st.DataObject) -> None:
        owner = self._an_owner(data)
        leases = [
            lease
            for lease, in_flight in self.model.leases().items()
            if in_flight.is_owned_by(owner)
        ]
        leases += data.draw(st.lists(st.sampled_from(self._leases()), max_size=3))
        if data.draw(st.booleans()):
            leases.append(self._any_lease(data))
        renewed = self.store.renew(owner, "server:1", leases)
        assert renewed.stop == self.model.renew(owner, leases)

    @rule(data=st.data(), of_all=st.booleans())
    @precondition(lambda self: self._leases())
    def release(self, data: st.DataObject, of_all: bool) -> None:
        owner, leases = self._an_owner(data), []
        if not of_all:
            leases = [data.draw(st.sampled_from([*self._leases(), Lease("no-such-run", 0, 1)]))]
        count = self.model.release(owner, leases)
        assert self.store.release(owner, *leases) == count

    @rule(data=st.data())
    def disown(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from([*self.model.runs, "no-such-run"]))
        assert self.store.disown(run) == self.model.disown(run)

    @rule(data=st.data(), status=STATUSES)
    @precondition(lambda self: self._leases(is_claimed=True))
    def finish(self, data: st.DataObject, status: TaskStatus) -> None:
        lease = data.draw(st.sampled_from(self._leases(is_claimed=True)))
        self._finish(lease, self._result(lease, status))

    @rule(data=st.data(), is_window=st.booleans(), is_delayed=st.booleans())
    @precondition(lambda self: self._leases(is_claimed=True))
    def hold(self, data: st.DataObject, is_window: bool, is_delayed: bool) -> None:
        lease = data.draw(st.sampled_from(self._leases(is_claimed=True)))
        self._hold(lease, is_window, is_delayed)

    @rule(data=st.data(), is_delayed=st.booleans())
    def hold_out_of_the_blue(self, data: st.DataObject, is_delayed: bool) -> None:
        self._hold(self._any_lease(data), False, is_delayed)

    def _hold(self, lease: Lease, is_window: bool, is_delayed: bool) -> None:
        ended = self._result(lease, TaskStatus.FAILED)
        verdict = self.model.hold(lease, is_window, is_delayed, ended)
        run = self.model.runs.get(lease.run)
        task = run.tasks[lease.index] if run and lease.index < len(run.tasks) else None
        max_wait_seconds = task.spec.max_wait_seconds if task else None
        seconds, micros = self.store.redis.time()
        held = self.store.hold(
            lease,
            Hold(
                signal="window" if is_window else "",
                retry_at_ms=(seconds + DAY_SECONDS) * 1000 + micros // 1000,
                delay_ms=DAY_SECONDS * 1000 if is_delayed else 0,
                max_wait_ms=None if max_wait_seconds is None else int(max_wait_seconds * 1000),
                result=ended,
            ),
        )
        assert held.verdict == verdict
        if verdict == "held":
            self._take(held.admission)

    @rule(data=st.data())
    @precondition(lambda self: self.model.expired_waits())
    def go_elsewhere(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(sorted(self.model.expired_waits(), key=str)))
        run = self.model.runs[lease.run]
        queue = data.draw(st.sampled_from(sorted({task.spec.queue for task in run.tasks})))
        verdict = self.model.move(lease, queue)
        max_wait_ms = int(1000 * (run.tasks[lease.index].spec.max_wait_seconds or 0))
        hold = Hold(delay_ms=None, max_wait_ms=max_wait_ms, routes=[(queue, "")])
        held = self.store.hold(lease, hold)
        assert held.verdict == verdict
        if verdict == "held":
            self._take(held.admission)

    @rule(data=st.data())
    @precondition(lambda self: any(run.held for run in self.model.runs.values()))
    def holds_end(self, data: st.DataObject) -> None:
        held = [name for name, run in self.model.runs.items() if run.held]
        self._end_holds(data.draw(st.sampled_from(held)))

    def _end_holds(self, name: str) -> None:
        held = {str(index): 1 for index in self.model.runs[name].held}
        self.store.redis.zadd(key("held", name), held, xx=True)
        self.store.redis.zadd(key("held_runs"), {name: 1}, xx=True)
        self.model.end_holds(name)
        self._take(self.store.admit())

    @rule(data=st.data())
    def slow_down(self, data: st.DataObject) -> None:
        """A task slows its queue down, and an operator opens it again."""
        lease = self._any_lease(data)
        task = self.model.task_of(lease)
        is_running = bool(task and task.in_flight and task.in_flight.claim)
        assert self.store.slow_down(lease, "rate_limited", "w0") == is_running
        if task and is_running:
            self.reopen(task.queue)

    @rule(ends=st.booleans())
    def expired_waits(self, ends: bool) -> None:
        expired = [each.lease for each in self.store.expired_waits()]
        assert sorted(map(str, expired)) == sorted(map(str, self.model.expired_waits()))
        for lease in expired if ends else ():
            self._finish(lease, self._result(lease, TaskStatus.FAILED))

    @rule(data=st.data())
    @precondition(lambda self: self.results)
    def finish_again(self, data: st.DataObject) -> None:
        self._finish(*data.draw(st.sampled_from(self.results)))

    @rule(data=st.data(), count=st.integers(1, 4))
    def record_steps(self, data: st.DataObject, count: int) -> None:
        name = data.draw(st.sampled_from([*self.model.runs, "no-such-run"]))
        tasks = len(self.model.runs[name].tasks) if name in self.model.runs else 1
        indexes = data.draw(st.lists(st.integers(0, tasks - 1), min_size=count, max_size=count))
        records = [
            StepRecord(kind=StepKind.MESSAGE, text="x", index=index, attempt=1, time="")
            for index in indexes
        ]
        expected = self.model.record_steps(name, indexes, MAX_STEPS)
        assert self.store.record_steps(name, records) == expected
        if name in self.model.runs:
            self._read_steps(name, data.draw(st.integers(0, self.model.runs[name].last_step)))

    def _read_steps(self, name: str, after: int) -> None:
        run = self.model.runs[name]
        for index in (None, *range(len(run.tasks))):
            page = self.store.steps_since(name, after, index)
            found = [(each.sequence, each.index, each.number) for each in page.records]
            expected = [step for step in run.steps if step[0] > after and index in (None, step[1])]
            assert (found, page.position) == (expected, run.last_step)

    @rule(data=st.data(), status=STATUSES)
    def finish_out_of_the_blue(self, data: st.DataObject, status: TaskStatus) -> None:
        lease = self._any_lease(data)
        self._finish(lease, self._result(lease, status))

    def _result(self, lease: Lease, status: TaskStatus) -> TaskResult:
        kind = None if status is TaskStatus.OK else ErrorKind.FAILED
        return TaskResult(
            index=lease.index,
            status=status,
            exit_code=0,
            duration_seconds=0.1,
            output=self._name("output of "),
            error_kind=kind,
            **COSTS[self.named % len(COSTS)],
        )

    def _finish(self, lease: Lease, result: TaskResult) -> None:
        self.results.append((lease, result))
        had_result = self.model.result(lease) is not None
        is_ok, canceled = self.model.finish(lease, result)
        recorded = self.store.finish(lease, result)
        assert recorded.ok == is_ok
        self._compare(recorded.canceled, canceled)
        if is_ok and not had_result:
            self._take(recorded.admission)
        else:
            assert recorded.admission.dispatched == []

    # Time, and the reaper.

    @rule(data=st.data())
    @precondition(lambda self: self._leases(is_over=False))
    def leases_run_out(self, data: st.DataObject) -> None:
        fresh = self._leases(is_over=False)
        self._run_out(data.draw(st.lists(st.sampled_from(fresh), min_size=1, max_size=3)))

    def _run_out(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            in_flight = self.model.leases()[lease]
            queue = self.model.runs[lease.run].tasks[lease.index].queue
            self.store.redis.zadd(key("leases", queue), {str(lease): 1}, xx=True)
            in_flight.is_over = True

    @rule(data=st.data(), closes=st.booleans(), records=st.booleans())
    @precondition(lambda self: self._leases(is_over=True))
    def reap_what_is_lost(self, data: st.DataObject, closes: bool, records: bool) -> None:
        is_lost = st.lists(st.sampled_from(self._leases(is_over=True)), min_size=1, unique=True)
        self._reap(data.draw(is_lost), closes, records)

    @rule(data=st.data())
    @precondition(lambda self: self._leases(is_over=True, is_claimed=True))
    def reap_what_comes_back(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self._leases(is_over=True, is_claimed=True)))
        self.store.renewing = {str(lease)}
        self._reap([lease], False, False)
        self.store.renewing = set()

    @rule(closes=st.booleans())
    def reap_nothing(self, closes: bool) -> None:
        self._reap([], closes, False)

    def _reap(self, lost: Sequence[Lease], closes: bool, records: bool) -> None:
        """Reap as a renewer does; it may end before it closes runs or records ends."""
        self.store.lost, self.store.asked = set(map(str, lost)), []
        overdue = {
            Overdue(str(lease), bool(in_flight.claim), in_flight.claim.rpartition("/")[0], "", None)
            for lease, in_flight in self.model.leases().items()
            if in_flight.is_over
        }
        exhausted = {str(lease) for lease in self._leases(is_released=True)}
        complete = {name for name, run in self.model.runs.items() if run.is_complete()}
        reaped = self.store.reap()
        assert (reaped.repairs, reaped.failures) == ([], [])  # there is nothing to repair
        asked = self.store.asked
        assert {_without_time(row) for row in asked} == overdue
        assert {row.lease for row in asked if row.over_ms is None} == exhausted
        assert self.store.let_out_first is not None
        self._take(self.store.let_out_first)
        for lease in map(Lease.parse, self.store.renewing):
            self.model.renew(self.model.leases()[lease].claim.rpartition("/")[0], [lease])
        really = [Lease.parse(row.lease) for row in asked if row.lease in self.store.lost]
        assert [each.lease for each in reaped.exhausted] == [
            lease for lease in really if self.model.lose(lease)
        ]
        if really:
            self._take(reaped.admission)
        assert set(reaped.complete) == complete
        for lease in [each.lease for each in reaped.exhausted if records]:
            is_canceled = self.model.runs[lease.run].state == "canceled"
            status = TaskStatus.CANCELED if is_canceled else TaskStatus.LOST
            self._finish(lease, self._result(lease, status))
        for run in reaped.complete if closes else ():
            assert self.store.aggregate(run) == self.model.aggregate(run)

    # What must hold after each step.

    @invariant()
    def redis_is_in_order_and_as_the_model_says(self) -> None:
        found = record.read(self.store, list(self.model.runs), QUEUES)
        record.check(found)
        for name, run in self.model.runs.items():
            its, tasks = found.runs[name], dict(enumerate(run.tasks))
            assert its.fields["state"] == run.state
            assert set(its.held) == run.held
            assert its.pending == {queue: ids for queue, ids in run.pending.items() if ids}
            assert its.in_flight == {
                index: (
                    in_flight.dispatch,
                    "rd"[not in_flight.claim],
                    tasks[index].queue,
                    in_flight.claim,
                )
                for index, in_flight in run.in_flight().items()
            }
            assert its.results == {i: t.result for i, t in tasks.items() if t.result is not None}
            assert its.earlier == {i: t.earlier for i, t in tasks.items() if t.earlier is not None}
            assert its.worker_losses == {
                i: t.worker_losses for i, t in tasks.items() if t.worker_losses
            }
            assert its.events == run.events
            assert its.ledger == run.ledger
            counts = {status.value: its.number(status) for status in TaskStatus}
            assert +Counter(counts) == +Counter(run.counts)
        slots = {name: self.model.slots(name) for name in QUEUES} | {"*": self.model.slots()}
        assert found.slots == {name: count for name, count in slots.items() if count or name == "*"}
        for name in QUEUES:
            messages = self.model.queues[name].messages
            assert found.queues[name].messages == [f"{name} {lease}" for lease in messages]
            over = {lease for lease, score in found.queues[name].leases.items() if score <= 1}
            leases = self.model.leases(name)
            assert over == {str(lease) for lease, in_flight in leases.items() if in_flight.is_over}

    def teardown(self) -> None:
        """Whatever has happened: with workers for all, each run comes to its end."""
        if sys.exc_info()[0] is not None:
            return
        for queue in QUEUES:
            self.limit(queue, None)
            self.pause(queue, False)
            self.rate(queue, False)
            self.reopen(queue)
        for name, run in self.model.runs.items():
            if run.held:
                self._end_holds(name)
        self.announce("ample", 99, QUEUES)
        rounds = 0
        while any(run.state != "done" for run in self.model.runs.values()):
            rounds += 1
            assert rounds < BOUND, "a run is stuck"
            self._work()
            self.redis_is_in_order_and_as_the_model_says()
        for run in self.model.runs.values():
            ends = [bool(task.result) + task.is_canceled for task in run.tasks]
            assert ends == [1] * len(run.tasks)
        self.set_budgets(True)
        assert self.store.expired_waits() == []
        found = record.read(self.store, list(self.model.runs), QUEUES)
        assert not any(queue.leases or queue.waiting for queue in found.queues.values())

    def _work(self) -> None:
        """Claim every message and end every other task; the rest is lost, with what is dropped."""
        for queue in QUEUES:
            while text := self.store.redis.rpop(queue):
                lease = Lease.parse(text.decode().split()[1])
                assert self.model.queues[queue].messages.pop(0) == lease
                if self._claim(lease, "ample/1", self._name("n")) == "go" and lease.index % 2:
                    self._finish(lease, self._result(lease, TaskStatus.OK))
        self._run_out(self._leases(is_over=False))
        self._reap(self._leases(), closes=True, records=True)


def _is(in_flight: Out, name: str) -> bool:
    return bool(in_flight.claim) if name == "is_claimed" else bool(getattr(in_flight, name))


def _without_time(row: Overdue) -> Overdue:
    return Overdue(row.lease, row.is_running, row.owner, "", None)


@pytest.fixture
def time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that never passes by itself."""
    monkeypatch.setattr(leases, "LEASE_MS", AGES_MS)
    monkeypatch.setattr(leases, "CLAIM_TIMEOUT_MS", AGES_MS)
    monkeypatch.setattr(queues, "WORKER_MS", AGES_MS)
    monkeypatch.setattr(leases, "COMPLETE_AFTER_MS", 0)
    monkeypatch.setattr(leases, "AUDIT_INTERVAL_MS", -1)  # each reap audits each run
    monkeypatch.setattr(steps, "MAX_STEPS", MAX_STEPS)


MORE_EXAMPLES = os.environ.get("MODEL_EXAMPLES")


@pytest.mark.usefixtures("time_stands_still")
@pytest.mark.timeout(0 if MORE_EXAMPLES else 300)
def test_the_operations_do_as_the_model_says(
    redis_client: Any, model_examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Reaper(redis_client)
    monkeypatch.setattr(failure_detector, "loss_reason", store.loss_reason)
    profile = settings(
        max_examples=int(MORE_EXAMPLES or model_examples),
        stateful_step_count=int(os.environ.get("MODEL_STEPS", "40")),
        derandomize=MORE_EXAMPLES is None,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    make: Any = partial(Machine, store)
    run_state_machine_as_test(make, settings=profile)
