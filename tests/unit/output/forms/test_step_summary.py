"""The summary and the annotations in a job of GitHub Actions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from clinvk.core.spec import TaskStatus
from clinvk.output.forms import step_summary
from clinvk.runs.report import Report
from tests.unit.output.forms import presented

OK, FAILED, CANCELED = TaskStatus.OK, TaskStatus.FAILED, TaskStatus.CANCELED


def text(run: Report) -> str:
    return "".join(step_summary.summary(run, "Total: x"))


@given(presented.reports())
def test_a_row_for_each_task_without_markup_whatever_the_texts(run: Report) -> None:
    rows = text(run).split("\n")[4:-2]
    assert len(rows) == len(run.results)
    for row in rows:
        assert row.replace("\\|", "").count("|") == 7
        assert "<" not in row
    assert all(line.startswith("::error title=") for line in step_summary.annotations_of(run))
    assert not any("\n" in line or "\r" in line for line in step_summary.annotations_of(run))


def test_failures_come_first() -> None:
    rows = text(presented.report(OK, FAILED, CANCELED, FAILED, error="a|b <i>")).split("\n")[4:-2]
    assert rows == [
        r"| 2 | echo | FAILED (failed) | 1.50 s | p | a\|b &lt;i&gt; |",
        r"| 4 | echo | FAILED (failed) | 1.50 s | p | a\|b &lt;i&gt; |",
        "| 1 | echo | OK | 1.50 s | p |  |",
        "| 3 | echo | CANCELED | 1.50 s | p |  |",
    ]


def test_it_ends_where_github_would_refuse_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_summary, "LIMIT_BYTES", 100)
    assert text(presented.report(*[OK] * 9)).endswith("\n7 more tasks are not shown.\n\n")


def test_annotations_of_the_first_failures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    form = step_summary.make(presented.presentation("step_summary", path))
    assert form is not None
    form.end(presented.report(*[FAILED] * 12, error="50%\nof it"))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "::error title=[1] p%3A failed::50%25 of it"
    assert said[-1] == "::error title=clinvk::3 more tasks failed"
    assert len(said) == 10
    assert (
        path.read_text().startswith("before\n### Total\\: 12 tasks")
        or "12 tasks" in path.read_text()
    )


def test_a_summary_that_cannot_be_written_costs_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    form = step_summary.make(presented.presentation("step_summary", tmp_path))
    assert form is not None
    form.end(presented.report(OK))
    assert capsys.readouterr().err == (
        f"clinvk: step_summary: cannot write to {tmp_path}: Is a directory\n"
    )
    assert not form.has_failed
