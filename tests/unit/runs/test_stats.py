"""What the record of a run says about its time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinvk.core.spec import RunSummary, TaskResult, TaskSpec, TaskStatus, Usage
from clinvk.output import stats as output
from clinvk.runs.stats import QueueLimit, Reason, RunStats, stats

Row = tuple[str, int, int] | tuple[str, int, int, int]


def event(kind: str, at_s: float, index: int | None = None, until_s: float = 0) -> dict[str, str]:
    given = {"kind": kind, "at_ms": str(round(at_s * 1000)), "position": "0-1"}
    if index is not None:
        given |= {"index": str(index), "dispatch": "1", "worker": "w"}
    return given | ({"until_ms": str(round(until_s * 1000))} if until_s else {})


def ran(*times: tuple[int, float, float]) -> list[dict[str, str]]:
    """Return the events of tasks that ran from one time to another."""
    events = [
        moment
        for index, begin, end in times
        for moment in (event("started", begin, index), event("finished", end, index))
    ]
    return sorted(events, key=lambda each: int(each["at_ms"]))


def found(
    total: int,
    events: Iterable[dict[str, str]],
    limits: Mapping[str, QueueLimit] | None = None,
    result: Mapping[str, Any] | None = None,
    **fields: Any,
) -> RunStats:
    given = {"run_id": "r", "total": total, "created_ms": 0, "max_parallel": 2, "ended_ms": 90_000}
    rows = [
        (
            TaskSpec(backend="a", prompt="x"),
            TaskResult(
                index=index,
                status=TaskStatus.OK,
                exit_code=0,
                duration_seconds=1,
                worker="w",
                **(result or {}),
            ),
        )
        for index in range(total)
    ]
    return stats(RunSummary(**{**given, **fields}), events, rows, limits or {}, now_ms=90_000)


def seconds(found: RunStats) -> dict[Reason, float]:
    return {reason: each / 1000 for reason, each in found.limited_ms.items()}


def test_max_parallel_then_the_last_tasks_then_a_long_one() -> None:
    events = ran((0, 1, 10), (1, 1, 10), (2, 10.1, 20), (3, 10.2, 50))
    told = seconds(found(4, events))
    # The slots that were empty for 0.1 and 0.2 s count as taken.
    assert told[Reason.START] == 1
    assert told[Reason.MAX_PARALLEL] == pytest.approx(9.2)
    assert told[Reason.TASKS] == pytest.approx(9.8)
    assert told[Reason.LONG_TASK] == 30
    assert found(4, events).last_index == 3


def test_a_worker_that_is_missing_is_no_free_slot() -> None:
    told = seconds(found(3, ran((0, 0, 10), (1, 20, 30), (2, 30, 40)), max_parallel=3))
    assert told == {Reason.SLOTS: 30, Reason.LONG_TASK: 10}


def test_a_limit_of_a_queue_is_one_where_the_queue_is_full() -> None:
    events = ran((0, 0, 10), (1, 10, 20))
    limits = {"clinvk.a": QueueLimit(1, has_rate=False)}
    assert seconds(found(2, events, limits)) == {Reason.QUEUE_LIMIT: 10, Reason.LONG_TASK: 10}
    limits = {"clinvk.a": QueueLimit(2, has_rate=False)}
    assert Reason.SLOTS in seconds(found(2, events, limits))
    limits = {"clinvk.a": QueueLimit(None, has_rate=True)}
    assert Reason.QUEUE_LIMIT in seconds(found(2, events, limits))


def test_what_is_put_back_is_held_until_its_time_and_waits_after_it() -> None:
    events = [
        event("started", 0, 0),
        event("held", 5, 0, until_s=25),
        event("started", 30, 0),
        event("finished", 40, 0),
    ]
    run = found(1, events)
    assert seconds(run) == {Reason.LIMITS: 20, Reason.LONG_TASK: 15, Reason.SLOTS: 5}
    assert (run.tasks[0].running_seconds, run.tasks[0].waiting_seconds) == (15, 25)


def test_a_gate_that_was_closed_from_the_beginning_is_told_by_the_results() -> None:
    run = found(1, ran((0, 60, 70)), result={"waited_seconds": 60.0})
    assert seconds(run) == {Reason.LIMITS: 60, Reason.LONG_TASK: 10}


def test_a_step_of_a_chain_waits_from_the_end_of_the_one_before() -> None:
    run = found(2, ran((0, 1, 10), (1, 12, 20)), kind="chain", max_parallel=1)
    assert seconds(run) == {Reason.ORDER: 19, Reason.START: 1}
    assert [task.waiting_seconds for task in run.tasks] == [1, 2]


def test_the_time_between_a_run_and_its_retry_does_not_count() -> None:
    events = [
        *ran((0, 0, 10)),
        event("ended", 10),
        event("retried", 50, 0),
        event("started", 51, 0),
        event("finished", 60, 0),
    ]
    run = found(1, events)
    assert sum(run.limited_ms.values()) == 20_000
    assert (run.tasks[0].running_seconds, run.tasks[0].waiting_seconds) == (19, 1)


def test_a_canceled_run_waits_for_nothing_more() -> None:
    events = [event("started", 0, 0), event("canceled", 3), event("finished", 5, 0)]
    run = found(3, events, max_parallel=1)
    assert seconds(run) == {Reason.MAX_PARALLEL: 3, Reason.LONG_TASK: 2}


def test_a_lost_worker_makes_a_task_wait_again_and_a_run_that_goes_on_is_cut_off() -> None:
    events = [event("started", 0, 0), event("lost", 10, 0), event("started", 20, 0)]
    run = found(1, events, ended_ms=None)
    assert seconds(run) == {Reason.SLOTS: 10, Reason.LONG_TASK: 80}


@settings(max_examples=40)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["started", "held", "lost", "finished", "retried", "x"]),
                "at_ms": st.integers(0, 1000).map(str),
            },
            optional={
                "index": st.sampled_from(["0", "1", "7", "-1", "x", "١"]),
                "until_ms": st.sampled_from(["500", "", "z"]),
            },
        ),
        max_size=20,
    ),
    st.sampled_from(["parallel", "chain"]),
)
def test_any_events_give_times_that_are_none_below_zero(
    events: list[dict[str, str]], kind: str
) -> None:
    run = found(2, sorted(events, key=lambda each: int(each["at_ms"])), kind=kind, ended_ms=1000)
    assert all(each > 0 for each in run.limited_ms.values())
    assert sum(run.limited_ms.values()) <= 1000
    for task in run.tasks:
        assert min(task.waiting_seconds, task.running_seconds) >= 0


def test_percentiles_are_values_of_tasks_and_what_nobody_knows_is_left_out() -> None:
    usage = {"usage": Usage(total_tokens=1200), "cost_source": "cli", "cost_usd": 0.25}
    run = found(10, ran(*((n, n, n + 1) for n in range(10))), max_parallel=1, result=usage)
    summary = RunSummary(run_id="r", total=10, max_parallel=1, ended_ms=10_000)
    document = output.document(summary, run)
    assert document["waiting_seconds"] == {"p50": 4, "p90": 8, "p99": 9, "max": 9}
    assert document["backends"][0]["tokens"]["p99"] == 1200
    assert document["workers"][0].items() >= {"worker": "w", "tasks": 10}.items()
    shown = "\n".join(output.lines(document))
    assert "cost     all       $0.25" in shown
    assert " 90%      9.00s  max_parallel: no more than 1 tasks of the run at once" in shown
    assert " 10%      1.00s  long_task: only one task was left, and ran: [10]" in shown
    assert "tokens" not in output.document(summary, found(1, ran((0, 0, 1))))
