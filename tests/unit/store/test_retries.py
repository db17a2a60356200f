"""Tasks of a run that run again: which of them, when, and what becomes of their earlier results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import redis

from clinvk.core.spec import ErrorKind, RunSummary, TaskResult, TaskSpec, TaskStatus
from clinvk.store import decoding
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Dispatched, Hold, Lease, Retried
from tests.unit.store.test_store import OWNER, RUN, claim, finish, kinds, result, submit

FAILED, OK = TaskStatus.FAILED, TaskStatus.OK


def summary(store: Store) -> RunSummary:
    found = store.summary(RUN)
    assert found is not None
    return found


def end(store: Store, statuses: Mapping[int, TaskStatus]) -> None:
    """Run tasks to their ends, and close the run."""
    for index, status in statuses.items():
        claim(store, index)
        finish(store, index, status)
    store.aggregate(RUN)


def retry(store: Store, *indexes: int, max_parallel: int | None = None) -> Retried:
    tasks = dict.fromkeys(indexes)
    return store.retry(RUN, tasks, summary(store).retries, max_parallel)


def statuses_of(results: Iterable[TaskResult | None]) -> list[str | None]:
    return [None if result is None else result.status.value for result in results]


def statuses(store: Store) -> list[str | None]:
    return statuses_of(store.results(RUN, range(summary(store).total)))


def earlier(store: Store) -> list[str | None]:
    return statuses_of(store.earlier_results(RUN, range(summary(store).total)))


@pytest.fixture
def ended(store: Store) -> Store:
    """A run of four tasks that has ended; the second and the last have failed."""
    submit(store, max_parallel=9)
    end(store, {0: OK, 1: FAILED, 2: OK, 3: FAILED})
    return store


def test_a_run_that_has_ended_runs_again_the_tasks_that_are_named(ended: Store) -> None:
    before = summary(ended)
    assert (before.ok, before.failed, before.state) == (2, 2, "done")
    retried = retry(ended, 1, 3)
    assert retried.verdict == "retried"
    assert retried.admission.dispatched == [
        Dispatched(RUN, 1, 2, "clinvk.a"),
        Dispatched(RUN, 3, 2, "clinvk.a"),
    ]
    now = summary(ended)
    assert (now.state, now.ok, now.failed, now.ended_ms, now.retries) == ("running", 2, 0, None, 1)
    assert statuses(ended) == ["ok", None, "ok", None]
    assert earlier(ended) == [None, "failed", None, "failed"]
    for index in (1, 3):
        assert claim(ended, index, dispatch=2) == "go"
        finish(ended, index, dispatch=2)
    assert ended.aggregate(RUN)
    last = summary(ended)
    assert (last.state, last.ok, last.failed) == ("done", 4, 0)
    assert last.ended_ms is not None
    assert earlier(ended) == [None] * 4
    assert not ended.redis.exists(key("earlier_results", RUN))


def test_its_events_say_so_after_those_that_were_there(ended: Store) -> None:
    position = retry(ended, 1).position
    _, events = ended.wait_events(RUN, position, 10)
    assert [(event["kind"], event["index"]) for event in events] == [("retried", "1")]
    assert kinds(ended)[-2:] == ["ended", "retried"]


def test_who_claims_it_gets_the_earlier_result_and_its_backend(ended: Store) -> None:
    retry(ended, 1)
    answer = ended.claim(Lease(RUN, 1, 2), OWNER, "n")
    assert decoding.earlier(1, answer.earlier) == TaskResult(
        index=1,
        status=FAILED,
        exit_code=0,
        duration_seconds=0.1,
        error_kind=ErrorKind.FAILED,
        backend="a",
    )
    assert (answer.attempts, answer.history) == (1, b"")


def test_a_result_of_an_earlier_dispatch_is_refused(ended: Store) -> None:
    retry(ended, 1)
    assert claim(ended, 1, dispatch=1) == "stale"
    assert not ended.finish(Lease(RUN, 1, 1), result(1, FAILED)).ok
    assert claim(ended, 1, dispatch=2) == "go"


def test_a_retry_whose_answer_was_lost_is_answered_again(
    ended: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Store.call

    def twice(self: Store, name: str, **arguments: Any) -> Any:
        first = call(self, name, **arguments)
        if name != "retry":
            return first
        second = call(self, name, **arguments)
        assert second[:2] == first[:2]
        return second

    monkeypatch.setattr(Store, "call", twice)
    assert retry(ended, 1).verdict == "retried"
    assert summary(ended).retries == 1
    assert kinds(ended).count("retried") == 1


def test_of_two_who_choose_from_the_same_results_the_second_chooses_again(ended: Store) -> None:
    assert ended.retry(RUN, {1: None}, 0).verdict == "retried"
    assert ended.retry(RUN, {1: None, 3: None}, 0).verdict == "changed"
    assert ended.retry(RUN, {3: None}, 1).verdict == "retried"
    assert not ended.redis.keys("clinvk:submission*")


def test_a_task_without_a_result_is_not_retried(store: Store) -> None:
    submit(store, max_parallel=2)
    claim(store, 0)
    finish(store, 0, FAILED)
    assert retry(store, 1).verdict == "changed"  # dispatched
    assert retry(store, 3).verdict == "changed"  # pending
    assert retry(store, 0).verdict == "retried"


def test_a_run_that_goes_on_runs_the_task_after_those_that_wait(store: Store) -> None:
    submit(store, max_parallel=1)
    claim(store, 0)
    finish(store, 0, FAILED)
    assert retry(store, 0).admission.dispatched == []
    order = []
    for index, dispatch in ((1, 1), (2, 1), (3, 1), (0, 2)):
        assert claim(store, index, dispatch) == "go"
        order += finish(store, index, dispatch=dispatch)
    assert order == [2, 3, 0]
    assert store.aggregate(RUN)
    assert summary(store).ok == 4


def test_a_complete_run_that_is_retried_is_not_closed_by_its_chord(store: Store) -> None:
    submit(store, "a a")
    for index in (0, 1):
        claim(store, index)
        finish(store, index, FAILED)
    retry(store, 0)
    assert not store.aggregate(RUN)
    assert store.reap().complete == []


def test_of_a_canceled_run_only_the_named_tasks_run(store: Store) -> None:
    submit(store, max_parallel=1)
    claim(store, 0)
    store.cancel(RUN, "interrupted")
    store.finish(Lease(RUN, 0, 1), result(0, TaskStatus.CANCELED))
    store.aggregate(RUN)
    assert summary(store).canceled == 4
    assert retry(store, 2).admission.dispatched == [Dispatched(RUN, 2, 2, "clinvk.a")]
    found = list(store.results(RUN, range(4)))
    assert found[1] == TaskResult.never_started(1)
    assert found[3] == TaskResult.never_started(3)
    assert not summary(store).canceled_run
    claim(store, 2, dispatch=2)
    finish(store, 2, dispatch=2)
    assert store.aggregate(RUN)
    assert (summary(store).ok, summary(store).canceled) == (1, 3)
    assert store.reap().repairs == []


def test_a_run_of_which_some_still_stops_is_not_retried(store: Store) -> None:
    submit(store, max_parallel=2)
    claim(store, 0)
    store.cancel(RUN, "interrupted")
    assert retry(store, 1).verdict == "ending"


def test_a_canceled_retry_gives_results_back_that_nothing_replaced(ended: Store) -> None:
    retry(ended, 0, 1, 3, max_parallel=2)
    claim(ended, 0, dispatch=2)
    claim(ended, 1, dispatch=2)
    finish(ended, 1, dispatch=2)
    ended.cancel(RUN, "interrupted")
    assert statuses(ended) == [None, "ok", "ok", "failed"]
    ended.finish(Lease(RUN, 0, 2), result(0, TaskStatus.CANCELED))
    assert ended.aggregate(RUN)
    now = summary(ended)
    assert (now.ok, now.failed, now.canceled) == (2, 1, 1)
    assert not ended.redis.exists(key("earlier_results", RUN))


def test_fail_fast_applies_again(store: Store) -> None:
    submit(store, fail_fast=True, max_parallel=1)
    claim(store, 0)
    finish(store, 0, FAILED)
    store.aggregate(RUN)
    retry(store, 0, 1, 2)
    claim(store, 0, dispatch=2)
    recorded = store.finish(Lease(RUN, 0, 2), result(0, FAILED))
    assert recorded.canceled.unpublished == 2
    assert store.aggregate(RUN)
    assert (summary(store).failed, summary(store).canceled) == (1, 3)


def test_what_is_retried_begins_anew(store: Store) -> None:
    submit(store, "a", max_attempts=2)
    claim(store, 0)
    store.hold(Lease(RUN, 0, 1), Hold(history='{"x": 1}'))
    claim(store, 0, dispatch=2)
    finish(store, 0, FAILED, dispatch=2)
    store.redis.hset(key("worker_losses", RUN), "0", 1)
    store.redis.expire(key("worker_losses", RUN), 60)
    store.aggregate(RUN)
    assert retry(store, 0).admission.dispatched == [Dispatched(RUN, 0, 3, "clinvk.a")]
    answer = store.claim(Lease(RUN, 0, 3), OWNER, "n")
    assert (answer.attempts, answer.retries, answer.history) == (1, 0, b"")


def test_what_limits_held_up_before_it_does_not_count(store: Store) -> None:
    submit(store, "a a", max_parallel=1)
    claim(store, 0)
    finish(store, 0, FAILED)
    store.redis.hset(key("queue", "clinvk.a"), "limited_ms", 5000)
    retry(store, 0)
    claim(store, 1)
    finish(store, 1)
    assert store.claim(Lease(RUN, 0, 2), OWNER, "n").waited_ms == 0


def test_max_parallel_holds_from_now_on(ended: Store) -> None:
    assert len(retry(ended, 0, 1, 2, max_parallel=1).admission.dispatched) == 1
    assert summary(ended).max_parallel == 1
    assert ended.admit().dispatched == []


def test_less_than_what_is_in_flight_starts_nothing_until_that_has_ended(store: Store) -> None:
    submit(store, max_parallel=3)
    for index in (0, 1, 2):
        claim(store, index)
    finish(store, 0, FAILED)  # the fourth is dispatched
    assert retry(store, 0, max_parallel=1).admission.dispatched == []
    assert store.admit().dispatched == []
    claim(store, 3)
    assert finish(store, 1) == finish(store, 2) == []
    assert finish(store, 3) == [0]


def test_time_before_the_retry_is_no_time_of_the_run(ended: Store) -> None:
    ended_ms = summary(ended).ended_ms
    assert ended_ms is not None
    ended.redis.hset(key("run", RUN), "ended_ms", ended_ms - 5000)
    retry(ended, 1)
    assert summary(ended).idle_ms >= 5000


def test_new_specs_take_the_place_of_the_old_ones(ended: Store) -> None:
    spec = TaskSpec(
        backend="b", prompt="new", fallback=["a:x"], max_attempts=1, max_wait_seconds=60
    )
    retried = ended.retry(RUN, {1: spec, 3: None}, 0)
    assert retried.admission.dispatched == [
        Dispatched(RUN, 1, 2, "clinvk.b"),
        Dispatched(RUN, 3, 2, "clinvk.a"),
    ]
    assert ended.specs(RUN, [1, 3]) == [spec, TaskSpec(backend="a", prompt="p3")]
    assert ended.redis.hget(key("max_attempts", RUN), "1") == b"1"
    record = ended.redis.hgetall(key("run", RUN))
    assert json.loads(record[b"queues"]) == ["clinvk.a", "clinvk.b"]
    assert record[b"max_wait_ms"] == b"60000"
    assert ended.redis.sismember(key("queues"), "clinvk.b")


@pytest.mark.parametrize("backend", ["a b", "*", "a}", "x" * 10 + "\n"])
def test_nothing_changes_where_a_new_spec_names_no_backend(ended: Store, backend: str) -> None:
    with pytest.raises(redis.ResponseError, match="no queue"):
        ended.retry(RUN, {0: None, 1: TaskSpec(backend=backend, prompt="p")}, 0)
    assert (summary(ended).state, summary(ended).retries) == ("done", 0)
    assert statuses(ended) == ["ok", "failed", "ok", "failed"]


def test_a_task_that_the_run_does_not_have_is_refused(ended: Store) -> None:
    with pytest.raises(redis.ResponseError, match="has no task 4"):
        retry(ended, 4)


@pytest.mark.parametrize("gone", ["run", "specs", "message"])
def test_what_has_expired_is_not_retried(ended: Store, gone: str) -> None:
    ended.redis.delete(key(gone, RUN))
    assert ended.retry(RUN, {1: None}, 0).verdict == "gone"


class TestChains:
    def test_the_steps_after_the_first_one_run_again_as_well(self, store: Store) -> None:
        submit(store, "a b a", kind="chain", max_parallel=1)
        end(store, {0: OK, 1: FAILED, 2: OK})
        assert retry(store, 1).admission.dispatched == [Dispatched(RUN, 1, 2, "clinvk.b")]
        assert statuses(store) == ["ok", None, None]
        claim(store, 1, dispatch=2)
        assert finish(store, 1, dispatch=2) == [2]
        assert claim(store, 2, dispatch=2) == "go"
        finish(store, 2, dispatch=2)
        assert store.aggregate(RUN)
        assert summary(store).ok == 3

    def test_one_that_stopped_at_a_failure_goes_on_from_there(self, store: Store) -> None:
        submit(store, "a b a", kind="chain", max_parallel=1, fail_fast=True)
        end(store, {0: OK, 1: FAILED})
        assert summary(store).canceled == 1
        retry(store, 1)
        claim(store, 1, dispatch=2)
        assert finish(store, 1, dispatch=2) == [2]
        assert store.reap().repairs == []

    def test_one_that_goes_on_is_left_alone(self, store: Store) -> None:
        submit(store, "a b a", kind="chain", max_parallel=1)
        claim(store, 0)
        finish(store, 0, FAILED)
        assert retry(store, 0).verdict == "ordered"

    def test_a_step_may_go_to_another_backend(self, store: Store) -> None:
        submit(store, "a a a", kind="chain", max_parallel=1)
        end(store, {0: OK, 1: FAILED, 2: OK})
        store.retry(RUN, {1: None, 2: TaskSpec(backend="b", prompt="p")}, 0)
        claim(store, 1, dispatch=2)
        recorded = store.finish(Lease(RUN, 1, 2), result(1))
        assert recorded.admission.dispatched == [Dispatched(RUN, 2, 2, "clinvk.b")]

    def test_canceled_before_its_first_step_began_it_is_as_it_was(self, store: Store) -> None:
        submit(store, "a b a", kind="chain", max_parallel=1)
        end(store, {0: OK, 1: FAILED, 2: OK})
        retry(store, 1)
        store.cancel(RUN, "interrupted")
        assert statuses(store) == ["ok", "failed", "ok"]

    def test_canceled_later_its_last_steps_are_canceled(self, store: Store) -> None:
        submit(store, "a b a", kind="chain", max_parallel=1)
        end(store, {0: OK, 1: FAILED, 2: OK})
        retry(store, 1)
        claim(store, 1, dispatch=2)
        finish(store, 1, dispatch=2)
        store.cancel(RUN, "interrupted")
        assert store.aggregate(RUN)
        assert statuses(store) == ["ok", "ok", None]
        assert (summary(store).ok, summary(store).canceled) == (2, 1)


class TestAudit:
    def audit(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.setattr("clinvk.store.leases.AUDIT_INTERVAL_MS", -1)
        return [repair.what for repair in store.reap().repairs]

    def test_a_retried_run_is_in_order(self, ended: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        retry(ended, 1, 3)
        assert self.audit(ended, monkeypatch) == []

    def test_earlier_results_that_are_lost_cost_only_themselves(
        self, ended: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        retry(ended, 1, 3)
        ended.redis.delete(key("earlier_results", RUN))
        ended.redis.set(key("earlier_results", RUN), "x", ex=60)
        assert self.audit(ended, monkeypatch) == ["earlier_results was a string"]
        claim(ended, 1, dispatch=2)
        finish(ended, 1, dispatch=2)
        assert summary(ended).ok == 3

    def test_a_damaged_run_that_is_canceled_gives_them_back(
        self, ended: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended.limit("clinvk.a", paused=1)
        retry(ended, 1, 3)
        ended.redis.delete(key("specs", RUN))
        self.audit(ended, monkeypatch)
        assert statuses(ended) == ["ok", "failed", "ok", "failed"]
        assert (summary(ended).ok, summary(ended).failed) == (2, 2)


def test_large_outputs_live_as_long_as_a_run_that_is_retried(store: Store) -> None:
    submit(store, max_parallel=9)
    claim(store, 0)
    large = replace(result(0), output="x" * 100_000)
    assert store.finish(Lease(RUN, 0, 1), large).ok
    end(store, {1: FAILED, 2: OK, 3: FAILED})
    blob = key("blob", RUN, "0-1")
    store.redis.pexpire(blob, 1000)  # as if weeks had passed
    retry(store, 1)
    assert store.redis.pttl(blob) > store.redis.pttl(key("results", RUN))
    assert next(iter(store.results(RUN, [0]))) == large
