"""The lines of a run as text, for the kinds of runs to put together."""

from __future__ import annotations

from collections.abc import Iterator

from clinvk.core.durations import in_words
from clinvk.core.sanitize import multi_line, one_line
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus, Try
from clinvk.core.timestamps import until
from clinvk.output.text_width import first_line, fit, pad, title
from clinvk.runs.report import Report

RULE_CELLS = 60
LIMITS = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.USAGE_LIMIT})
BELOW = "     "
"""What a line about a task begins with, below the row of the task."""
ACTED = "It had called tools that can change something."
"""Said of a task that failed: what it did before may have to be looked at."""
BACKEND_CELLS = 12
COLUMNS_CELLS = 38
"""The width of the columns before the last one."""
MIN_TASK_CELLS = 10


def ended(result: TaskResult, width: int) -> str:
    """Return one line for a task that ended: the first line of its output, or its error."""
    head = f"[{result.index + 1}] "
    if result.status is TaskStatus.OK:
        return fit((head + first_line(result.output or "")).rstrip(), width)
    return _error(f"{head}{result.status.upper()}: ", result, width)


def answer(result: TaskResult, wrong: str = "") -> str:
    """Return a task's output in full, and its error after the word `wrong`, or its status."""
    said = multi_line(result.output or "").rstrip("\n")
    wrong = _error(f"{wrong or result.status.upper()}: ", result) if result.error else ""
    acted = ACTED if result.acted and result.error else ""
    return "".join(f"{part}\n" for part in (said, wrong, acted) if part)


def _error(head: str, result: TaskResult | Try, width: int | None = None) -> str:
    """Return a task's error in one line, with the time when a limit opens again, never cut."""
    said = (head + one_line(result.error or "")).rstrip()
    opens = until(result.retry_at)
    tail = f" (closed{opens})" if opens else ""
    return (said if width is None else fit(said, max(0, width - len(tail)))) + tail


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
            yield _error(f"{BELOW}Error: ", result, max(width, RULE_CELLS))
        for line in history(spec, result):
            yield fit(BELOW + line, max(width, RULE_CELLS))
    yield "-" * RULE_CELLS


def history(spec: TaskSpec, result: TaskResult) -> Iterator[str]:
    """Yield a line for what limits did to a task, and one for each route that was tried before."""
    waited_seconds, rejections = result.waited_seconds or 0.0, result.rejections
    refused = f"refused {_times(rejections)}" if rejections else ""
    if waited_seconds >= 1:
        waited = f"Waited {in_words(waited_seconds)} for limits"
        yield f"{waited}, {refused}" if refused else waited
    elif refused:
        yield refused.capitalize()
    tried: dict[str, list[Try]] = {}
    for each in result.tried:
        if each.error_kind in LIMITS and not _route(each, spec, result):
            continue  # counted as refused
        tried.setdefault(_route(each, spec, result), []).append(each)
    for route, tries in tried.items():
        how_often = f" {_times(len(tries))}" if len(tries) > 1 or not route else ""
        before = f"{route}{how_often} first" if route else f"{how_often[1:]} before"
        yield _error(f"Tried {before}: ", tries[-1]) if tries[-1].error else f"Tried {before}: ok"


def _route(each: Try, spec: TaskSpec, result: TaskResult) -> str:
    """Return where a task was tried, if not where it has ended: `claude`, or `claude:opus`."""
    if each.backend != result.backend_of(spec):
        return one_line(each.backend)
    if each.model is None or each.model == result.model:
        return ""
    return one_line(f"{each.backend}:{each.model}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _row(spec: TaskSpec, result: TaskResult, width: int) -> str:
    backend = pad(one_line(result.backend_of(spec)), BACKEND_CELLS)
    duration = took(result)
    name = fit(title(spec), max(width - COLUMNS_CELLS, MIN_TASK_CELLS))
    status = result.status.upper()
    return f"{result.index + 1:<4} {backend} {status:<8} {duration:<10} {name}".rstrip()


def took(result: TaskResult) -> str:
    """Return how long a task took, or that its result is that of an earlier run."""
    return f"{result.duration_seconds:.2f}s" if result.reused is None else "reused"


def title_line(spec: TaskSpec, result: TaskResult) -> str:
    """Return the line above a result that follows in full."""
    status = f"{result.status.upper()} {took(result)}"
    return f"[{result.index + 1}] {one_line(result.backend_of(spec))} {status} {title(spec)}"


def total(report: Report, unit: str) -> str:
    """Return the line of totals; `unit` is what the tasks are called."""
    completed, failed, canceled = report.counts()
    parts = [f"{completed} completed", f"{failed} failed"]
    if canceled:
        parts.append(f"{canceled} canceled")
    count = len(report.results)
    return f"Total: {count} {unit}, {', '.join(parts)} ({report.duration_seconds:.2f}s)"
