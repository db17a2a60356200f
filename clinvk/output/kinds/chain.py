"""A chain: each step under its own header, then the table, then the totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from clinvk.core.sanitize import one_line
from clinvk.core.spec import RunOptions, RunSummary, TaskResult, TaskSpec
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.output import documents, money, text_lines
from clinvk.output.formatter import Formatter
from clinvk.runs.report import FAILED, Report


class Chain(Formatter):
    """How `clinvk chain` is shown."""

    unit = "steps"

    def header(self, specs: Sequence[TaskSpec], options: RunOptions) -> str:
        """Return the line that says what is about to run."""
        suffix = "" if options.fail_fast else " (continuing after failures)"
        return f"Running {len(specs)} steps{suffix}..."

    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:
        """Return a step's header and output; a step that never started is in the table only."""
        if result.attempts == 0:
            return None
        return text_lines.block(_heading(spec, result), result, width)

    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the table and the totals."""
        if with_table:
            yield from text_lines.table(report, width, "STEP")
        yield self.total(report)
        yield from money.cost_line(report.spending)

    def total(self, report: Report) -> str:
        """Return the line of totals."""
        completed, failed, canceled = report.counts()
        parts = [f"{completed}/{len(report.specs)} steps completed"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{canceled} canceled"] if canceled else []
        return f"Total: {', '.join(parts)} ({report.duration_seconds:.2f}s)"

    def document(self, report: Report) -> Iterator[str]:
        """Yield the JSON document; `failed_step` is the first that failed, or 0."""
        completed, _, canceled = report.counts()
        failed = (result.index + 1 for result in report.results if result.status in FAILED)
        head = {
            "run_id": report.run_id,
            "total_steps": len(report.specs),
            "completed_steps": completed,
            "failed_step": next(failed, 0),
            "canceled_steps": canceled,
            "total_duration_seconds": report.duration_seconds,
            "start_time": rfc3339_from_ms(report.started_ms),
            "end_time": rfc3339_from_ms(report.ended_ms),
            **documents.sums(report),
        }
        return documents.listing(head, "results", (self.entry(*row) for row in report.rows()))

    def entry(self, spec: TaskSpec, result: TaskResult) -> dict[str, Any]:
        """Return one step's entry in a document, its number and name first."""
        whole = documents.entry(spec, result)
        head = {"step": whole.pop("index") + 1, "name": whole.pop("task_name", "")}
        return head | whole

    def status(self, run: RunSummary) -> dict[str, Any]:
        """Return the state of a chain; `current_step` is the step that will end next, or 0."""
        whole = documents.status(run)
        current = run.ended + 1 if run.state == "running" and run.ended < run.total else 0
        return {
            "run_id": whole.pop("run_id"),
            "kind": whole.pop("kind"),
            "state": whole.pop("state"),
            "total_steps": whole.pop("total_tasks"),
            "completed_steps": whole.pop("completed"),
            "failed_steps": whole.pop("failed"),
            "canceled_steps": whole.pop("canceled"),
            "current_step": current,
            "stop_on_failure": whole.pop("fail_fast"),
        } | {
            name: whole[name]
            for name in ("start_time", "end_time", "budget", "requires")
            if name in whole
        }

    def title(self, spec: TaskSpec, result: TaskResult) -> str:
        """Return the line above an output that follows in full."""
        status = f"{result.status.upper()} {text_lines.took(result)}"
        return f"{_heading(spec, result)} {status}"


def _heading(spec: TaskSpec, result: TaskResult) -> str:
    name = one_line(spec.name or "")
    backend = one_line(result.backend_of(spec))
    return f"Step {result.index + 1}: " + (f"{name} ({backend})" if name else backend)
