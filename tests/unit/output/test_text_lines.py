"""The lines of a table, whatever its cells contain."""

from __future__ import annotations

from dataclasses import replace

from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus, Try
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


def test_a_row_says_how_long_its_task_waited_and_what_was_tried_before() -> None:
    spec = TaskSpec(backend="claude", prompt="p", fallback=["codex"])
    refused = Try(backend="codex", model="gpt", error="429", error_kind=ErrorKind.RATE_LIMITED)
    overloaded = Try(backend="codex", model="gpt", error="529", error_kind=ErrorKind.OVERLOADED)
    result = TaskResult(
        index=0,
        status=TaskStatus.OK,
        exit_code=0,
        duration_seconds=2.5,
        backend="codex",
        model="gpt",
        waited_seconds=723.4,
        rejections=2,
        tried=[
            Try(
                backend="claude",
                model="opus",
                error="usage\nlimit",
                retry_at="2030-01-02T12:00:00Z",
            ),
            Try(backend="codex", model="mini", error="no quota"),
            refused,
            refused,
            overloaded,
            overloaded,
        ],
    )
    report = Report(run_id="r", specs=[spec], results=[result], started_ms=0, ended_ms=4200)
    closed = until("2030-01-02T12:00:00Z")
    assert list(text_lines.table(report, 80, "TASK"))[4:-1] == [
        "1    codex        OK       2.50s      p",
        "     Waited 12m 3s for limits, refused 2 times",
        f"     Tried claude first: usage limit (closed{closed})",
        "     Tried codex:mini first: no quota",
        "     Tried 2 times before: 529",
    ]
    assert text_lines.title_line(spec, result) == "[1] codex OK 2.50s p"
    assert list(text_lines.history(spec, replace(result, waited_seconds=None, tried=[]))) == [
        "Refused 2 times"
    ]
    held_up = replace(result, rejections=0, tried=[overloaded])
    assert list(text_lines.history(spec, held_up)) == [
        "Waited 12m 3s for limits",
        "Tried once before: 529",
    ]
