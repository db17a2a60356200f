"""The events of a run, with the steps that are wanted in their places."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.core.steps import StepKind, StepRecord
from clinvk.runs import step_reader
from clinvk.runs.client import StepsWanted
from clinvk.runs.event_reader import Beginning, EventReader
from clinvk.runs.run_reader import RunReader
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Hold, Lease

RUN = "r"


class FakeClient:
    """A client of nothing but a store."""

    is_private = False

    def __init__(self, store: Store) -> None:
        self.store = store

    def reaching_broker(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.fixture
def ended_run(store: Store) -> RunReader:
    """A run of two tasks that has ended; each has done three steps."""
    store.announce("w", {"slots": 9, "queues": ["clinvk.a"]})
    specs = [TaskSpec(backend="a", prompt=f"p{index}") for index in range(2)]
    store.submit(RUN, specs, RunOptions(max_parallel=9))
    for index in range(2):
        lease = Lease(RUN, index, 1)
        store.claim(lease, "w/1", "n")
        store.record_steps(RUN, [step(index, f"{index}{letter}") for letter in "abc"])
        store.finish(
            lease,
            TaskResult(index=index, status=TaskStatus.OK, exit_code=0, duration_seconds=0.1),
        )
    store.aggregate(RUN)
    return RunReader(RUN, 2, FakeClient(store))  # type: ignore[arg-type]


def step(index: int, text: str) -> StepRecord:
    return StepRecord(kind=StepKind.MESSAGE, text=text, index=index, attempt=1, time="")


def seen(run: RunReader, steps: StepsWanted) -> list[str]:
    events = EventReader(run, steps).events()
    return [event.step.text if event.step else event.kind for event in events]


def test_what_tasks_did_comes_before_their_ends(ended_run: RunReader) -> None:
    texts = [f"{index}{letter}" for index in range(2) for letter in "abc"]
    assert seen(ended_run, "all") == ["started", *texts, "finished", "started", "finished", "ended"]


def test_nobody_has_to_see_steps(ended_run: RunReader) -> None:
    assert seen(ended_run, "none") == ["started", "finished", "started", "finished", "ended"]


def test_a_display_does_without_the_early_ones(
    ended_run: RunReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_reader, "RECENT_STEPS", 2)
    assert [text for text in seen(ended_run, "recent") if len(text) == 2] == ["1b", "1c"]


def test_a_step_of_a_task_that_the_run_does_not_have_is_passed_over(
    store: Store, ended_run: RunReader
) -> None:
    name = next(key for key in store.redis.keys("*") if key.endswith(b":steps"))
    store.redis.hset(name, "1", b"1:" + step(7, "forged").to_wire())
    assert "forged" not in seen(ended_run, "all")
    assert "0b" in seen(ended_run, "all")


@pytest.mark.parametrize(
    "forged",
    [
        {"kind": "started"},
        {"kind": "started", "index": "0", "dispatch": "x"},
        {"kind": "finished", "index": "x", "dispatch": "1"},
        {"kind": "finished", "index": "-1", "dispatch": "1"},
        {"kind": "finished", "index": "2", "dispatch": "1"},
        {"kind": "finished", "index": "9" * 5000, "dispatch": "1"},
        {"kind": "lost", "index": "x"},
        {"kind": "held", "index": "x", "dispatch": "1"},
        {"kind": "held", "index": "7", "dispatch": "1"},
        {"no kind": "x"},
    ],
)
def test_events_that_a_run_cannot_have_are_passed_over(
    ended_run: RunReader, forged: dict[str, str]
) -> None:
    before = seen(ended_run, "none")
    redis = ended_run.client.store.redis
    entries = redis.xrange(key("events", RUN))
    redis.delete(key("events", RUN))
    for fields in (forged, *(fields for _, fields in entries)):
        redis.xadd(key("events", RUN), fields)
    redis.expire(key("events", RUN), 60)
    assert seen(ended_run, "none") == before


def test_a_task_that_was_put_back_is_told_and_what_it_waits_for(store: Store) -> None:
    store.announce("w", {"slots": 9, "queues": ["clinvk.a"]})
    store.submit(RUN, [TaskSpec(backend="a", prompt="p")] * 3, RunOptions(max_parallel=1))
    store.claim(Lease(RUN, 0, 1), "w/1", "n")
    reset_ms = store.server_time_ms() + 3_600_000
    store.hold(Lease(RUN, 0, 1), Hold(signal="window", retry_at_ms=reset_ms, kind="usage_limit"))
    run = RunReader(RUN, 3, FakeClient(store))  # type: ignore[arg-type]
    events = EventReader(run).events()
    started, held, waits = (next(events) for _ in range(3))
    assert (started.kind, held.kind, held.index, waits.kind) == ("started", "held", 0, "waits")
    (wait,) = waits.waits
    assert (wait.name, wait.kind, wait.waiting) == ("a", "usage_limit", 3)
    store.cancel(RUN, "enough")
    store.aggregate(RUN)
    assert [event.kind for event in events] == ["finished"] * 3 + ["ended"]


def finish(store: Store, index: int, dispatch: int, output: str) -> None:
    lease = Lease(RUN, index, dispatch)
    store.claim(lease, "w/1", output)
    result = TaskResult(
        index=index, status=TaskStatus.OK, exit_code=0, duration_seconds=0.1, output=output
    )
    assert store.finish(lease, result).ok


def told(run: RunReader, beginning: Beginning | None = None) -> list[str]:
    """The events of a run, each with its index and the output of its result."""
    return [
        f"{event.kind} {event.index} {event.result.output or '' if event.result else ''}".rstrip()
        for event in EventReader(run, "none", beginning).events()
    ]


class TestRetries:
    def test_who_comes_later_sees_only_the_last_execution(self, ended_run: RunReader) -> None:
        store = ended_run.client.store
        store.retry(RUN, {1: None}, 0)
        finish(store, 1, 2, "new")
        store.aggregate(RUN)
        ended_run.was_retried = True
        assert told(ended_run) == [
            "started 0",
            "finished 0",
            "started 1",
            "finished 1 new",
            "ended -1",
        ]

    def test_who_is_there_sees_that_a_task_runs_again(self, ended_run: RunReader) -> None:
        store = ended_run.client.store
        events = EventReader(ended_run).events()
        kinds = [next(events).kind for _ in range(4)]
        store.retry(RUN, {1: None}, 0)
        finish(store, 1, 2, "new")
        store.aggregate(RUN)
        kinds += [event.kind for event in events]
        once = ["started", "finished"]
        assert kinds == [*once, *once, "retried", *once, "ended"]

    def test_who_retried_sees_that_and_knows_the_others(self, ended_run: RunReader) -> None:
        store = ended_run.client.store
        retried = store.retry(RUN, {1: None}, 0)
        finish(store, 1, 2, "new")
        store.aggregate(RUN)
        beginning = Beginning(indexes={1}, position=retried.position, steps_position=6)
        assert told(ended_run, beginning) == ["known 0", "started 1", "finished 1 new", "ended -1"]

    def test_a_result_that_is_given_back_is_told_at_the_end(self, ended_run: RunReader) -> None:
        store = ended_run.client.store
        retried = store.retry(RUN, {0: None, 1: None}, 0)
        finish(store, 1, 2, "new")
        store.cancel(RUN, "interrupted")
        store.aggregate(RUN)
        beginning = Beginning(indexes={0, 1}, position=retried.position, steps_position=6)
        told_ = told(ended_run, beginning)
        assert told_ == ["started 1", "finished 1 new", "finished 0", "ended -1"]

    @pytest.mark.parametrize("index", ["x", "", "-1", "2"])
    def test_a_forged_retry_is_passed_over(self, ended_run: RunReader, index: str) -> None:
        store = ended_run.client.store
        store.redis.xadd(key("events", RUN), {"kind": "retried", "index": index})
        store.redis.expire(key("events", RUN), 60)
        assert told(ended_run)[-1] == "ended -1"
