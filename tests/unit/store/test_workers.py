"""Tasks of runs that require something of their workers: who gets them, and who does not."""

from __future__ import annotations

import json
import secrets
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import redis

from clinvk.core.requirements import Requirements
from clinvk.core.spec import RunOptions, TaskSpec
from clinvk.store.failure_detector import Server
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Hold, Lease
from tests.unit.store.test_store import result

A, B = "clinvk.a", "clinvk.b"
GPU = {"tags": ["gpu"]}
NEW = {"a": ">=2.1.150"}


def worker(
    store: Store, name: str, *tags: str, version: str = "2.1.140 (A)", slots: int = 1, **more: Any
) -> None:
    entry: dict[str, Any] = {"slots": slots, "queues": [A, B], "owner": f"{name}/1", "tags": tags}
    store.announce(name, entry | {"clis": {"a": version}} | more)


def submit(
    store: Store,
    requires: dict[str, Any],
    *specs: TaskSpec,
    run: str = "r",
    **options: Any,
) -> None:
    tasks = specs or (TaskSpec(backend="a", prompt="x"),)
    submitted = RunOptions(requires=Requirements.of(requires), **options)
    store.submit(run, tasks, submitted, message='"@LEASE@"')


def taken(store: Store, name: str) -> list[Lease]:
    """Take all messages that are in the own queue of a worker, or in one that all take from."""
    found = []
    while (message := store.redis.rpop(name if name in {A, B} else f"clinvk.@{name}")) is not None:
        found.append(Lease.parse(json.loads(message)))
    return found


def claim(store: Store, lease: Lease, owner: str) -> str:
    return store.claim(lease, owner, secrets.token_hex(4)).verdict


def reason(store: Store, run: str = "r") -> list[str]:
    found = store.explain(run)
    assert found is not None
    return [pending.reason for pending in found.pending]


@pytest.mark.parametrize("requires", [GPU, NEW, GPU | NEW])
def test_a_task_goes_to_the_worker_that_has_what_is_required(
    store: Store, requires: dict[str, Any]
) -> None:
    worker(store, "plain", slots=9)
    submit(store, requires)
    assert reason(store) == ["unmet"]
    worker(store, "able", "gpu", "fast", version="2.1.197 (A)")
    (lease,) = taken(store, "able")
    assert taken(store, "plain") == taken(store, A) == []
    assert claim(store, lease, "able/1") == "go"
    explained = store.explain("r")
    assert explained is not None
    assert (explained.running, explained.requires) == ({"able": 1}, Requirements.of(requires))
    summary = store.summary("r")
    assert summary is not None
    assert summary.requires == requires


def test_a_worker_gets_no_more_than_it_has_slots_for_and_others_are_not_held_up(
    store: Store,
) -> None:
    worker(store, "able", "gpu", slots=2)
    worker(store, "plain", slots=1)
    task = TaskSpec(backend="a", prompt="x")
    submit(store, GPU, *[task] * 4, max_parallel=9)
    first, second = taken(store, "able")
    assert [claim(store, lease, "able/1") for lease in (first, second)] == ["go", "go"]
    assert reason(store) == ["occupied"]
    submit(store, {}, task, task, run="any")
    assert [lease.run for lease in taken(store, A)] == ["any"]  # it has no turn, but a slot
    store.finish(first, result(0))
    assert [lease.index for lease in taken(store, "able")] == [2]  # it kept its turn
    assert taken(store, A) == []


def test_of_several_workers_the_one_with_most_free_slots_is_chosen(store: Store) -> None:
    worker(store, "small", "gpu", slots=2)
    worker(store, "large", "gpu", slots=4)
    submit(store, GPU, *[TaskSpec(backend="a", prompt="x")] * 5, max_parallel=9)
    assert (len(taken(store, "small")), len(taken(store, "large"))) in {(1, 4), (2, 3)}


def test_a_worker_of_another_version_by_now_puts_a_task_back(store: Store) -> None:
    worker(store, "w", version="2.1.197")
    submit(store, NEW)
    (lease,) = taken(store, "w")
    assert claim(store, lease, "w/2") == "unmet"  # it has not announced itself yet
    assert claim(store, lease, "w/2") == "stale"
    worker(store, "w", version="2.1.140", owner="w/2")
    assert reason(store) == ["unmet"]
    worker(store, "w", version="2.1.198", owner="w/2")
    (lease,) = taken(store, "w")
    assert lease.dispatch == 2
    assert claim(store, lease, "w/2") == "go"


def test_a_worker_that_does_not_name_its_owner_is_of_a_version_that_would_not_look(
    store: Store,
) -> None:
    worker(store, "old", "gpu", owner=None)
    submit(store, GPU)
    assert reason(store) == ["unmet"]


def test_what_a_dead_worker_had_goes_to_another_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "server", lambda _: Server("server", 1, None))
    worker(store, "first", "gpu", slots=2)
    submit(store, GPU, *[TaskSpec(backend="a", prompt="x")] * 2)
    running, unclaimed = taken(store, "first")
    assert claim(store, running, "first/1") == "go"
    worker(store, "second", "gpu", slots=2)
    store.release("first/1")
    assert list(store.workers()) == ["second"]
    store.reap()
    again = taken(store, "second")
    assert sorted((lease.index, lease.dispatch) for lease in again) == [(0, 2), (1, 2)]
    assert [store.claim(lease, "second/1", "n").attempts for lease in again] in ([1, 2], [2, 1])
    assert claim(store, unclaimed, "first/2") == "stale"


def test_a_process_that_is_gone_withdraws_nobody_else(store: Store) -> None:
    worker(store, "w", "gpu", owner="w/2")
    store.release("w/1")
    assert list(store.workers()) == ["w"]


def test_a_requirement_of_one_backend_holds_for_that_backend(store: Store) -> None:
    worker(store, "w", slots=2)
    mixed = TaskSpec(backend="a", prompt="x", alternatives=["b"])
    other = TaskSpec(backend="b", prompt="x")
    own = TaskSpec(backend="a", prompt="x")
    submit(store, NEW, own, mixed, other)
    found = taken(store, "w")
    assert [lease.index for lease in found] == [1, 2]
    assert [store.claim(lease, "w/1", "n").queue for lease in found] == [B, B]
    assert reason(store) == ["unmet"]


def test_a_fallback_is_taken_only_where_a_worker_has_what_it_requires(store: Store) -> None:
    worker(store, "w")
    spec = TaskSpec(backend="b", prompt="x", fallback=["a"])
    submit(store, {"a": ">=3"}, spec)
    (lease,) = taken(store, "w")
    assert claim(store, lease, "w/1") == "go"
    elsewhere = Hold(delay_ms=None, max_wait_ms=0, routes=[(A, "")])
    worker(store, "new", version="3.0")
    assert store.hold(lease, elsewhere).queue == A
    (lease,) = taken(store, "new")
    assert claim(store, lease, "new/1") == "go"


def test_a_session_goes_on_at_its_worker_unless_that_is_another_version_now(store: Store) -> None:
    worker(store, "w", version="2.1.197")
    worker(store, "other", version="2.1.197", slots=9)
    submit(store, NEW | {"tags": []}, TaskSpec(backend="a", prompt="x"))
    (lease,) = taken(store, "other")
    assert claim(store, lease, "other/1") == "go"
    assert store.hold(lease, Hold(pinned="other")).verdict == "held"
    (lease,) = taken(store, "other")
    assert claim(store, lease, "other/1") == "go"
    worker(store, "other", version="2.1.1", slots=9)
    assert store.hold(lease, Hold(pinned="other")).verdict == "held"
    assert taken(store, "other") == taken(store, "w") == []  # it may be restarted just now
    assert reason(store) == ["held"]


def test_a_retry_keeps_what_is_required(store: Store) -> None:
    worker(store, "able", "gpu")
    submit(store, GPU)
    (lease,) = taken(store, "able")
    assert claim(store, lease, "able/1") == "go"
    assert store.finish(lease, result(0)).is_last
    store.aggregate("r")
    worker(store, "plain", slots=9)
    assert store.retry("r", {0: None}, 0).verdict == "retried"
    assert [lease.dispatch for lease in taken(store, "able")] == [2]


@pytest.mark.parametrize(
    "forged",
    [
        '{"a": 1}',
        '{"a": "2.1"}',
        '{"a": ">=2..*"}',
        '{"a": "=>2"}',
        '{"x:y": ">=2"}',
        '{"tags": "gpu"}',
        '{"tags": [1]}',
        '[">=2"]',
        '"x"',
        "{",
    ],
)
def test_what_a_submitter_forges_is_refused(store: Store, forged: str) -> None:
    hset = store.redis.hset

    def forging(name: str, *args: Any, mapping: dict[str, Any], **options: Any) -> Any:
        return hset(name, *args, mapping=mapping | {"requires": forged}, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.redis, "hset", forging)
        with pytest.raises(redis.ResponseError):
            submit(store, {})
    assert store.summary("r") is None
    assert store.redis.exists(key("run", "r")) == 0


NUMBERS = st.lists(st.integers(0, 3), min_size=2, max_size=4).map(lambda n: ".".join(map(str, n)))
SAID = st.tuples(
    st.sampled_from(["", "cli ", "v"]), NUMBERS, st.sampled_from(["", "-rc.1", " (x)"])
)
PARTS = st.one_of(
    st.tuples(st.sampled_from(["~=", "==", "!=", ">=", "<=", ">", "<"]), NUMBERS),
    st.tuples(st.sampled_from(["==", "!="]), NUMBERS.map(lambda text: f"{text}.*")),
    st.tuples(st.sampled_from(["==", ">=", "<"]), st.sampled_from(["1", "2"])),
)
RANGES = st.lists(PARTS.map("".join), min_size=1, max_size=2).map(",".join)


@hypothesis.settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(said=SAID.map("".join), text=RANGES)
def test_scripts_and_clients_agree_which_versions_are_in_a_range(
    store: Store, said: str, text: str
) -> None:
    requirements = Requirements.of({"a": text})
    run = secrets.token_hex(8)
    worker(store, "w", version=said, slots=99999)
    submit(store, {"a": text}, run=run)
    is_met = requirements.are_met("a", {"clis": {"a": said}})
    assert len(taken(store, "w")) == is_met
    store.cancel(run, "canceled")
