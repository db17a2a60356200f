"""A comparison: each answer under its backend's name, or side by side, then the table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.output import json_document, tables, text
from clinvk.output.formatter import Formatter
from clinvk.output.sanitize import one_line
from clinvk.output.text_width import fit
from clinvk.runs.report import Report, rfc3339

LEAST_CELLS = 30
"""A narrower column cannot be read: answers then stand one below the other."""


class Compare(Formatter):
    """The form of `clinvk compare`."""

    unit = "backends"

    def header(self, specs: Sequence[TaskSpec], options: RunOptions) -> str:
        """Say what is about to run."""
        names = ", ".join(map(label, specs))
        one_by_one = "; one after the other" if options.max_parallel < len(specs) else ""
        return f"Comparing {len(specs)} backends ({names}{one_by_one})..."

    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:
        """Show an answer under its backend's name."""
        return text.block(label(spec), result, width)

    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the lines after the last answer."""
        if with_table:
            yield from _table(report, width)
        yield self.total(report)

    def total(self, report: Report) -> str:
        """Return the last line; its parts always add up."""
        return text.total(report, self.unit)

    def document(self, report: Report) -> Iterator[str]:
        """Yield the JSON document."""
        completed, failed, canceled = report.counts()
        head = {
            "run_id": report.run_id,
            "prompt": next(spec.prompt for spec in report.specs),
            "backends": [spec.name or spec.backend for spec in report.specs],
            "completed": completed,
            "failed": failed,
            "canceled": canceled,
            "total_duration_seconds": report.duration_seconds,
            "start_time": rfc3339(report.started_ms),
            "end_time": rfc3339(report.ended_ms),
        }
        return json_document.listing(head, "results", (self.entry(*row) for row in report.rows()))

    def title(self, spec: TaskSpec, result: TaskResult) -> str:
        """Return one answer's line for where it follows in full."""
        return f"{label(spec)} {result.status.upper()} {result.duration_seconds:.2f}s"


class SideBySide(Compare):
    """All answers beside each other, once they are all there; where there is room for that.

    Attributes:
        fits: whether there is.
    """

    def __init__(self, backends: int, width: int) -> None:
        self.fits = width // backends >= LEAST_CELLS

    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:
        """Say nothing yet, where there is room for all."""
        return None if self.fits else super().ended(spec, result, width)

    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the answers beside each other, then what comes after them."""
        if self.fits:
            yield from _columns(report, width)
            yield ""
        yield from super().end(report, width, with_table=with_table)


def label(spec: TaskSpec) -> str:
    """Return what a backend was called on the command line: with its model, where it has one."""
    return one_line(spec.name or spec.backend)


def _columns(report: Report, width: int) -> Iterator[str]:
    from rich.box import MINIMAL
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=MINIMAL, expand=True, padding=(0, 1), show_edge=False)
    answers = []
    for spec, result in report.rows():
        table.add_column(Text(label(spec)), ratio=1, overflow="fold")
        answers.append(Text(text.answer(result).rstrip("\n")))
    table.add_row(*answers)
    drawn = io.StringIO()
    Console(file=drawn, width=width, color_system=None).print(table)
    for line in drawn.getvalue().splitlines():
        yield line.rstrip()


def _table(report: Report, width: int) -> Iterator[str]:
    head, *rows = tables.columns(
        ("BACKEND", "STATUS", "DURATION", "MODEL", "TOKENS", "COST"),
        (_cells(spec, result) for spec, result in report.rows()),
    )
    rule = max(text.RULE_CELLS, *map(len, (head, *rows)))
    yield "Results"
    yield "=" * rule
    yield head
    yield "-" * rule
    for row, result in zip(rows, report.results, strict=True):
        yield row
        if result.error and result.status is not TaskStatus.CANCELED:
            yield fit(f"     Error: {one_line(result.error)}", max(width, rule))
    yield "-" * rule


def _cells(spec: TaskSpec, result: TaskResult) -> tuple[str, ...]:
    return (
        label(spec),
        result.status.upper(),
        f"{result.duration_seconds:.2f}s",
        result.model or spec.model or "-",
        f"{result.usage.total_tokens}" if result.usage else "-",
        "-" if result.cost_usd is None else f"${result.cost_usd:.4f}",
    )
