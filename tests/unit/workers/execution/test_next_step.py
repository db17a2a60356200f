"""What becomes of a task after an execution, over all kinds of errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clinvk.core.history import History
from clinvk.core.spec import MOST_TRIES, ErrorKind, TaskResult, TaskSpec, TaskStatus, Try, Usage
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.store.types import Claim, Hold
from workers.execution.assignment import assigned
from workers.execution.next_step import Ended, PutBack, after

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
MAX_WAIT_SECONDS = 900.0


def spec(**fields: Any) -> TaskSpec:
    given: dict[str, Any] = {"backend": "a", "prompt": "x", "retries": 2}
    return TaskSpec(**(given | {"max_wait_seconds": MAX_WAIT_SECONDS} | fields))


def decide(
    kind: ErrorKind | None,
    task: TaskSpec | None = None,
    *,
    retry_in_ms: int | None = None,
    claim: dict[str, Any] | None = None,
    random: float = 0.5,
    **known: Any,
) -> TaskResult | PutBack:
    task = task or spec()
    history = known.pop("history", History())
    claimed = Claim(
        "go",
        task.to_wire(),
        **({"queue": f"clinvk.{task.backend}"} | (claim or {})),
        history=history.to_wire(),
    )
    status = TaskStatus.OK if kind is None else TaskStatus.FAILED
    result = TaskResult(
        index=0,
        status=status,
        exit_code=0,
        duration_seconds=2.0,
        error=kind and "the CLI's words",
        error_kind=kind,
        retry_at=None if retry_in_ms is None else rfc3339_from_ms(NOW_MS + retry_in_ms),
        cost_usd=0.25,
    )
    assignment = assigned(claimed, lambda task: task)
    ended = Ended(result=result, worker="w@h", assignment=assignment, **known)
    return after(ended, claimed, NOW_MS, lambda: random)


def put_back(*arguments: Any, **options: Any) -> Hold:
    decided = decide(*arguments, **options)
    assert isinstance(decided, PutBack)
    return decided.hold


def end(*arguments: Any, **options: Any) -> TaskResult:
    decided = decide(*arguments, **options)
    assert isinstance(decided, TaskResult)
    return decided


HELD = {
    ErrorKind.USAGE_LIMIT: "window",
    ErrorKind.RATE_LIMITED: "burst",
    ErrorKind.OVERLOADED: "",
}


@pytest.mark.parametrize("kind", [None, *ErrorKind])
def test_what_each_kind_of_end_means(kind: ErrorKind | None) -> None:
    decided = decide(kind)
    assert isinstance(decided, PutBack) == (kind in HELD)
    if isinstance(decided, PutBack):
        assert decided.hold.signal == HELD[ErrorKind(decided.hold.kind)]
        assert decided.hold.delay_ms is not None
        assert decided.hold.max_wait_ms == MAX_WAIT_SECONDS * 1000


def test_a_lack_of_capacity_is_a_limit() -> None:
    hold = put_back(ErrorKind.OVERLOADED, at_capacity=True)
    assert (hold.signal, hold.delay_ms) == ("burst", 15_000)


def test_a_window_holds_until_the_gate_opens() -> None:
    hold = put_back(ErrorKind.USAGE_LIMIT, retry_in_ms=HOUR_MS + 1000)
    assert (hold.retry_at_ms, hold.delay_ms) == (NOW_MS + HOUR_MS + 1000, 0)


def test_a_window_that_is_told_by_the_minute_holds_until_its_end() -> None:
    hold = put_back(ErrorKind.USAGE_LIMIT, retry_in_ms=HOUR_MS)
    assert hold.retry_at_ms == NOW_MS + HOUR_MS + 60_000


@pytest.mark.parametrize(
    ("retry_in_ms", "rejections", "delay_ms"),
    [
        (None, 0, 15_000),
        (None, 1, 30_000),
        (None, 2, 150_000),
        (None, 99, 150_000),
        (34_000, 5, 35_700),
        (-60_000, 0, 1_050),
    ],
)
def test_how_long_a_burst_holds_a_task(
    retry_in_ms: int | None, rejections: int, delay_ms: int
) -> None:
    claim = {"rejections": rejections}
    hold = put_back(ErrorKind.RATE_LIMITED, retry_in_ms=retry_in_ms, claim=claim)
    assert hold.delay_ms == delay_ms


def test_other_tries_are_ever_further_apart() -> None:
    delays = [
        put_back(ErrorKind.OVERLOADED, spec(retries=9), claim={"retries": retries}).delay_ms
        for retries in range(4)
    ]
    assert delays == [15_000, 60_000, 240_000, 300_000]


def test_tries_come_to_an_end() -> None:
    assert end(ErrorKind.OVERLOADED, claim={"retries": 2}).error == "the CLI's words"


def test_what_is_asked_to_be_retried_is() -> None:
    task = spec(retry_on=["failed"])
    hold = put_back(ErrorKind.FAILED, task)
    assert (hold.signal, hold.kind) == ("", "failed")
    end(ErrorKind.TIMEOUT, task)
    end(ErrorKind.CANCELED, task)


def test_a_failure_of_ours_is_not_tried_again() -> None:
    end(ErrorKind.FAILED, spec(retry_on=["failed"]), is_final=True)


def test_a_model_that_is_limited_is_named() -> None:
    task = spec(model="opus")
    assert put_back(ErrorKind.USAGE_LIMIT, task, limited_model=True).model == "opus"
    assert put_back(ErrorKind.USAGE_LIMIT, task).model == ""
    assert put_back(ErrorKind.USAGE_LIMIT, spec(), limited_model=True).model == ""


def test_the_model_of_one_of_several_backends_is_not_known_to_the_store() -> None:
    task = spec(model="opus", alternatives=["b"], variants={"b": {"model": "big"}})
    claim = {"queue": "clinvk.b"}
    assert put_back(ErrorKind.USAGE_LIMIT, task, claim=claim, limited_model=True).model == ""
    moved = {"queue": "clinvk.b", "model": "big"}
    assert put_back(ErrorKind.USAGE_LIMIT, task, claim=moved, limited_model=True).model == "big"


# Where the client is older, or says that nothing may wait.


@pytest.mark.parametrize("task", [spec(retries=None, max_wait_seconds=None)])
def test_a_task_of_an_older_client_ends_as_it_did(task: TaskSpec) -> None:
    decided = decide(ErrorKind.USAGE_LIMIT, task, retry_in_ms=HOUR_MS)
    assert isinstance(decided, PutBack)
    assert (decided.hold.delay_ms, decided.hold.routes) == (None, ())
    assert decided.over(NOW_MS, 0, 1).error == "the CLI's words"
    end(ErrorKind.OVERLOADED, task)


def test_what_may_not_wait_at_all_tells_the_gate_and_ends() -> None:
    decided = decide(ErrorKind.RATE_LIMITED, spec(max_wait_seconds=0), random=0)
    assert isinstance(decided, PutBack)
    assert (decided.hold.signal, decided.hold.delay_ms) == ("burst", None)
    assert decided.over(NOW_MS, 0, 1).error == "the CLI's words"


def test_what_may_wait_for_ever() -> None:
    assert put_back(ErrorKind.USAGE_LIMIT, spec(max_wait_seconds=None)).max_wait_ms is None


def test_the_end_of_a_wait_says_both() -> None:
    decided = decide(ErrorKind.USAGE_LIMIT, retry_in_ms=HOUR_MS)
    assert isinstance(decided, PutBack)
    result = decided.over(NOW_MS + 2 * HOUR_MS, 90_000, 3)
    assert result.error == (
        "usage limit until 2027-01-15 09:00 UTC, longer than max_wait (15m) allows: the CLI's words"
    )
    assert (result.waited_seconds, result.rejections) == (90.0, 3)
    assert (result.error_kind, result.status) == (ErrorKind.USAGE_LIMIT, TaskStatus.FAILED)


# Elsewhere.

FALLBACK = spec(fallback=["b", "c:big"], variants={"b": {"model": "small"}})


@pytest.mark.parametrize("kind", [ErrorKind.NOT_INSTALLED, ErrorKind.AUTH, ErrorKind.QUOTA])
def test_what_a_backend_cannot_do_goes_elsewhere(kind: ErrorKind) -> None:
    hold = put_back(kind, FALLBACK)
    assert (hold.signal, hold.delay_ms) == ("", None)
    assert hold.routes == [("clinvk.b", "small"), ("clinvk.c", "big")]


def test_a_limit_waits_first_where_it_was() -> None:
    hold = put_back(ErrorKind.USAGE_LIMIT, FALLBACK)
    assert (hold.delay_ms, len(hold.routes)) == (0, 2)


def test_what_is_overloaded_goes_elsewhere_when_its_tries_are_over() -> None:
    first = put_back(ErrorKind.OVERLOADED, FALLBACK)
    assert (first.delay_ms, first.routes) == (15_000, [])
    last = put_back(ErrorKind.OVERLOADED, FALLBACK, claim={"retries": 2})
    assert (last.delay_ms, len(last.routes)) == (None, 2)


def test_nothing_is_tried_twice() -> None:
    history = History.read(put_back(ErrorKind.AUTH, FALLBACK).history.encode())
    assert history.entries == ["a"]
    claim = {"queue": "clinvk.b", "model": "small"}
    hold = put_back(ErrorKind.AUTH, FALLBACK, claim=claim, history=history)
    assert hold.routes == [("clinvk.c", "big")]
    history = History.read(hold.history.encode())
    claim = {"queue": "clinvk.c", "model": "big"}
    result = end(ErrorKind.AUTH, FALLBACK, claim=claim, history=history)
    assert result.backend == "c"
    assert [(each.backend, each.model) for each in result.tried] == [("a", None), ("b", "small")]
    assert {each.cost_usd for each in result.tried} == {0.25}


def test_of_several_backends_another_one_is_tried() -> None:
    task = spec(model="opus", alternatives=["b"], fallback=["c"])
    hold = put_back(ErrorKind.AUTH, task, claim={"queue": "clinvk.b"})
    assert hold.routes == [("clinvk.a", "opus"), ("clinvk.c", "")]


def test_a_failure_of_the_task_itself_goes_nowhere() -> None:
    end(ErrorKind.FAILED, FALLBACK)
    end(ErrorKind.REFUSED, FALLBACK)


def test_only_the_latest_tries_are_kept() -> None:
    history = History(tried=[Try(backend="a", error=str(n)) for n in range(MOST_TRIES)])
    kept = History.read(put_back(ErrorKind.RATE_LIMITED, history=history).history.encode())
    assert [each.error for each in kept.tried[:2]] == ["1", "2"]
    assert kept.tried[-1].error == "the CLI's words"
    assert len(kept.tried) == MOST_TRIES


# What has acted.


@pytest.mark.parametrize("kind", [ErrorKind.USAGE_LIMIT, ErrorKind.OVERLOADED])
def test_what_has_acted_goes_on_in_its_session(kind: ErrorKind) -> None:
    usage = Usage(input_tokens=5, total_tokens=5)
    session = {"can_resume": True, "session": "s1", "session_usage": usage}
    hold = put_back(kind, FALLBACK, may_have_acted=True, **session)
    assert (hold.pinned, hold.routes) == ("w@h", ())
    history = History.read(hold.history.encode())
    assert (history.session, history.session_worker, history.session_entry) == ("s1", "w@h", "a")
    assert history.session_usage == usage
    assert not history.may_start_over


def test_what_has_acted_is_not_started_over() -> None:
    decided = decide(ErrorKind.USAGE_LIMIT, FALLBACK, may_have_acted=True)
    assert isinstance(decided, PutBack)
    assert (decided.hold.signal, decided.hold.delay_ms) == ("window", None)  # the gate is told
    assert decided.hold.routes == ()
    error = decided.over(NOW_MS, 0, 1).error
    assert error == (
        "the CLI's words (not tried again, because it had called tools that can change something; "
        "retry_after_changes: true allows it)"
    )
    assert end(ErrorKind.OVERLOADED, may_have_acted=True).error == error
    assert end(ErrorKind.AUTH, FALLBACK, may_have_acted=True).error == error


@pytest.mark.parametrize(
    ("task", "is_contained"),
    [(FALLBACK, True), (replace(FALLBACK, retry_after_changes=True), False)],
)
def test_where_nothing_can_have_changed_or_may_have(task: TaskSpec, is_contained: bool) -> None:
    how = {"may_have_acted": True, "is_contained": is_contained}
    assert put_back(ErrorKind.OVERLOADED, task, **how).delay_ms == 15_000
    assert len(put_back(ErrorKind.QUOTA, task, **how).routes) == 2
    hold = put_back(ErrorKind.USAGE_LIMIT, task, **how, can_resume=True, session="s1")
    assert (hold.pinned, len(hold.routes)) == ("w@h", 2)
    assert History.read(hold.history.encode()).may_start_over


def test_a_failure_that_would_be_the_end_anyway_says_no_more() -> None:
    assert end(ErrorKind.FAILED, may_have_acted=True).error == "the CLI's words"


def test_a_result_tells_how_limits_held_its_task_up() -> None:
    result = end(None, claim={"waited_ms": 1500, "rejections": 2})
    assert (result.waited_seconds, result.rejections) == (1.5, 2)
    assert end(None).waited_seconds is None
