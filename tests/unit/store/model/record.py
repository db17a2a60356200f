"""What Redis says of runs and queues, read key by key, and what must hold of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from clinvk.core.spec import TaskSpec, TaskStatus
from clinvk.core.spending import Spending
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Lease


@dataclass(frozen=True)
class RunRecord:
    """A run's keys, decoded."""

    fields: dict[str, str]
    pending: dict[str, list[int]]
    held: dict[int, str]
    in_flight: dict[int, tuple[int, str, str, str]]
    worker_losses: dict[int, int]
    results: dict[int, bytes]
    earlier: dict[int, bytes]
    events: list[tuple[str, ...]]
    ledger: dict[tuple[str, ...], Spending]
    reserved: dict[str, str]

    def number(self, name: str) -> int:
        """A counter of its record."""
        return int(self.fields.get(name, 0))


@dataclass(frozen=True)
class QueueRecord:
    """A queue's keys, decoded."""

    waiting: int
    leases: dict[str, float]
    fair_queue: set[str]
    is_waiting: bool
    messages: list[str]


@dataclass(frozen=True)
class Record:
    """All that the invariants are about."""

    runs: dict[str, RunRecord]
    queues: dict[str, QueueRecord]
    complete: set[str]
    slots: dict[str, int]
    lifetimes_ms: dict[str, int]
    reserved: dict[str, str]


def read(store: Store, runs: list[str], queues: list[str]) -> Record:
    """Read it."""
    complete = {name.decode() for name in store.redis.zrange(key("complete"), 0, -1)}
    return Record(
        {run: _run(store, run, queues) for run in runs},
        {queue: _queue(store, queue) for queue in queues},
        complete,
        {name.decode(): int(count) for name, count in store.redis.hgetall(key("capacity")).items()},
        _lifetimes(store),
        _texts(store, key("all_reserved")),
    )


def _lifetimes(store: Store) -> dict[str, int]:
    keys = store.redis.keys("clinvk:*")
    with store.redis.pipeline(transaction=False) as pipeline:
        for name in keys:
            pipeline.pttl(name)
        lifetimes = pipeline.execute()
    return {name.decode(): ms for name, ms in zip(keys, lifetimes, strict=True)}


def _run(store: Store, run: str, queues: list[str]) -> RunRecord:
    with store.redis.pipeline(transaction=False) as pipeline:
        for name in ("run", "in_flight", "worker_losses", "results", "earlier_results"):
            pipeline.hgetall(key(name, run))
        pipeline.xrange(key("events", run))
        pipeline.zrange(key("held", run), 0, -1)
        pipeline.hgetall(key("specs", run))
        pipeline.hgetall(key("tries", run))
        for queue in queues:
            pipeline.lrange(key("pending", run, queue), 0, -1)
        answers = pipeline.execute()
    fields, in_flight, worker_losses, results, earlier, events, held, specs, tries, *pending = (
        answers
    )
    return RunRecord(
        {name.decode(): value.decode() for name, value in fields.items()},
        {
            queue: [int(index) for index in indexes]
            for queue, indexes in zip(queues, pending, strict=True)
            if indexes
        },
        {int(index): _queue_of(specs[index], tries.get(index)) for index in held},
        {int(index): _entry(entry.decode()) for index, entry in in_flight.items()},
        {int(index): int(count) for index, count in worker_losses.items()},
        {int(index): wire for index, wire in results.items()},
        {int(index): entry.partition(b":")[2] for index, entry in earlier.items()},
        [_event(fields) for _, fields in events],
        _ledger(store, run),
        _texts(store, key("reserved", run)),
    )


def _texts(store: Store, name: str) -> dict[str, str]:
    found = store.redis.hgetall(name)
    return {field.decode(): value.decode() for field, value in found.items()}


def _queue_of(spec: bytes, tries: bytes | None) -> str:
    queue: str | None = json.loads(tries).get("queue") if tries else None
    return queue or TaskSpec.from_wire(spec).queue


def _ledger(store: Store, run: str) -> dict[tuple[str, ...], Spending]:
    """What it used, by backend, model and tags; a day more or less makes no difference."""
    found: dict[tuple[str, ...], Spending] = {}
    for row in store.spending_of(run):
        name = (row.backend, row.model, *row.tags)
        found[name] = found.get(name, Spending()) + row.spending
    return found


def _entry(text: str) -> tuple[int, str, str, str]:
    dispatch, state, queue, started_ms, claim = text.split(":", 4)
    assert bool(started_ms) == (state == "r")
    return int(dispatch), state, queue, claim


def _event(fields: dict[bytes, bytes]) -> tuple[str, ...]:
    names = (b"kind", b"index", b"dispatch")
    return tuple(fields[name].decode() for name in names if name in fields)


def _queue(store: Store, queue: str) -> QueueRecord:
    with store.redis.pipeline(transaction=False) as pipeline:
        pipeline.hget(key("queue", queue), "waiting")
        pipeline.zrange(key("leases", queue), 0, -1, withscores=True)
        pipeline.zrange(key("fair_queue", queue), 0, -1)
        pipeline.sismember(key("waiting_queues"), queue)
        pipeline.lrange(queue, 0, -1)
        waiting, leases, fair_queue, is_waiting, messages = pipeline.execute()
    return QueueRecord(
        int(waiting or 0),
        {name.decode(): score for name, score in leases},
        {run.decode() for run in fair_queue},
        bool(is_waiting),
        [text.decode() for text in reversed(messages)],
    )


def check(record: Record) -> None:
    """Assert the invariants that need no model."""
    _check_lifetimes(record)
    for run in record.runs.values():
        _check_counts(run)
        _check_places(run)
        _check_events(run)
        _check_budget(run)
    _check_reserved(record)
    for queue in record.queues:
        _check_queue(record, queue)
    complete = {
        name
        for name, run in record.runs.items()
        if run.number("remaining") == 0 and run.fields["state"] != "done"
    }
    assert record.complete == complete


SHARED = ("runs", "queues", "waiting_queues", "complete")
SHARED_OF_A_QUEUE = ("queue", "fair_queue", "leases")


def _check_lifetimes(record: Record) -> None:
    """Each key has one, and what a run needs that is not over lives as long as its record."""
    assert -1 not in record.lifetimes_ms.values(), record.lifetimes_ms
    shared = [key(name) for name in SHARED]
    shared += [key(name, queue) for name in SHARED_OF_A_QUEUE for queue in record.queues]
    there = {name: record.lifetimes_ms[name] for name in shared if name in record.lifetimes_ms}
    for run, its in record.runs.items():
        if its.fields["state"] != "done":
            least_ms = record.lifetimes_ms[key("run", run)]
            assert {name: ms for name, ms in there.items() if ms < least_ms} == {}


def _check_counts(run: RunRecord) -> None:
    """The counts add up, and are those of the results."""
    counts = {status.value: run.number(status) for status in TaskStatus}
    assert sum(counts.values()) + run.number("remaining") == run.number("total"), counts
    ends = Counter(json.loads(wire)["status"] for wire in run.results.values())
    ends["canceled"] += run.number("total") - sum(_places(run).values())  # never began
    assert {name: count for name, count in counts.items() if count} == +ends


def _places(run: RunRecord) -> Counter[int]:
    places = Counter([*run.in_flight, *run.results, *run.held])
    for indexes in run.pending.values():
        places.update(indexes)
    return places


def _check_places(run: RunRecord) -> None:
    """Each task is in one place, and max_parallel holds."""
    state, total, places = run.fields["state"], run.number("total"), _places(run)
    assert set(places.values()) <= {1}, f"in more than one place: {places}"
    if state == "running":
        assert set(places) == set(range(total)), f"in no place: {set(range(total)) - set(places)}"
    else:
        assert set(places) <= set(range(total))
        assert not run.pending
        assert not run.held
        assert {entry[1] for entry in run.in_flight.values()} <= {"r"}
    assert not set(run.earlier) & set(run.results)
    if state == "done":
        assert not run.in_flight
        assert not run.earlier
        assert run.number("remaining") == 0
    assert len(run.in_flight) <= run.number("max_parallel")


UNITS = ("cost", "tokens")


def _check_budget(run: RunRecord) -> None:
    """Only what is in flight has reserved anything, and what was spent is what the ledger says."""
    entries = {name: amount for name, amount in run.reserved.items() if name not in UNITS}
    assert set(map(int, entries)) <= set(run.in_flight)
    for place, unit in enumerate(UNITS):
        amounts = (int(entry.split(":")[place]) for entry in entries.values())
        assert int(run.reserved.get(unit, 0)) == sum(amounts)
    if "max_cost" in run.fields or "max_tokens" in run.fields:
        spent = Spending.sum(run.ledger.values())
        assert (run.number("spent_cost"), run.number("spent_tokens")) == (
            spent.micro_usd,
            spent.total_tokens,
        )


def _check_reserved(record: Record) -> None:
    """What is reserved of budgets of the day is what runs have reserved of them."""
    sums = Counter[str]()
    for run in record.runs.values():
        for name, entry in run.reserved.items():
            if name in UNITS:
                continue
            cost, tokens, queue = entry.split(":")
            for scope in ("all", queue, f"key {run.fields['user']}") if queue else ():
                sums.update({f"{scope} cost": int(cost), f"{scope} tokens": int(tokens)})
    assert {name: int(amount) for name, amount in record.reserved.items() if amount != "0"} == +sums


def _check_events(run: RunRecord) -> None:
    """One `finished` for each result; `ended` once, last, where it is done; anew with each retry.

    Without a `finished` are earlier results that a cancellation gave back, and those of tasks that
    never started, which a retry writes.
    """
    has_ended = set[int]()
    for kind, *of in run.events:
        if kind == "finished":
            assert int(of[0]) not in has_ended
            has_ended.add(int(of[0]))
        elif kind == "retried":
            has_ended.discard(int(of[0]))
    assert has_ended <= set(run.results)
    assert has_ended == set(run.results) or "retries" in run.fields
    kinds = [event[0] for event in _latest(run)]
    assert kinds.count("canceled") == ("cancel_reason" in run.fields)
    assert kinds.count("ended") == (run.fields["state"] == "done")
    assert "ended" not in kinds[:-1]
    if run.fields["fail_fast"] == "1":
        _check_fail_fast(run)


def _latest(run: RunRecord) -> list[tuple[str, ...]]:
    """The events since the last retry."""
    retried = [place for place, event in enumerate(run.events) if event[0] == "retried"]
    return run.events[retried[-1] + 1 :] if retried else run.events


def _check_fail_fast(run: RunRecord) -> None:
    """Once a task has failed, nothing more is started."""
    has_failed = False
    for kind, *of in _latest(run):
        if kind == "finished":
            has_failed |= json.loads(run.results[int(of[0])])["status"] != "ok"
        assert not (has_failed and kind == "started")


def _check_queue(record: Record, name: str) -> None:
    """What is in flight has its lease, what waits is counted, and who waits has a turn."""
    queue = record.queues[name]
    in_flight = {
        str(Lease(run, index, entry[0]))
        for run in record.runs
        for index, entry in record.runs[run].in_flight.items()
        if entry[2] == name
    }
    assert set(queue.leases) == in_flight
    waiting = {run: len(its.pending.get(name, ())) for run, its in record.runs.items()}
    held = sum(list(its.held.values()).count(name) for its in record.runs.values())
    assert queue.waiting == sum(waiting.values()) + held
    wanting = {
        run
        for run, its in record.runs.items()
        if its.fields["state"] == "running"
        and waiting[run]
        and len(its.in_flight) < its.number("max_parallel")
    }
    # One that waits for a budget has left, or tries once more.
    at_budget = {run for run, its in record.runs.items() if its.number("waits_for_budget")}
    assert wanting - at_budget <= queue.fair_queue <= wanting
    assert queue.is_waiting or not queue.fair_queue
