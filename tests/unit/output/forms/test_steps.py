"""Steps as lines on stderr, for `-v`."""

from __future__ import annotations

import io
from typing import Any

import pytest

from clinvk.core.spec import RunOptions, TaskSpec, Usage
from clinvk.core.steps import StepKind, StepRecord
from clinvk.output.forms import steps
from clinvk.output.kinds import formatter_of
from clinvk.output.reporter import Presentation, View
from clinvk.output.streams import Output, Streams
from clinvk.runs.client import Event


def made(view: View) -> steps.Steps | None:
    return steps.make(
        Presentation(
            view=view,
            formatter=formatter_of("parallel"),
            specs=[TaskSpec(backend="echo", prompt="p")] * 3,
            options=RunOptions(),
            streams=Streams(Output(io.StringIO())),
            width=80,
        )
    )


def event(index: int, number: int, kind: StepKind, **more: Any) -> Event:
    step = StepRecord(index=index, attempt=1, time="", number=number, kind=kind, **more)
    return Event(kind="step", index=index, step=step)


def test_it_is_made_where_it_is_asked_for() -> None:
    assert made(View()) is None
    form = made(View(with_steps=True, quiet=True))
    assert form is not None
    assert form.steps_wanted == "all"


def test_steps_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    form = made(View(with_steps=True))
    assert form is not None
    form.saw(event(2, 1, StepKind.TOOL_CALL, text="Bash pytest -q"))
    form.saw(event(2, 2, StepKind.USAGE, usage=Usage(total_tokens=1)))
    form.saw(event(2, 3, StepKind.EVENT, raw="{}"))
    form.saw(event(2, 5, StepKind.MESSAGE, text="x" * 300))
    form.saw(Event(kind="started", index=0))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (f"[3] Bash pytest -q\n[3] (1 steps were dropped)\n[3] {'x' * 300}\n")
