"""Users who may only ask: what workers do for them, and what they do not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Hold, Lease
from tests import harness
from tests.unit.store.test_store import RUN

TICKET = "0123456789abcdef" * 2


def specs(backends: str) -> list[TaskSpec]:
    return [TaskSpec(backend=name, prompt="p") for name in backends.split()]


def template(run: str) -> str:
    return f"message of {run}"


def asking(store: Store, name: str = "alice") -> Store:
    """A client of the same server whose user may only ask."""
    client = Store(store.redis)
    client.submitter = name
    return client


@contextmanager
def serving(store: Store) -> Iterator[None]:
    """A worker does what is asked."""
    is_over = threading.Event()

    def serve() -> None:
        while not is_over.wait(0.005):
            store.serve(template)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.fixture(autouse=True)
def served(store: Store) -> None:
    """A worker has served these queues once; it is gone."""
    for queue in ("clinvk.a", "clinvk.b"):
        store.announce("w", {"slots": 1, "queues": [queue]})
    store.drain("w")


def ask(store: Store, operation: str, submitter: str = "alice", **arguments: Any) -> Any:
    """Ask without a client's own checks, be served, and return what was answered."""
    store.redis.sadd(key("submitters"), submitter)
    store.redis.pexpire(key("submitters"), 60_000)
    fields = {"operation": operation, "arguments": json.dumps(arguments), "ticket": TICKET}
    store.redis.xadd(key("requests", submitter), fields)
    store.redis.pexpire(key("requests", submitter), 60_000)
    store.serve(template)
    ((_, answer),) = store.redis.xrange(key("answer", submitter, TICKET))
    store.redis.delete(key("answer", submitter, TICKET))
    return json.loads(answer[b"answer"])


def test_a_run_that_was_asked_for_is_opened_by_a_worker(store: Store) -> None:
    store.announce("w", {"slots": 1, "queues": ["clinvk.a"]})
    with serving(store):
        submitted = asking(store).submit(RUN, specs("a a"), RunOptions(), message="forged")
    assert submitted.run == RUN
    assert [each.index for each in submitted.admission.dispatched] == [0]
    assert store.redis.lrange("clinvk.a", 0, -1) == [b"message of " + RUN.encode()]
    assert store.redis.keys("clinvk:submission:*") == []
    assert store.redis.xlen(key("requests", "alice")) == 0


def test_who_submitted_a_run_may_cancel_it_and_others_may_not(store: Store) -> None:
    with serving(store):
        asking(store).submit(RUN, specs("a a"), RunOptions())
        with pytest.raises(redis.ResponseError, match=f"run {RUN} is not one of bob's"):
            asking(store, "bob").cancel(RUN, "interrupted")
        assert asking(store).cancel(RUN, "interrupted").unpublished == 2
        assert asking(store).aggregate(RUN)
    summary = store.summary(RUN)
    assert summary is not None
    assert (summary.state, summary.cancel_reason) == ("done", "interrupted")


def test_a_run_of_somebody_who_may_act_is_not_canceled_by_who_may_only_ask(store: Store) -> None:
    store.submit(RUN, specs("a"), RunOptions())
    answer = ask(store, "cancel", run=RUN, reason="x")
    assert answer == {"error": f"run {RUN} is not one of alice's, who may cancel only those"}


def test_a_key_of_a_run_is_the_submitters_own(store: Store) -> None:
    with serving(store):
        first = asking(store).submit(RUN, specs("a"), RunOptions(), "nightly", "00")
        again = asking(store).submit(RUN + "1", specs("a"), RunOptions(), "nightly", "00")
        other = asking(store, "bob").submit(RUN + "2", specs("a"), RunOptions(), "nightly", "00")
    assert (first.run, again.run, other.run) == (RUN, RUN, RUN + "2")
    assert asking(store).submitted("nightly") == (RUN, "00")
    assert asking(store, "bob").submitted("nightly") == (RUN + "2", "00")


def test_limits_may_be_asked_for(store: Store) -> None:
    with serving(store):
        asking(store).limit("clinvk.a", max_concurrency=2, rate="5/min", interval_ms=12000.0)
        asking(store).admit()
    (queue, _) = store.queues()
    assert (queue.name, queue.max_concurrency, queue.rate) == ("clinvk.a", 2, "5/min")


def test_a_queue_may_be_closed_until_a_time_and_opened_again(store: Store) -> None:
    with serving(store):
        asking(store).limit("clinvk.a", paused=1, paused_until=4_000_000_000_000)
        (queue, _) = store.queues()
        assert (queue.is_paused_now, queue.paused_until_ms) == (True, 4_000_000_000_000)
        asking(store).limit("clinvk.a", paused=None, paused_until=None)
        asking(store).reopen("clinvk.a")
    (queue, _) = store.queues()
    assert (queue.is_paused_now, queue.paused_until_ms, queue.gate) == (False, None, None)


def test_a_task_for_several_backends_waits_in_a_queue_of_its_own(store: Store) -> None:
    several = TaskSpec(backend="a", prompt="x", alternatives=["b"])
    with serving(store):
        assert asking(store).submit(RUN, [several], RunOptions()).run == RUN
        several = TaskSpec(backend="a", prompt="x", alternatives=["neverserved"])
        with pytest.raises(redis.ResponseError, match=r"no worker has ever served clinvk\.nev"):
            asking(store).submit(f"{RUN}1", [several], RunOptions())


def test_a_fallback_that_no_worker_has_ever_served_is_left_out(store: Store) -> None:
    store.announce("w", {"slots": 1, "queues": ["clinvk.a"]})
    elsewhere = TaskSpec(backend="a", prompt="x", fallback=["neverserved", "b"])
    with serving(store):
        asking(store).submit(RUN, [elsewhere], RunOptions())
    lease = Lease(RUN, 0, 1)
    assert store.claim(lease, "w/1", "n").verdict == "go"
    routes = [("clinvk.neverserved", ""), ("clinvk.b", "")]
    assert store.hold(lease, Hold(delay_ms=None, routes=routes)).queue == "clinvk.b"
    assert "clinvk.neverserved" not in {queue.name for queue in store.queues()}


def test_the_name_is_the_streams_not_what_a_request_says(store: Store) -> None:
    with serving(store):
        asking(store, "bob").submit(RUN, specs("a"), RunOptions())
    assert "error" in ask(store, "cancel", run=RUN, reason="x", submitter="alice")


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("finish", {"run": RUN, "index": 0, "dispatch": 1, "status": "ok", "result": "{}"}),
        ("announce", {}),
        ("", {}),
        ("open", {}),
        ("open", {"run": "x:y", "once_key": "", "digest": ""}),
        ("open", {"run": RUN, "once_key": "", "digest": "x"}),
        ("open", {"run": "20260102-030405-abcdef02", "once_key": "bob:k", "digest": ""}),
        ("limit", {"queue": "clinvk.a", "pairs": ["interval_ms", "..."]}),
        ("limit", {"queue": "clinvk.a", "pairs": ["max_concurrency", "\u0663"]}),
        ("cancel", {"run": "*", "reason": "x"}),
        ("limit", {"queue": "clinvk:run:x", "pairs": []}),
        ("limit", {"queue": "clinvk.a", "pairs": ["turn", 5]}),
        ("limit", {"queue": "clinvk.a", "pairs": ["max_concurrency", "x"]}),
        ("limit", {"queue": "clinvk.a", "pairs": ["paused"]}),
        ("limit", {"queue": "clinvk.a", "pairs": None}),
        ("limit", {"queue": "clinvk.neverserved", "pairs": []}),
        ("reopen", {"queue": "clinvk.neverserved"}),
    ],
)
def test_nothing_else_may_be_asked_for(
    store: Store, operation: str, arguments: dict[str, Any]
) -> None:
    store.submit(RUN, specs("a"), RunOptions())
    before = store.redis.hgetall(key("run", RUN))
    assert "error" in ask(store, operation, **arguments)
    assert store.redis.hgetall(key("run", RUN)) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"x": "y"},
        {"operation": "admit", "arguments": "{}", "ticket": "../x"},
        {"operation": "admit", "arguments": "{}", "ticket": TICKET + ":x"},
        {b"\xff": b"\xff"},
        {"operation": "admit", "arguments": " " * (1 << 17), "ticket": TICKET},
    ],
)
def test_what_cannot_be_answered_is_dropped(store: Store, fields: dict[Any, Any]) -> None:
    store.redis.sadd(key("submitters"), b"\xff", "alice")
    store.redis.pexpire(key("submitters"), 60_000)
    store.redis.xadd(key("requests", "alice"), fields)
    store.redis.pexpire(key("requests", "alice"), 60_000)
    store.serve(template)
    assert store.redis.xlen(key("requests", "alice")) == 0
    assert store.redis.keys("clinvk:answer:*") == []


def test_whoever_floods_workers_with_requests_does_not_keep_them_from_their_leases(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinvk.store.requests.MAX_REQUESTS", 3)
    monkeypatch.setattr("clinvk.store.requests.MAX_SUBMITTERS", 2)
    names = ("alice", "bob", "carol")
    for submitter in names:
        store.redis.sadd(key("submitters"), submitter)
        for _ in range(4):
            store.redis.xadd(key("requests", submitter), {"x": "y"})
        store.redis.pexpire(key("requests", submitter), 60_000)
    store.redis.pexpire(key("submitters"), 60_000)

    def waiting() -> int:
        return sum(store.redis.xlen(key("requests", name)) for name in names)

    store.serve(template)
    assert waiting() == 9
    for _ in range(100):  # which two users come next is chance
        store.serve(template)
    assert waiting() == 0


@pytest.mark.parametrize("arguments", ["", "[]", "null", "[" * 50_000, '{"run": {}}'])
def test_arguments_that_cannot_be_read_are_answered(store: Store, arguments: str) -> None:
    store.redis.sadd(key("submitters"), "alice")
    store.redis.pexpire(key("submitters"), 60_000)
    store.redis.xadd(
        key("requests", "alice"), {"operation": "cancel", "arguments": arguments, "ticket": TICKET}
    )
    store.redis.pexpire(key("requests", "alice"), 60_000)
    store.serve(template)
    ((_, answer),) = store.redis.xrange(key("answer", "alice", TICKET))
    assert "the arguments of cancel do not fit" in json.loads(answer[b"answer"])["error"]


def damage(field: str, value: str) -> Callable[[Store, str], None]:
    return lambda store, submission: store.redis.hset(key("submission", submission), field, value)


@pytest.mark.parametrize(
    "forge",
    [
        damage("queues", '["clinvk:run:x:results"]'),
        damage("queues", '["clinvk.a", "_kombu.binding.x"]'),
        damage("queues", '[["clinvk.a"]]'),
        damage("queues", "no JSON"),
        damage("queues", '["clinvk.neverserved"]'),
        damage("queues", json.dumps(["clinvk.a"] * 1001)),
        damage("steps", json.dumps(["clinvk.a"] * 3)),
        damage("steps", '["celery.pidbox"]'),
        damage("total", "3"),
        damage("total", "-1"),
        damage("lifetime_ms", "1e300"),
        damage("lifetime_ms", "nan"),
        damage("priority", "x"),
        damage("max_parallel", "0x"),
        damage("created_ms", "inf"),
    ],
)
def test_a_forged_submission_becomes_no_run(
    store: Store, forge: Callable[[Store, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Store._record_run

    def forging(self: Store, submission: str, *arguments: Any) -> None:
        record(self, submission, *arguments)
        forge(self, submission)

    monkeypatch.setattr(Store, "_record_run", forging)
    with serving(store), pytest.raises(redis.ResponseError):
        asking(store).submit(RUN, specs("a a"), RunOptions())
    assert store.summary(RUN) is None
    assert store.redis.keys("clinvk:run:*") == []
    assert store.redis.keys("clinvk:queue:*") == []


def test_a_request_whose_answer_was_lost_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinvk.store.requests.REPEAT_SECONDS", 0.0)
    monkeypatch.setattr("clinvk.store.requests.BLOCK_MS", 10)
    stream = key("requests", "alice")
    done = threading.Thread(target=lambda: asking(store).limit("clinvk.a", max_concurrency=2))
    done.start()
    # A worker takes it and dies.
    ((position, _),) = harness.wait_until(lambda: store.redis.xrange(stream), "the request")
    store.redis.xdel(stream, position)
    harness.wait_until(lambda: store.redis.xrange(stream), "the same request again")
    store.serve(template)
    done.join()
    (queue, _) = store.queues()
    assert queue.max_concurrency == 2


def test_without_a_worker_a_request_ends_with_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("clinvk.store.requests.ANSWER_SECONDS", 0.05)
    monkeypatch.setattr("clinvk.store.requests.SAY_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("clinvk.store.requests.BLOCK_MS", 10)
    with pytest.raises(redis.TimeoutError, match="the user alice may only ask: start a worker"):
        asking(store).limit("clinvk.a", max_concurrency=2)
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for a worker, since the user alice may only ask"
    ]


def test_who_submitted_a_run_may_retry_it_and_others_may_not(store: Store) -> None:
    with serving(store):
        asking(store).submit(RUN, specs("a a"), RunOptions())
        asking(store).cancel(RUN, "interrupted")
        asking(store).aggregate(RUN)
        with pytest.raises(redis.ResponseError, match="not one of bob's, who may retry only those"):
            asking(store, "bob").retry(RUN, {0: None}, 0)
        changed = TaskSpec(backend="b", prompt="new")
        assert asking(store).retry(RUN, {0: changed}, 0).verdict == "retried"
    assert store.specs(RUN, [0]) == [changed]
    summary = store.summary(RUN)
    assert summary is not None
    assert (summary.state, summary.canceled, summary.retries) == ("running", 1, 1)


def test_a_retry_through_a_request_uses_known_queues(store: Store) -> None:
    with serving(store):
        asking(store).submit(RUN, specs("a"), RunOptions())
        asking(store).cancel(RUN, "interrupted")
        asking(store).aggregate(RUN)
        with pytest.raises(redis.ResponseError, match=r"no worker has ever served clinvk\.c"):
            asking(store).retry(RUN, {0: TaskSpec(backend="c", prompt="p")}, 0)
