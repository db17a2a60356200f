"""Variants of tasks, results that no CLI gave, and the exit codes of errors."""

from __future__ import annotations

import pytest

from clinvk.core import errors
from clinvk.core.errors import WireError
from clinvk.core.spec import CostSource, ErrorKind, TaskResult, TaskSpec, TaskStatus, Try


@pytest.mark.parametrize(
    ("result", "status", "error", "attempts", "cost"),
    [
        (TaskResult.never_started(3), "canceled", "canceled before it started", 0, None),
        (TaskResult.unknown(3, "gone"), "lost", "gone", 1, None),
        (TaskResult.lost(3, "gone", 0), "lost", "lost: gone", 1, None),
        (TaskResult.lost(3, "gone", 1), "lost", "lost: gone", 1, "unknown"),
        (TaskResult.lost(3, "gone", 2), "lost", "lost 2 times, most recently: gone", 2, "unknown"),
        (TaskResult.canceled_and_lost(3, "gone", 2), "canceled", "canceled; gone", 2, "unknown"),
    ],
)
def test_results_that_no_cli_gave(
    result: TaskResult, status: str, error: str, attempts: int, cost: CostSource | None
) -> None:
    assert result == TaskResult(
        index=3,
        status=TaskStatus(status),
        exit_code=-1,
        duration_seconds=0.0,
        error=error,
        error_kind=ErrorKind(status),
        attempts=attempts,
        cost_source=cost,
    )
    assert TaskResult.from_wire(result.to_wire()) == result


def test_what_a_budget_ended_says_so() -> None:
    lost = TaskResult.canceled_and_lost(3, "gone", 2).at_budget()
    assert (lost.status, lost.error_kind) == (TaskStatus.CANCELED, ErrorKind.BUDGET)
    assert lost.error == "canceled; gone (its run came to a budget)"
    assert lost.at_budget() == lost
    failed = TaskResult.lost(3, "gone", 1)
    assert failed.at_budget() == failed


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.UsageError("x"), 2),
        (errors.TaskFileError(["x"]), 2),
        (errors.ConfigError(["x"]), 3),
        (errors.BrokerError("x"), 4),
        (errors.WireError("x"), 1),
    ],
)
def test_exit_codes(error: errors.ClinvkError, exit_code: int) -> None:
    assert error.exit_code == exit_code


def test_a_variant_has_its_own_fields() -> None:
    spec = TaskSpec(
        backend="a",
        prompt="x",
        model="m",
        fallback=["b:n", "c"],
        variants={"b:n": {"extra": ["-y"]}, "c": {"model": "o", "timeout_seconds": 3}},
    )
    spec = TaskSpec.from_wire(spec.to_wire())
    assert spec.variant("b:n") == TaskSpec(backend="b", prompt="x", model="n", extra=["-y"])
    assert spec.variant("c") == TaskSpec(backend="c", prompt="x", model="o", timeout_seconds=3)
    assert spec.variant("d") == TaskSpec(backend="d", prompt="x")


def test_a_task_may_begin_with_its_fallback() -> None:
    spec = TaskSpec(
        backend="a",
        prompt="x",
        model="m",
        extra=["-a"],
        alternatives=["d"],
        fallback=["b:n", "c", "e:o"],
        variants={"c": {"extra": ["-c"], "model": "k"}, "e:o": {"extra": ["-e"]}},
    )
    begun = spec.without_choices("c")
    assert (begun.backend, begun.model, begun.extra) == ("c", "k", ["-c"])
    assert (begun.alternatives, begun.fallback) == ([], ["b:n", "e:o"])
    for entry in ("b:n", "e:o"):
        assert begun.variant(entry) == spec.variant(entry)
    assert TaskSpec(backend="a", prompt="x", fallback=["b"]).without_choices("b") == TaskSpec(
        backend="b", prompt="x"
    )


@pytest.mark.parametrize("fields", [{"prompt": ""}, {"extra": "x"}, {"other": 1}])
def test_a_variant_with_fields_that_do_not_fit(fields: dict[str, object]) -> None:
    spec = TaskSpec(backend="a", prompt="x", fallback=["b"], variants={"b": fields})
    with pytest.raises(WireError, match="variant b: "):
        spec.variant("b")


def test_a_result_keeps_what_was_tried_before() -> None:
    tried = [Try(backend="a", error="no", error_kind=ErrorKind.QUOTA), Try(backend="b", cost_usd=1)]
    result = TaskResult(
        index=0, status=TaskStatus.OK, exit_code=0, duration_seconds=1, tried=tried, rejections=2
    )
    assert TaskResult.from_wire(result.to_wire()) == result
