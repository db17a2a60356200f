"""Ordered runs: only the next step is ever in flight."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.core.spec import RunOptions, TaskSpec, TaskStatus
from clinvk.store import runs
from clinvk.store.store import Store
from clinvk.store.types import Canceled, Dispatched, Lease
from tests.unit.store.test_store import RUN, claim, finish, kinds, result, submit


def chain(store: Store, backends: str = "a b a", **options: Any) -> list[Dispatched]:
    """Submit a chain of one step for each backend."""
    return submit(store, backends, kind="chain", max_parallel=1, **options)


def waiting(store: Store) -> dict[str, int]:
    return {queue.name: queue.waiting for queue in store.queues()}


def test_each_step_waits_in_its_own_queue_for_the_end_of_the_one_before(store: Store) -> None:
    assert chain(store) == [Dispatched(RUN, 0, 1, "clinvk.a")]
    assert waiting(store) == {"clinvk.a": 0, "clinvk.b": 0}
    claim(store, 0)
    recorded = store.finish(Lease(RUN, 0, 1), result(0))
    assert recorded.admission.dispatched == [Dispatched(RUN, 1, 1, "clinvk.b")]
    claim(store, 1)
    assert finish(store, 1) == [2]
    claim(store, 2)
    assert finish(store, 2) == []
    assert store.aggregate(RUN)
    assert kinds(store) == ["started", "finished"] * 3 + ["ended"]


def test_only_the_next_step_waits_where_its_queue_is_paused(store: Store) -> None:
    store.limit("clinvk.b", paused=1)
    chain(store, "a b b")
    claim(store, 0)
    assert finish(store, 0) == []
    assert waiting(store) == {"clinvk.a": 0, "clinvk.b": 1}
    store.limit("clinvk.b", paused=None)
    assert store.admit().dispatched == [Dispatched(RUN, 1, 1, "clinvk.b")]
    assert store.admit().dispatched == []


def test_a_window_wider_than_one_lets_no_step_out_early(store: Store) -> None:
    assert len(submit(store, "a a a", kind="chain", max_parallel=3)) == 1
    assert store.admit().dispatched == []


def test_a_chain_of_many_chunks_begins_with_its_first_step_alone(store: Store) -> None:
    total = runs.SUBMIT_CHUNK + 2
    assert len(chain(store, " ".join(["a"] * total))) == 1
    assert waiting(store)["clinvk.a"] == 0


def test_a_failed_step_cancels_those_after_it(store: Store) -> None:
    chain(store, "a b a", fail_fast=True)
    claim(store, 0)
    finish(store, 0)
    claim(store, 1)
    recorded = store.finish(Lease(RUN, 1, 1), result(1, TaskStatus.FAILED))
    assert recorded.canceled == Canceled(1, [])
    assert recorded.admission.dispatched == []
    assert store.aggregate(RUN)
    summary = store.summary(RUN)
    assert summary is not None
    assert (summary.ok, summary.failed, summary.canceled) == (1, 1, 1)
    assert (summary.kind, summary.cancel_reason) == ("chain", "fail_fast")


def test_a_failed_last_step_ends_the_run(store: Store) -> None:
    chain(store, "a", fail_fast=True)
    claim(store, 0)
    assert finish(store, 0, TaskStatus.FAILED) == []
    assert store.aggregate(RUN)


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.LOST])
def test_where_failures_do_not_stop_a_chain_it_goes_on(store: Store, status: TaskStatus) -> None:
    chain(store, "a b")
    claim(store, 0)
    assert finish(store, 0, status) == [1]


@pytest.mark.parametrize(("claimed", "taken"), [(False, Canceled(2, [0])), (True, Canceled(2, []))])
def test_cancel_takes_back_the_steps_that_were_not_reached(
    store: Store, claimed: bool, taken: Canceled
) -> None:
    chain(store)
    if claimed:
        claim(store, 0)
    assert store.cancel(RUN, "interrupted") == taken
    if claimed:
        assert not store.aggregate(RUN)
        assert finish(store, 0, TaskStatus.CANCELED) == []
    assert store.aggregate(RUN)
    summary = store.summary(RUN)
    assert summary is not None
    assert summary.canceled == 3


@pytest.mark.usefixtures("no_time")
def test_a_lost_step_is_handed_out_again_and_no_other(store: Store) -> None:
    chain(store)
    claim(store, 0)
    finish(store, 0)
    claim(store, 1)
    assert store.reap().admission.dispatched == [Dispatched(RUN, 1, 2, "clinvk.b")]
    assert not store.finish(Lease(RUN, 1, 1), result(1)).ok
    claim(store, 1, dispatch=2)
    assert finish(store, 1, dispatch=2) == [2]


def test_a_result_that_comes_twice_lets_one_step_follow(store: Store) -> None:
    chain(store, "a a a")
    claim(store, 0)
    assert finish(store, 0) == [1]
    assert store.finish(Lease(RUN, 0, 1), result(0)).admission.dispatched == []
    assert waiting(store)["clinvk.a"] == 0


def test_the_kind_of_a_run_is_told(store: Store) -> None:
    for run, options in (("p", RunOptions()), ("c", RunOptions(kind="compare"))):
        store.submit(run, [TaskSpec(backend="a", prompt="x")], options)
    assert {run.run_id: run.kind for run in store.runs(9)} == {"p": "parallel", "c": "compare"}
