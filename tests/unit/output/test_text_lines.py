"""The lines of a table, whatever its cells contain."""

from __future__ import annotations

from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.core.timestamps import until
from clinvk.output import text_lines
from clinvk.runs.report import Report


def test_columns_stay_in_line_whatever_stands_in_them() -> None:
    specs = [
        TaskSpec(backend="claude", prompt="p", name="n"),
        TaskSpec(backend="a-very-long-backend", prompt="p\nq", id="i"),
        TaskSpec(backend="漢字", prompt="\nfirst\nsecond"),
    ]
    results = [
        TaskResult(index=0, status=TaskStatus.CANCELED, exit_code=-1, duration_seconds=0),
        TaskResult(index=1, status=TaskStatus.TIMEOUT, exit_code=-1, duration_seconds=3600.5),
        TaskResult(index=2, status=TaskStatus.LOST, exit_code=-1, duration_seconds=1, error="e\nf"),
    ]
    report = Report(run_id="r", specs=specs, results=results, started_ms=0, ended_ms=4200)
    assert list(text_lines.table(report, 80, "TASK"))[3:] == [
        "-" * 60,
        "1    claude       CANCELED 0.00s      n",
        "2    a-very-lo... TIMEOUT  3600.50s   i",
        "3    漢字         LOST     1.00s      first",
        "     Error: e f",
        "-" * 60,
    ]
    assert (
        text_lines.total(report, "tasks")
        == "Total: 3 tasks, 0 completed, 2 failed, 1 canceled (4.20s)"
    )


def test_an_error_says_until_when_a_limit_is_closed() -> None:
    result = TaskResult(
        index=0,
        status=TaskStatus.FAILED,
        exit_code=1,
        duration_seconds=1,
        error="You have hit your limit " + "of this week " * 20,
        retry_at="2030-01-02T12:00:00Z",
        acted=True,
    )
    closed = until(result.retry_at)
    assert closed.startswith(" until 2030-01-0")
    line = text_lines.ended(result, 80)
    assert line.startswith("[1] FAILED: You have hit your limit of this")
    assert line.endswith(f"... (closed{closed})")
    assert len(line) <= 80
    whole = text_lines.answer(result, "Error").splitlines()
    assert whole[0].endswith(f"this week (closed{closed})")
    assert whole[1:] == [text_lines.ACTED]
