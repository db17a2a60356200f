"""Tasks at once: a line as each ends, then the table, then the totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec
from clinvk.output import documents, money, text_lines
from clinvk.output.formatter import Formatter
from clinvk.runs.report import Report


class Parallel(Formatter):
    """How `clinvk parallel` is shown."""

    unit = "tasks"

    def header(self, specs: Sequence[TaskSpec], options: RunOptions) -> str:
        """Return the line that says what is about to run."""
        suffix = ", fail-fast" if options.fail_fast else ""
        return f"Running {len(specs)} tasks (max {options.max_parallel} parallel{suffix})..."

    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:  # noqa: ARG002
        """Return one line for a task that ended."""
        return text_lines.ended(result, width)

    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the table and the totals."""
        yield ""
        if with_table:
            yield from text_lines.table(report, width, "TASK")
        yield self.total(report)
        yield from money.cost_line(report.spending)

    def total(self, report: Report) -> str:
        """Return the line of totals."""
        return text_lines.total(report, self.unit)

    def document(self, report: Report) -> Iterator[str]:
        """Yield the JSON document of a run."""
        rows = (self.entry(*row) for row in report.rows())
        return documents.listing(documents.head(report), "results", rows)

    def title(self, spec: TaskSpec, result: TaskResult) -> str:
        """Return the line above a result that follows in full."""
        return text_lines.title_line(spec, result)
