"""Steps in the store: one order for a run, bounds for each task, the lifetime of the run."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from clinvk.core.spec import RunOptions, TaskSpec, Usage
from clinvk.core.steps import StepKind, StepRecord
from clinvk.store import steps
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import StepsPage

RUN = "20260102-030405-abcdef01"
TIME = "2026-01-02T03:04:05.000Z"


def submit(store: Store, tasks: int = 3) -> None:
    specs = [TaskSpec(backend="a", prompt=f"p{i}") for i in range(tasks)]
    store.submit(RUN, specs, RunOptions())


def step(index: int, text: str, **more: Any) -> StepRecord:
    fields: dict[str, Any] = {"kind": StepKind.MESSAGE, "attempt": 1, "time": TIME} | more
    return StepRecord(index=index, text=text, **fields)


def read(store: Store, after: int = 0, index: int | None = None) -> list[tuple[int, int, int, str]]:
    """Sequence, task, number and text of all steps after a sequence, page by page."""
    found, has_more = [], True
    while has_more:
        page = store.steps_since(RUN, after, index, count=7)
        found += [(each.sequence, each.index, each.number, each.text) for each in page.records]
        after, has_more = page.position, page.has_more
    return found


def test_steps_of_several_tasks_have_one_order(store: Store) -> None:
    submit(store)
    assert store.record_steps(RUN, [step(0, "a"), step(2, "b"), step(0, "c")]) == 3
    assert store.record_steps(RUN, [step(2, "d")]) == 1
    assert read(store) == [(1, 0, 1, "a"), (2, 2, 1, "b"), (3, 0, 2, "c"), (4, 2, 2, "d")]
    assert read(store, after=2) == [(3, 0, 2, "c"), (4, 2, 2, "d")]
    assert read(store, index=2) == [(2, 2, 1, "b"), (4, 2, 2, "d")]
    assert read(store, after=2, index=2) == [(4, 2, 2, "d")]
    assert read(store, index=1) == []


def test_a_step_comes_back_as_it_was(store: Store) -> None:
    submit(store)
    usage = Usage(input_tokens=1, output_tokens=2, total_tokens=3)
    record = step(1, "é", kind=StepKind.USAGE, usage=usage, raw='{"type": "x"}', attempt=2)
    store.record_steps(RUN, [record])
    (found,) = store.steps_since(RUN, 0).records
    assert (found.sequence, found.number) == (1, 1)
    assert (found.usage, found.raw, found.attempt, found.text) == (usage, '{"type": "x"}', 2, "é")


def test_a_follower_that_is_up_to_date_gets_nothing_and_stays_where_it_is(store: Store) -> None:
    submit(store)
    assert store.steps_since(RUN, 0) == StepsPage([], 0, False)
    store.record_steps(RUN, [step(0, "a")])
    for index in (None, 0, 1):
        page = store.steps_since(RUN, 1, index)
        assert (page.records, page.position, page.has_more) == ([], 1, False)
    assert store.steps_since(RUN, 0, 1) == StepsPage([], 1, False)


def test_pages_go_on_where_the_one_before_ended(store: Store) -> None:
    submit(store)
    store.record_steps(RUN, [step(n % 2, str(n)) for n in range(450)])
    assert [text for *_, text in read(store)] == [str(n) for n in range(450)]
    assert [text for *_, text in read(store, index=1)] == [str(n) for n in range(1, 450, 2)]
    page = store.steps_since(RUN, 0, count=300)
    assert (len(page.records), page.position, page.has_more) == (300, 300, True)


def test_a_page_of_large_steps_is_short(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(store)
    monkeypatch.setattr(steps, "PAGE_BYTES", 1000)
    store.record_steps(RUN, [step(0, "x" * 400) for _ in range(10)])
    page = store.steps_since(RUN, 0)
    assert 0 < len(page.records) < 5
    assert page.has_more
    assert len(read(store)) == 10


def test_of_too_many_steps_the_oldest_are_dropped_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store)
    monkeypatch.setattr(steps, "MAX_STEPS", 5)
    store.record_steps(RUN, [step(1, "other")])
    for n in range(4):
        store.record_steps(RUN, [step(0, f"{n}{m}") for m in "abc"])
    kept = [(number, text) for _, index, number, text in read(store) if index == 0]
    assert kept == [(8, "2b"), (9, "2c"), (10, "3a"), (11, "3b"), (12, "3c")]
    assert [text for *_, text in read(store, index=1)] == ["other"]
    for name in ("steps", "step_order"):
        size = store.redis.hlen if name == "steps" else store.redis.zcard
        assert size(key(name, RUN)) == 6


def test_of_too_many_bytes_the_oldest_are_dropped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store)
    monkeypatch.setattr(steps, "MAX_BYTES", 2000)
    for n in range(20):
        store.record_steps(RUN, [step(0, f"{n:03d}" + "x" * 400)])
    kept = [text[:3] for *_, text in read(store)]
    assert kept == [f"{n:03d}" for n in range(20 - len(kept), 20)]
    assert 2 <= len(kept) <= 4
    size = sum(len(value) for value in store.redis.hvals(key("steps", RUN)))
    assert size < 2000 + 20


def test_what_the_worker_dropped_is_a_gap_in_the_numbers(store: Store) -> None:
    submit(store)
    store.record_steps(RUN, [step(0, "a")])
    store.record_steps(RUN, [step(0, "b")], dropped={0: 7})
    assert [number for _, _, number, _ in read(store)] == [1, 9]
    assert store.record_steps(RUN, [], dropped={0: 2}) == 0
    store.record_steps(RUN, [step(0, "c")])
    assert [number for _, _, number, _ in read(store)] == [1, 9, 12]


def test_a_step_that_is_too_large_goes_without_the_line_of_the_cli(store: Store) -> None:
    submit(store)
    store.record_steps(RUN, [step(0, "before"), step(0, "big", raw="x" * (1 << 20))])
    before, big = store.steps_since(RUN, 0).records
    assert (before.text, big.text, big.raw) == ("before", "big", None)


def test_a_call_whose_answer_was_lost_can_be_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store)
    monkeypatch.setattr("secrets.token_hex", lambda _: "once")
    for _ in range(2):
        store.record_steps(RUN, [step(0, "a"), step(1, "b")], dropped={1: 3})
    assert read(store) == [(1, 0, 1, "a"), (2, 1, 4, "b")]


def test_nothing_is_recorded_of_a_run_that_is_gone(store: Store) -> None:
    assert store.record_steps("no-such-run", [step(0, "a")]) == 0
    assert store.steps_since("no-such-run", 0) == StepsPage([], 0, False)
    assert store.redis.keys("*") == []


def test_a_task_that_the_run_does_not_have_is_an_error(store: Store) -> None:
    submit(store, tasks=2)
    for index in (2, -1):
        with pytest.raises(redis.ResponseError, match="has no task"):
            store.record_steps(RUN, [step(0, "a"), step(index, "b")])
    assert read(store) == []


def test_steps_live_as_long_as_their_run(store: Store) -> None:
    submit(store)
    store.record_steps(RUN, [step(0, "a")])
    names = [key(name, RUN) for name in ("run", "steps", "step_order", "step_counts")]
    for name in names[1:]:
        store.redis.pexpire(name, 10_000)
    store.cancel(RUN, "interrupted")
    lifetimes_ms = [store.redis.pttl(name) for name in names]
    assert min(lifetimes_ms) > 6 * 86_400_000, lifetimes_ms


def test_a_step_that_cannot_be_read_is_passed_over(store: Store) -> None:
    submit(store)
    store.record_steps(RUN, [step(0, "a"), step(0, "b")])
    store.redis.hset(key("steps", RUN), "1", b"1:{")
    assert read(store) == [(2, 0, 2, "b")]


def test_a_position_that_the_server_forgot_goes_back(store: Store) -> None:
    submit(store)
    store.record_steps(RUN, [step(0, "a")])
    assert store.steps_since(RUN, 99) == StepsPage([], 1, False)
