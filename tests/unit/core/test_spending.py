"""What executions used: sums of tokens and money."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.core.spec import ErrorKind, TaskResult, TaskStatus, Try, Usage
from clinvk.core.spending import LOST, MOST_TOKENS, NAMES, Spending, by_backend

USAGE = Usage(input_tokens=10, cached_input_tokens=4, output_tokens=5, total_tokens=15)
COUNTS = {"input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 5, "total_tokens": 15}


def result(**fields: object) -> TaskResult:
    given: dict[str, object] = {"status": TaskStatus.OK, "exit_code": 0, "duration_seconds": 1.0}
    return TaskResult(**{"index": 0, **given, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("execution", "spending"),
    [
        (result(), Spending()),
        (result(usage=USAGE), Spending()),  # costs nothing, as echo
        (result(cost_source="unknown"), Spending(executions=1, unknown=1)),
        (
            result(cost_source="cli", cost_usd=0.1, usage=USAGE),
            Spending(executions=1, cli_micro_usd=100_000, **COUNTS),
        ),
        (
            Try(backend="a", cost_source="estimated", cost_usd=0.000001),
            Spending(executions=1, estimated_micro_usd=1),
        ),
        (
            result(cost_source="unknown", usage=Usage(total_tokens=1 << 62)),
            Spending(executions=1, unknown=1, total_tokens=MOST_TOKENS),
        ),
    ],
)
def test_what_an_execution_used(execution: TaskResult | Try, spending: Spending) -> None:
    assert Spending.of(execution) == spending


def used(whole: TaskResult) -> Spending:
    return Spending.sum(each for _, each in by_backend("a", whole))


def test_a_task_has_used_what_was_tried_before_and_what_was_lost_too() -> None:
    before = Try(backend="a", cost_source="cli", cost_usd=0.2, error_kind=ErrorKind.RATE_LIMITED)
    whole = result(cost_source="estimated", cost_usd=0.1, tried=[before], attempts=3)
    assert used(whole) == Spending(
        executions=4, unknown=2, cli_micro_usd=200_000, estimated_micro_usd=100_000
    )
    assert used(TaskResult.lost(0, "x", 3)) == Spending(executions=3, unknown=3)
    assert used(TaskResult.canceled_and_lost(0, "x", 0)) == Spending()
    assert used(TaskResult.never_started(0)) == Spending()


def test_what_is_not_known_is_not_nothing() -> None:
    assert Spending().cost_usd is None
    assert LOST.cost_usd is None
    assert (LOST + Spending(executions=1, cli_micro_usd=5)).cost_usd == 0.000005
    assert Spending(executions=1).cost_usd == 0
    assert LOST.usage is None
    assert Spending(**COUNTS).usage == USAGE


SPENDING = st.builds(Spending, **{name: st.integers(0, 2**53) for name in NAMES})


@given(SPENDING, SPENDING)
def test_sums_and_their_text(first: Spending, second: Spending) -> None:
    assert Spending.parse(str(first)) == first
    assert first + second == second + first == Spending.sum([first, second])


@pytest.mark.parametrize("text", ["", "1", "1,2,3,4,5,6,7,x", "1,2,3,4,5,6,7,8,9"])
def test_what_is_no_sum(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Spending.parse(text)
