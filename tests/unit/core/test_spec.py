"""Results that no CLI gave, and the exit codes of errors."""

from __future__ import annotations

import pytest

from clinvk.core import errors
from clinvk.core.spec import ErrorKind, TaskResult, TaskStatus


@pytest.mark.parametrize(
    ("result", "status", "error", "attempts"),
    [
        (TaskResult.never_started(3), "canceled", "canceled before it started", 0),
        (TaskResult.unknown(3, "gone"), "lost", "gone", 1),
        (TaskResult.lost(3, "gone", 0), "lost", "lost: gone", 1),
        (TaskResult.lost(3, "gone", 1), "lost", "lost: gone", 1),
        (TaskResult.lost(3, "gone", 2), "lost", "lost 2 times, most recently: gone", 2),
        (TaskResult.canceled_and_lost(3, "gone", 2), "canceled", "canceled; gone", 2),
    ],
)
def test_results_that_no_cli_gave(
    result: TaskResult, status: str, error: str, attempts: int
) -> None:
    assert result == TaskResult(
        index=3,
        status=TaskStatus(status),
        exit_code=-1,
        duration_seconds=0.0,
        error=error,
        error_kind=ErrorKind(status),
        attempts=attempts,
    )
    assert TaskResult.from_wire(result.to_wire()) == result


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
