"""The table of results as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from hypothesis import given

from clinvk.core.spec import TaskStatus
from clinvk.output.forms import csv as form
from clinvk.runs.report import Report
from tests.unit.output.forms import presented


def rows(run: Report) -> list[dict[str, str]]:
    text = "".join(form.table(run))
    return list(csv.DictReader(io.StringIO(text, newline="")))


@given(presented.reports())
def test_a_row_for_each_task_and_no_formula_whatever_the_texts(run: Report) -> None:
    found = rows(run)
    assert [row["index"] for row in found] == [str(index) for index in range(len(run.results))]
    for row, result in zip(found, run.results, strict=True):
        output = (result.output or "") if result.status is TaskStatus.OK else ""
        assert row["output"] in {output, f"'{output}"}
        for name, cell in row.items():
            is_number = name.endswith(("seconds", "tokens", "usd", "code"))
            assert is_number or not cell.startswith(form.FORMULA)


def test_what_a_row_has() -> None:
    (row,) = rows(presented.report(TaskStatus.FAILED, error="-1"))
    given = {name: cell for name, cell in row.items() if cell}
    assert given == {
        "index": "0",
        "backend": "echo",
        "status": "failed",
        "error_kind": "failed",
        "error": "'-1",
        "exit_code": "0",
        "duration_seconds": "1.5",
        "attempts": "1",
    }


def test_it_is_written_when_the_run_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    made = form.make(presented.presentation("csv", path))
    assert made is not None
    made.end(presented.report(TaskStatus.OK, TaskStatus.OK))
    assert len(path.read_text().splitlines()) == 3
