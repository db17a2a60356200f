"""Steps on their way to the store: in few calls, in order, none twice, and no task waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
import redis

from clinvk.core.steps import Step, StepKind, StepRecord
from clinvk.store.steps import MAX_BYTES, MAX_STEPS
from clinvk.store.types import Lease
from tests.harness import wait_until
from workers import step_publisher
from workers.observers import CommandEnded, TaskStep
from workers.step_publisher import StepPublisher

FIRST, SECOND = Lease("run", 0, 1), Lease("run", 1, 3)


class FakeStore:
    """A store that notes its calls, and can be away or slow."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], Mapping[int, int], str | None]] = []
        self.records: list[StepRecord] = []
        self.error: Exception | None = None
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def record_steps(
        self,
        run: str,
        records: Sequence[StepRecord],
        dropped: Mapping[int, int] | None = None,
        nonce: str | None = None,
    ) -> int:
        self.asked.set()
        self.may_answer.wait()
        texts = [record.text for record in records]
        self.calls.append((run, texts, dict(dropped or {}), nonce))
        if self.error is not None:
            raise self.error
        self.records += records
        return len(records)

    def texts(self) -> list[str]:
        return [record.text for record in self.records]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def publisher(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> StepPublisher:
    monkeypatch.setattr(step_publisher, "RETRY_SECONDS", 0.01)
    return StepPublisher(store)  # type: ignore[arg-type]


def step(text: str, lease: Lease = FIRST, raw: str | None = None) -> TaskStep:
    return TaskStep(lease, 2, Step(kind=StepKind.MESSAGE, text=text), raw)


@contextmanager
def asking(store: FakeStore, publisher: StepPublisher) -> Iterator[None]:
    """Have the publisher's thread wait for the store's answer."""
    store.may_answer.clear()
    publisher.saw(step("before"))
    wait_until(store.asked.is_set, "the thread to ask")
    yield
    store.may_answer.set()


def test_a_step_is_recorded_while_its_task_runs(store: FakeStore, publisher: StepPublisher) -> None:
    publisher.saw(step("hello", raw="{}"))
    (record,) = wait_until(lambda: store.records, "the step")
    assert (record.index, record.attempt, record.text, record.raw) == (0, 2, "hello", "{}")
    assert record.time.endswith("Z")


def test_what_comes_meanwhile_goes_in_one_call_for_each_run(
    store: FakeStore, publisher: StepPublisher
) -> None:
    other = Lease("other", 0, 1)
    with asking(store, publisher):
        for number in range(3):
            for lease in (FIRST, SECOND, other):
                publisher.saw(step(f"{lease.run}{lease.index} {number}", lease))
    wait_until(lambda: len(store.records) == 10, "all steps")
    assert [(run, sorted(texts)) for run, texts, _, _ in store.calls] == [
        ("run", ["before"]),
        ("run", ["run0 0", "run0 1", "run0 2", "run1 0", "run1 1", "run1 2"]),
        ("other", ["other0 0", "other0 1", "other0 2"]),
    ]


def test_the_steps_of_a_task_are_recorded_when_its_command_has_ended(
    store: FakeStore, publisher: StepPublisher
) -> None:
    for lease in (FIRST, SECOND):
        for number in range(5):
            publisher.saw(step(f"{lease.index} {number}", lease))
        publisher.saw(CommandEnded(lease))
        assert [t for t in store.texts() if t[0] == str(lease.index)] == [
            f"{lease.index} {number}" for number in range(5)
        ]


def test_a_task_that_ends_while_its_steps_are_being_recorded_waits_for_that(
    store: FakeStore, publisher: StepPublisher
) -> None:
    ended = threading.Event()

    def end() -> None:
        publisher.saw(CommandEnded(FIRST))
        ended.set()

    with asking(store, publisher):
        thread = threading.Thread(target=end)
        thread.start()
        assert store.records == []
        assert not ended.is_set()
    thread.join()
    assert store.texts() == ["before"]


def test_a_task_without_steps_does_not_wait_for_those_of_others(
    store: FakeStore, publisher: StepPublisher
) -> None:
    with asking(store, publisher):
        publisher.saw(CommandEnded(SECOND))  # returns
        assert store.calls == []


def test_while_redis_is_away_steps_wait_and_tasks_do_not(
    store: FakeStore, publisher: StepPublisher
) -> None:
    store.error = redis.ConnectionError("gone")
    publisher.saw(step("one"))
    wait_until(lambda: len(store.calls) > 1, "a second try")
    publisher.saw(step("two"))
    publisher.saw(step("of another", SECOND))
    publisher.saw(CommandEnded(SECOND))
    store.error = None
    wait_until(lambda: len(store.records) == 3, "all steps")
    assert store.texts() == ["one", "two", "of another"]
    nonces = {nonce for _, texts, _, nonce in store.calls if texts == ["one"]}
    assert len(nonces) == 1  # so the store knows the second try for what it is


@pytest.mark.parametrize(("count", "raw"), [(MAX_STEPS + 7, ""), (20, "x" * (MAX_BYTES // 10))])
def test_of_what_waits_too_long_the_oldest_is_dropped_and_counted(
    store: FakeStore, publisher: StepPublisher, count: int, raw: str
) -> None:
    with asking(store, publisher):
        for number in range(count):
            publisher.saw(step(str(number), raw=raw))
    wait_until(lambda: str(count - 1) in store.texts(), "the last step")
    _, texts, dropped, _ = store.calls[-1]
    assert texts == [str(number) for number in range(count - len(texts), count)]
    assert dropped == {0: count - len(texts)}
    assert 0 < len(texts) <= MAX_STEPS
    assert sum(len(record.raw or "") for record in store.records) <= MAX_BYTES


def test_what_redis_refuses_is_logged_once_and_dropped(
    store: FakeStore, publisher: StepPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = redis.ResponseError("no such task")
    for number in range(3):
        publisher.saw(step(str(number)))
        publisher.saw(CommandEnded(FIRST))
    store.error = None
    publisher.saw(step("after"))
    publisher.saw(CommandEnded(FIRST))
    assert store.texts() == ["after"]
    assert [record.getMessage() for record in caplog.records] == [
        "recording steps of run run: ResponseError: no such task"
    ]


def test_a_bug_costs_steps_and_not_the_thread(
    store: FakeStore, publisher: StepPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = KeyError("a bug")
    publisher.saw(step("one"))
    wait_until(lambda: store.calls, "the call that fails")
    store.error = None
    publisher.saw(step("two"))
    wait_until(lambda: store.texts() == ["two"], "the next step")
    assert "recording steps of run run: KeyError: 'a bug'" in caplog.text


def test_many_steps_go_in_several_calls(
    store: FakeStore, publisher: StepPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_publisher, "CALL_STEPS", 4)
    with asking(store, publisher):
        for index in range(5):
            for number in range(3):
                publisher.saw(step(f"{index} {number}", Lease("run", index, 1)))
    wait_until(lambda: len(store.records) == 16, "all steps")
    assert [len(texts) for _, texts, _, _ in store.calls] == [1, 6, 6, 3]
