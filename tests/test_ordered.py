"""Ordered runs: only the next step is ever out, over a real server and over fakeredis."""

from __future__ import annotations

import pytest

from clinvk.core.spec import Outcome, RunOptions, TaskSpec
from tests.test_kernel import RUN, claim, finish, kinds, no_time, result, submit
from workers import kernel as kernel_module
from workers.kernel import Canceled, Handout, Kernel, Lease

__all__ = ["no_time"]  # a fixture


def chain(kernel: Kernel, backends: str = "a b a", **options: int | bool) -> list[Handout]:
    """Submit a chain of one step for each backend."""
    return submit(kernel, backends, kind="chain", max_parallel=1, **options)


def waiting(kernel: Kernel) -> dict[str, int]:
    return {queue.name: queue.waiting for queue in kernel.queues()}


def test_each_step_waits_in_its_own_queue_for_the_end_of_the_one_before(kernel: Kernel) -> None:
    assert chain(kernel) == [Handout(RUN, 0, 1, "clinvk.a")]
    assert waiting(kernel) == {"clinvk.a": 0, "clinvk.b": 0}
    claim(kernel, 0)
    recorded = kernel.finish(Lease(RUN, 0, 1), result(0))
    assert recorded.admission.handouts == [Handout(RUN, 1, 1, "clinvk.b")]
    claim(kernel, 1)
    assert finish(kernel, 1) == [2]
    claim(kernel, 2)
    assert finish(kernel, 2) == []
    assert kernel.aggregate(RUN)
    assert kinds(kernel) == ["started", "finished"] * 3 + ["ended"]


def test_only_the_next_step_waits_where_its_queue_is_paused(kernel: Kernel) -> None:
    kernel.limit("clinvk.b", paused=1)
    chain(kernel, "a b b")
    claim(kernel, 0)
    assert finish(kernel, 0) == []
    assert waiting(kernel) == {"clinvk.a": 0, "clinvk.b": 1}
    kernel.limit("clinvk.b", paused=None)
    assert kernel.admit().handouts == [Handout(RUN, 1, 1, "clinvk.b")]
    assert kernel.admit().handouts == []


def test_a_window_wider_than_one_lets_no_step_out_early(kernel: Kernel) -> None:
    assert len(submit(kernel, "a a a", kind="chain", max_parallel=3)) == 1
    assert kernel.admit().handouts == []


def test_a_chain_of_many_chunks_begins_with_its_first_step_alone(kernel: Kernel) -> None:
    total = kernel_module.SUBMIT_CHUNK + 2
    assert len(chain(kernel, " ".join(["a"] * total))) == 1
    assert waiting(kernel)["clinvk.a"] == 0


def test_a_failed_step_cancels_those_after_it(kernel: Kernel) -> None:
    chain(kernel, "a b a", fail_fast=True)
    claim(kernel, 0)
    finish(kernel, 0)
    claim(kernel, 1)
    recorded = kernel.finish(Lease(RUN, 1, 1), result(1, Outcome.FAILED))
    assert recorded.canceled == Canceled(1, [])
    assert recorded.admission.handouts == []
    assert kernel.aggregate(RUN)
    summary = kernel.summary(RUN)
    assert summary is not None
    assert (summary.ok, summary.failed, summary.canceled) == (1, 1, 1)
    assert (summary.kind, summary.cancel_reason) == ("chain", "fail_fast")


def test_a_failed_last_step_ends_the_run(kernel: Kernel) -> None:
    chain(kernel, "a", fail_fast=True)
    claim(kernel, 0)
    assert finish(kernel, 0, Outcome.FAILED) == []
    assert kernel.aggregate(RUN)


@pytest.mark.parametrize("status", [Outcome.FAILED, Outcome.TIMEOUT, Outcome.LOST])
def test_where_failures_do_not_stop_a_chain_it_goes_on(kernel: Kernel, status: Outcome) -> None:
    chain(kernel, "a b")
    claim(kernel, 0)
    assert finish(kernel, 0, status) == [1]


@pytest.mark.parametrize(("claimed", "taken"), [(False, Canceled(2, [0])), (True, Canceled(2, []))])
def test_cancel_takes_back_the_steps_that_were_not_reached(
    kernel: Kernel, claimed: bool, taken: Canceled
) -> None:
    chain(kernel)
    if claimed:
        claim(kernel, 0)
    assert kernel.cancel(RUN, "interrupted") == taken
    if claimed:
        assert not kernel.aggregate(RUN)
        assert finish(kernel, 0, Outcome.CANCELED) == []
    assert kernel.aggregate(RUN)
    summary = kernel.summary(RUN)
    assert summary is not None
    assert summary.canceled == 3


@pytest.mark.usefixtures("no_time")
def test_a_lost_step_is_handed_out_again_and_no_other(kernel: Kernel) -> None:
    chain(kernel)
    claim(kernel, 0)
    finish(kernel, 0)
    claim(kernel, 1)
    assert kernel.reap().admission.handouts == [Handout(RUN, 1, 2, "clinvk.b")]
    assert not kernel.finish(Lease(RUN, 1, 1), result(1)).ok
    claim(kernel, 1, attempt=2)
    assert finish(kernel, 1, attempt=2) == [2]


def test_a_result_that_comes_twice_lets_one_step_follow(kernel: Kernel) -> None:
    chain(kernel, "a a a")
    claim(kernel, 0)
    assert finish(kernel, 0) == [1]
    assert kernel.finish(Lease(RUN, 0, 1), result(0)).admission.handouts == []
    assert waiting(kernel)["clinvk.a"] == 0


def test_the_kind_of_a_run_is_told(kernel: Kernel) -> None:
    for run, options in (("p", RunOptions()), ("c", RunOptions(kind="compare"))):
        kernel.submit(run, [TaskSpec(backend="a", prompt="x")], options)
    assert {run.run_id: run.kind for run in kernel.runs(9)} == {"p": "parallel", "c": "compare"}
