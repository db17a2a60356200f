"""The form that writes the page of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinvk.core.spec import TaskStatus
from clinvk.core.steps import StepKind, StepRecord
from clinvk.output.forms import report as form
from clinvk.runs.client import Event
from tests.unit.output.forms import presented


def message(text: str, number: int = 1, index: int = 0) -> StepRecord:
    return StepRecord(
        index=index, attempt=1, kind=StepKind.MESSAGE, text=text, time="", number=number
    )


def test_it_is_written_when_the_run_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    made = form.make(presented.presentation("report", path))
    assert made is not None
    assert made.steps_wanted == "all"
    made.saw(Event(kind="step", index=0, step=message("I read the tests.")))
    assert not path.exists()
    made.end(presented.report(TaskStatus.OK))
    assert "I read the tests." in path.read_text()


def test_the_newest_steps_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "STEPS", 3)
    kept = form.NewestSteps()
    for number, index in enumerate([0, 1, 1, 2, 2], start=1):
        kept.add(message(f"m{number}", number, index))
    kept.add(message(""))
    assert kept.lines() == {1: ["m3"], 2: ["m4", "m5"]}
