"""In a job of GitHub Actions: a summary of the run on the job's page, and annotations of failures.

GitHub shows the file that GITHUB_STEP_SUMMARY names, as Markdown, up to 1 MiB of each step, and
lines on standard error such as `::error title=…::…` as annotations, up to ten of each step.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

from clinvk.core.sanitize import one_line
from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.output.reporter import FileReporter, Presentation
from clinvk.output.text_width import fit, title
from clinvk.runs.report import FAILED, Report

LIMIT_BYTES = 1 << 19
"""Half of what GitHub takes, since one step may run clinvk more than once."""
ANNOTATIONS = 10
CELL_CHARS = 160
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")


def make(presentation: Presentation) -> StepSummary | None:
    """Make the form where GitHub asks for it, unless `--no-step-summary` was given."""
    path = presentation.view.paths.get(StepSummary.name)
    return StepSummary(presentation, Path(path)) if path else None


class StepSummary(FileReporter):
    """Writes the summary, and an annotation for each failure."""

    name = "step_summary"

    def __init__(self, presentation: Presentation, path: Path) -> None:
        super().__init__(presentation.streams, path)
        self._total = presentation.formatter.total

    @property
    def has_failed(self) -> bool:
        """False: nobody asked for the summary, so nothing depends on it."""
        return False

    def write_report(self, report: Report) -> None:
        """Append the summary to what the step has written already, and print the annotations."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.writelines(summary(report, self._total(report)))
        for line in annotations_of(report):
            self._streams.note(line)


def summary(report: Report, total: str) -> Iterator[str]:
    """Yield the summary as Markdown: the totals, then a table, its failures first."""
    yield f"### {_cell(total)}\n\n"
    yield "| # | Backend | Status | Duration | Task | Error |\n|--:|---|---|--:|---|---|\n"
    size = 0
    rows = len(report.results)
    for number, index in enumerate(_failures_first(report)):
        row = _row(report.specs[index], report.results[index])
        size += len(row.encode("utf-8", "replace"))
        if size > LIMIT_BYTES:
            yield f"\n{rows - number} more tasks are not shown.\n"
            break
        yield row
    yield "\n"


def _failures_first(report: Report) -> Iterator[int]:
    """Yield the indexes of all tasks. Twice through the results, which need not be in memory."""
    for is_failed in (True, False):
        for index, result in enumerate(report.results):
            if (result.status in FAILED) is is_failed:
                yield index


def _row(spec: TaskSpec, result: TaskResult) -> str:
    kind = f" ({result.error_kind})" if result.status in FAILED and result.error_kind else ""
    cells = (
        str(result.index + 1),
        _cell(result.backend_of(spec)),
        result.status.upper() + kind,
        f"{result.duration_seconds:.2f} s",
        _cell(title(spec)),
        _cell(result.error or "") if result.status is not TaskStatus.CANCELED else "",
    )
    return f"| {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    """Return a text of anyone's as a cell of a table, in which nothing is markup."""
    return _MARKDOWN.sub(r"\\\1", html.escape(fit(one_line(text), CELL_CHARS), quote=False))


def annotations_of(report: Report) -> Iterator[str]:
    """Yield the commands that make GitHub show the first failures at the top of the job."""
    count = sum(report.status_counts[status] for status in FAILED)
    failed = (row for row in report.rows() if row[1].status in FAILED)
    shown = ANNOTATIONS if count <= ANNOTATIONS else ANNOTATIONS - 1
    for _, (spec, result) in zip(range(shown), failed, strict=False):
        head = _property(f"[{result.index + 1}] {title(spec)}: {result.error_kind or 'failed'}")
        yield f"::error title={head}::{_data(result.error or 'failed')}"
    if count > shown:
        yield f"::error title=clinvk::{count - shown} more tasks failed"


def _data(text: str) -> str:
    return fit(one_line(text), CELL_CHARS).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
