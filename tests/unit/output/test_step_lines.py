"""Steps as text: one safe line each, with a note where something is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.cells import cell_len

from clinvk.core.spec import ErrorKind, Usage
from clinvk.core.steps import Step, StepKind, StepRecord
from clinvk.output import step_lines
from clinvk.output.step_lines import StepLines

pytestmark = pytest.mark.usefixtures("east")


def record(number: int = 1, **more: Any) -> StepRecord:
    fields: dict[str, Any] = {"kind": StepKind.MESSAGE, "text": "hello", "index": 0, "attempt": 1}
    return StepRecord(**fields | {"time": "2026-01-02T22:04:05Z", "number": number} | more)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step(kind=StepKind.MESSAGE, text="a\x1b]0;title\x07\nb"), "a b"),
        (Step(kind=StepKind.TOOL_CALL, text="Edit src/a.py", tool="Edit"), "Edit src/a.py"),
        (Step(kind=StepKind.TOOL_CALL, tool="Edit"), "Edit"),
        (Step(kind=StepKind.TOOL_RESULT, ok=True), "result: ok"),
        (Step(kind=StepKind.TOOL_RESULT, ok=True, tool="Read", size_bytes=0), "Read: ok, 0 B"),
        (Step(kind=StepKind.TOOL_RESULT, ok=False, size_bytes=5 << 20), "result: failed, 5.0 MiB"),
        (Step(kind=StepKind.USAGE, usage=Usage(input_tokens=3, output_tokens=4)), "7 tokens"),
        (Step(kind=StepKind.USAGE, usage=Usage(total_tokens=999_999)), "1.0M tokens"),
        (Step(kind=StepKind.USAGE), ""),
        (Step(kind=StepKind.LIMIT, text="5-hour limit"), "limit: 5-hour limit"),
        (Step(kind=StepKind.LIMIT, error_kind=ErrorKind.QUOTA), "limit: quota"),
        (Step(kind=StepKind.LIMIT, until="soon"), "limit: near"),
        (Step(kind=StepKind.RETRY), "retry: the CLI tries again"),
        (Step(kind=StepKind.RETRY, text="retry 2/10", delay_seconds=0.6), "retry 2/10, in 1 s"),
        (Step(kind=StepKind.ERROR, text="no"), "error: no"),
        (Step(kind=StepKind.EVENT), ""),
        (Step(kind="of a newer version", text="x"), "x"),
    ],
)
def test_a_step_in_a_line(step: Step, text: str) -> None:
    assert step_lines.describe(step) == text


def test_lines_have_the_time_and_the_task() -> None:
    lines = StepLines(with_task=True, with_time=True, width=None)
    assert list(lines.lines(record(index=2))) == ["00:04:05 [3] hello"]
    assert list(lines.lines(record(time="?"))) == ["--:--:-- [1] hello"]
    lines = StepLines(with_task=False, with_time=False, width=None)
    assert list(lines.lines(record())) == ["hello"]


@pytest.mark.parametrize("width", [5, 20, 60])
def test_a_line_is_as_wide_as_the_terminal_at_most(width: int) -> None:
    lines = StepLines(with_task=True, with_time=True, width=width)
    (line,) = lines.lines(record(text="漢字 and more " * 40))
    assert width - 2 <= cell_len(line) <= width


def test_missing_steps_and_a_new_attempt_are_said_once() -> None:
    lines = StepLines(with_task=True, with_time=False, width=None)
    assert list(lines.lines(record(3))) == ["[1] (2 steps were dropped)", "[1] hello"]
    assert list(lines.lines(record(4))) == ["[1] hello"]
    assert list(lines.lines(record(5, attempt=2))) == ["[1] (attempt 2)", "[1] hello"]
    assert list(lines.lines(record(6, attempt=2))) == ["[1] hello"]
    assert list(lines.lines(record(1, index=1))) == ["[2] hello"]


def test_steps_that_are_not_shown_are_not_missing() -> None:
    lines = StepLines(with_task=False, with_time=False, width=None)
    lines.skip(record(1))
    lines.skip(record(5))
    lines.skip(record(6))
    assert list(lines.lines(record(7))) == ["(3 steps were dropped)", "hello"]


def test_json_of_a_step_has_the_keys_that_say_something() -> None:
    entry = step_lines.entry(record(sequence=9, usage=Usage(total_tokens=1), ok=False))
    line = step_lines.json_line(entry)
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "index": 0,
        "attempt": 1,
        "sequence": 9,
        "number": 1,
        "time": "2026-01-02T22:04:05Z",
        "kind": "message",
        "text": "hello",
        "ok": False,
        "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 1},
    }
    assert step_lines.json_line({"text": "\ud800"}) == '{"text": "\\ud800"}\n'
