"""A JUnit report, as CI systems read it: one test case per task.

What is wrong with a task is a `failure`, what is wrong with the machines or accounts that it needs
an `error`; a canceled task is `skipped`. The form is that of Jenkins's `junit-10.xsd`, which knows
properties of suites only: so the costs of single tasks are not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

from clinvk.core.sanitize import multi_line, one_line
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.output.reporter import WholeFile
from clinvk.output.text_width import title
from clinvk.runs.report import Report

INFRASTRUCTURE = frozenset(
    {
        ErrorKind.RATE_LIMITED,
        ErrorKind.USAGE_LIMIT,
        ErrorKind.OVERLOADED,
        ErrorKind.AUTH,
        ErrorKind.QUOTA,
        ErrorKind.LOST,
        ErrorKind.NOT_INSTALLED,
    }
)
"""The kinds of errors that say nothing about the task itself."""
NONCHARACTERS = {0xFFFE: " ", 0xFFFF: " "}
"""What XML cannot contain, beside control characters and surrogates."""


class JUnit(WholeFile):
    """Writes a run as a JUnit report."""

    name = "junit"

    def pieces(self, report: Report) -> Iterator[str]:
        """Yield the report."""
        return document(report)


make = JUnit.if_named


def document(report: Report) -> Iterator[str]:
    """Yield the report of a run, piece by piece."""
    outcomes = Counter(_outcome(result) for result in report.results)
    counts = {
        "tests": len(report.results),
        "failures": outcomes["failure"],
        "errors": outcomes["error"],
    }
    time = f"{report.duration_seconds:.3f}"
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f"<testsuites{_attributes(name='clinvk', time=time, **counts)}>\n"
    started = rfc3339_from_ms(report.started_ms)
    suite = {"name": report.run_id, "time": time, "timestamp": started, **counts}
    yield f"<testsuite{_attributes(**suite, skipped=outcomes['skipped'])}>\n"
    yield from _properties(report.results)
    for spec, result in report.rows():
        yield _case(spec, result)
    yield "</testsuite>\n</testsuites>\n"


def _outcome(result: TaskResult) -> str:
    """Return the element that says what is wrong; "" where nothing is."""
    if result.status is TaskStatus.OK:
        return ""
    if result.status is TaskStatus.CANCELED:
        return "skipped"
    return "error" if result.error_kind in INFRASTRUCTURE else "failure"


def _properties(results: Iterable[TaskResult]) -> Iterator[str]:
    """Yield what the whole run has used, where that is known."""
    tokens, cost = 0, 0.0
    for result in results:
        tokens += result.usage.total_tokens if result.usage else 0
        cost += result.cost_usd or 0.0
    known = {"total_tokens": tokens, "cost_usd": round(cost, 6)}
    lines = [f"<property{_attributes(name=n, value=v)}/>\n" for n, v in known.items() if v]
    if lines:
        yield from ("<properties>\n", *lines, "</properties>\n")


def _case(spec: TaskSpec, result: TaskResult) -> str:
    backend = result.backend_of(spec)
    attributes = _attributes(
        name=f"[{result.index + 1}] {spec.id or title(spec)}",
        classname=f"clinvk.{backend}",
        time=f"{result.duration_seconds:.3f}",
    )
    inside = "".join((*_what_is_wrong(result), *_streams(result)))
    return f"<testcase{attributes}>{inside}</testcase>\n"


def _what_is_wrong(result: TaskResult) -> Iterator[str]:
    if outcome := _outcome(result):
        error = result.error or result.status
        attributes = _attributes(type=result.error_kind or result.status, message=one_line(error))
        yield f"<{outcome}{attributes}>{_text(error)}</{outcome}>"


def _streams(result: TaskResult) -> Iterator[str]:
    """Yield the answer, and the warnings."""
    if result.output:
        yield f"<system-out>{_text(result.output)}</system-out>"
    if result.warnings:
        yield f"<system-err>{_text(chr(10).join(result.warnings))}</system-err>"


def _attributes(**values: object) -> str:
    shown = {name: one_line(str(value)).translate(NONCHARACTERS) for name, value in values.items()}
    return "".join(f" {name}={quoteattr(value)}" for name, value in shown.items())


def _text(text: str) -> str:
    return escape(multi_line(text).translate(NONCHARACTERS))
