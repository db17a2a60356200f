"""The lines of a run as text, for the kinds of runs to put together."""

from __future__ import annotations

from collections.abc import Iterator

from clinvk.core.sanitize import multi_line, one_line
from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.output.text_width import first_line, fit, pad, title
from clinvk.runs.report import Report

RULE_CELLS = 60
BACKEND_CELLS = 12
COLUMNS_CELLS = 38
"""The width of the columns before the last one."""
MIN_TASK_CELLS = 10


def ended(result: TaskResult, width: int) -> str:
    """Return one line for a task that ended: the first line of its output, or its error."""
    said = (
        first_line(result.output or "")
        if result.status is TaskStatus.OK
        else f"{result.status.upper()}: {one_line(result.error or '')}"
    )
    return fit(f"[{result.index + 1}] {said}".rstrip(), width)


def answer(result: TaskResult, wrong: str = "") -> str:
    """Return a task's output in full, and its error after the word `wrong`, or its status."""
    said = multi_line(result.output or "").rstrip("\n")
    wrong = f"{wrong or result.status.upper()}: {one_line(result.error)}" if result.error else ""
    return "".join(f"{part}\n" for part in (said, wrong) if part)


def block(head: str, result: TaskResult, width: int) -> str:
    """Return a task's output in full under a header."""
    return f"{head}\n{'-' * min(width, RULE_CELLS)}\n{answer(result)}"


def table(report: Report, width: int, unit: str) -> Iterator[str]:
    """Yield the lines of the table, in task order; `unit` is the header of its last column."""
    yield "Results"
    yield "=" * RULE_CELLS
    yield f"{'#':<5}{'BACKEND':<13}{'STATUS':<9}{'DURATION':<11}{unit}"
    yield "-" * RULE_CELLS
    for spec, result in report.rows():
        yield _row(spec, result, width)
        if result.error and result.status is not TaskStatus.CANCELED:
            yield fit(f"     Error: {one_line(result.error)}", max(width, RULE_CELLS))
    yield "-" * RULE_CELLS


def _row(spec: TaskSpec, result: TaskResult, width: int) -> str:
    backend = pad(one_line(spec.backend), BACKEND_CELLS)
    duration = f"{result.duration_seconds:.2f}s"
    name = fit(title(spec), max(width - COLUMNS_CELLS, MIN_TASK_CELLS))
    status = result.status.upper()
    return f"{result.index + 1:<4} {backend} {status:<8} {duration:<10} {name}".rstrip()


def title_line(spec: TaskSpec, result: TaskResult) -> str:
    """Return the line above a result that follows in full."""
    status = f"{result.status.upper()} {result.duration_seconds:.2f}s"
    return f"[{result.index + 1}] {one_line(spec.backend)} {status} {title(spec)}"


def total(report: Report, unit: str) -> str:
    """Return the line of totals; `unit` is what the tasks are called."""
    completed, failed, canceled = report.counts()
    parts = [f"{completed} completed", f"{failed} failed"]
    if canceled:
        parts.append(f"{canceled} canceled")
    count = len(report.results)
    return f"Total: {count} {unit}, {', '.join(parts)} ({report.duration_seconds:.2f}s)"
