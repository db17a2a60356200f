"""A chain: each step under a header of its own, then the table, then the totals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from clinvk.core.spec import RunOptions, RunSummary, TaskResult, TaskSpec
from clinvk.output import json_document, text
from clinvk.output.formatter import Formatter
from clinvk.output.sanitize import one_line
from clinvk.runs.report import FAILED, Report, rfc3339


class Chain(Formatter):
    """The form of `clinvk chain`."""

    unit = "steps"

    def header(self, specs: Sequence[TaskSpec], options: RunOptions) -> str:
        """Say what is about to run."""
        suffix = "" if options.fail_fast else " (going on after failures)"
        return f"Running {len(specs)} steps{suffix}..."

    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:
        """Show a step: its header, its output. One that was not reached is in the table only."""
        if result.attempts == 0:
            return None
        return text.block(_heading(spec, result), result, width)

    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the lines after the last step's."""
        if with_table:
            yield from text.table(report, width, "STEP")
        yield self.total(report)

    def total(self, report: Report) -> str:
        """Return the last line; its parts always add up."""
        completed, failed, canceled = report.counts()
        parts = [f"{completed}/{len(report.specs)} steps completed"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{canceled} canceled"] if canceled else []
        return f"Total: {', '.join(parts)} ({report.duration_seconds:.2f}s)"

    def document(self, report: Report) -> Iterator[str]:
        """Yield the JSON document; `failed_step` is the first one that failed, 0 if none did."""
        completed, _, canceled = report.counts()
        failed = (result.index + 1 for result in report.results if result.status in FAILED)
        head = {
            "run_id": report.run_id,
            "total_steps": len(report.specs),
            "completed_steps": completed,
            "failed_step": next(failed, 0),
            "canceled_steps": canceled,
            "total_duration_seconds": report.duration_seconds,
            "start_time": rfc3339(report.started_ms),
            "end_time": rfc3339(report.ended_ms),
        }
        return json_document.listing(head, "results", (self.entry(*row) for row in report.rows()))

    def entry(self, spec: TaskSpec, result: TaskResult) -> dict[str, Any]:
        """Return one step's entry in a document: its number and its name come first."""
        whole = json_document.entry(spec, result)
        head = {"step": whole.pop("index") + 1, "name": whole.pop("task_name", "")}
        return head | whole

    def status(self, run: RunSummary) -> dict[str, Any]:
        """Return how far a chain is; `current_step` is the one that is next to end."""
        whole = json_document.status(run)
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
        } | {name: whole[name] for name in ("start_time", "end_time") if name in whole}

    def title(self, spec: TaskSpec, result: TaskResult) -> str:
        """Return one step's line for where its output follows in full."""
        status = f"{result.status.upper()} {result.duration_seconds:.2f}s"
        return f"{_heading(spec, result)} {status}"


def _heading(spec: TaskSpec, result: TaskResult) -> str:
    name = one_line(spec.name or "")
    backend = one_line(spec.backend)
    return f"Step {result.index + 1}: " + (f"{name} ({backend})" if name else backend)
