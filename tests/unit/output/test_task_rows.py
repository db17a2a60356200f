"""The rows of the display: what a task does, in columns that fit."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from clinvk.core.spec import Usage
from clinvk.core.steps import Step, StepKind
from clinvk.output.task_rows import Activity, Row, lay_out

ROWS = [
    Row(
        "5.4s", "[1]", "claude", "review the auth module and say what is wrong", "Bash pytest", 900
    ),
    Row("1:05", "[2]", "codex", "漢字 write docs", "", 0),
    Row("0.1s", "[10]", "gemini", "tests", "I will read the whole system first " * 3, 123_456),
]


def drawn(rows: list[Row], width: int) -> list[str]:
    return ["".join(text for text, _ in parts).rstrip() for parts in lay_out(rows, width)]


NARROW = """
     5.4s [1]  Bash pytest
     1:05 [2]  漢字 write docs
     0.1s [10] I will read the whole..."""
MIDDLE = """
     5.4s [1]  review the...  Bash pytest           900 tok
     1:05 [2]  漢字 write...
     0.1s [10] tests          I will read the... 123.5k tok"""
WIDE = """
     5.4s [1]  claude review the auth module...   Bash pytest                               900 tok
     1:05 [2]  codex  漢字 write docs
     0.1s [10] gemini tests                       I will read the whole system first...  123.5k tok
"""


@pytest.mark.parametrize(("width", "text"), [(40, NARROW), (60, MIDDLE), (100, WIDE)])
def test_columns_that_say_less_give_way(width: int, text: str) -> None:
    assert drawn(ROWS, width) == text.splitlines()[1:]


def test_names_have_the_room_before_the_first_step() -> None:
    rows = [Row("0.1s", "[1]", "echo", "a task with a long name", "", 0)]
    assert drawn(rows, 60) == ["     0.1s [1] echo a task with a long name"]
    assert drawn(rows, 30) == ["     0.1s [1] a task with..."]
    assert lay_out([], 60) == []


@pytest.mark.parametrize("width", [16, 30, 45, 60, 80, 100, 160, 300])
def test_no_row_reaches_the_last_cell(width: int) -> None:
    for rows in (ROWS, ROWS[1:2], ROWS[:1]):
        assert max(map(cell_len, drawn(rows, width))) < width


def call(text: str = "Bash pytest -q") -> Step:
    return Step(kind=StepKind.TOOL_CALL, text=text, tool="Bash")


def test_the_last_step_and_how_its_tool_ended() -> None:
    activity = Activity(0.0)
    shown = []
    for step in (
        Step(kind=StepKind.TOOL_RESULT, ok=True, size_bytes=3),
        Step(kind=StepKind.MESSAGE, text="I look"),
        call(),
        Step(kind=StepKind.USAGE, usage=Usage(input_tokens=3, output_tokens=4)),
        Step(kind=StepKind.EVENT),
        Step(kind=StepKind.TOOL_RESULT, ok=True),
        Step(kind=StepKind.TOOL_RESULT, ok=True),
        call("Edit a"),
        Step(kind=StepKind.TOOL_RESULT, ok=False),
        Step(kind=StepKind.TOOL_RESULT, ok=False),
    ):
        activity.saw(step)
        shown.append(activity.step)
    assert shown == [
        *("", "I look", "Bash pytest -q", "Bash pytest -q", "Bash pytest -q"),
        *("Bash pytest -q: ok", "Bash pytest -q: ok", "Edit a", "Edit a: failed"),
        "result: failed",
    ]
    assert activity.tokens == 7
