"""From the reader's steps to the observers' events, in the detail that the task asks for."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.core.steps import Step, StepKind
from clinvk.store.types import Lease
from workers.execution.masking import NOTHING, Masker
from workers.execution.step_feed import RAW_CHARS, StepFeed
from workers.observers import Observers, TaskStep, WorkerEvent

LEASE = Lease("run", 3, 2)
CALL = Step(kind=StepKind.TOOL_CALL, text="Bash pytest -q", tool="Bash")
USAGE = Step(kind=StepKind.USAGE)


class Seen:
    def __init__(self) -> None:
        self.steps: list[TaskStep] = []

    def saw(self, event: WorkerEvent) -> None:
        assert isinstance(event, TaskStep)
        self.steps.append(event)


def feed(detail: Any, masker: Masker = NOTHING) -> tuple[StepFeed, list[TaskStep]]:
    seen = Seen()
    return StepFeed(LEASE, 4, detail, masker, Observers([seen])), seen.steps


def test_a_summary_has_each_step_and_no_line() -> None:
    steps, seen = feed("summary")
    steps.saw('{"a": 1}', [CALL, USAGE])
    steps.saw("nothing", [])
    assert seen == [TaskStep(LEASE, 4, CALL), TaskStep(LEASE, 4, USAGE)]


def test_full_steps_have_each_line_once() -> None:
    steps, seen = feed("full")
    steps.saw('{"a": 1}', [CALL, USAGE])
    steps.saw("nothing", [])
    assert seen == [
        TaskStep(LEASE, 4, CALL, '{"a": 1}'),
        TaskStep(LEASE, 4, USAGE),
        TaskStep(LEASE, 4, Step(kind=StepKind.EVENT), "nothing"),
    ]


def test_a_line_that_is_too_long_is_left_out_and_its_steps_are_not() -> None:
    steps, seen = feed("full")
    steps.saw("x" * (RAW_CHARS + 1), [CALL])
    steps.saw("x" * (RAW_CHARS + 1), [])
    assert seen == [TaskStep(LEASE, 4, CALL)]


def test_steps_that_are_off_are_only_remembered() -> None:
    steps, seen = feed("off")
    steps.saw("x", [CALL])
    assert seen == []
    assert steps.last == "Bash pytest -q"


@pytest.mark.parametrize("later", [[], [USAGE], [Step(kind=StepKind.TOOL_RESULT, ok=True)]])
def test_the_last_step_is_the_last_that_says_something(later: list[Step]) -> None:
    steps, _ = feed("summary")
    assert steps.last == ""
    steps.saw("x", [CALL])
    steps.saw("y", later)
    assert steps.last == "Bash pytest -q"


def test_secrets_are_masked_in_steps_lines_and_the_last_step() -> None:
    steps, seen = feed("full", Masker(["pytest -q"]))
    steps.saw('{"command": "pytest -q"}', [CALL])
    masked = Step(kind=StepKind.TOOL_CALL, text="Bash ***", tool="Bash")
    assert seen == [TaskStep(LEASE, 4, masked, '{"command": "***"}')]
    assert steps.last == "Bash ***"
