"""A comparison: each answer under its backend's name, or in columns, then the table."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.cells import cell_len

from clinvk.core.sanitize import one_line
from clinvk.core.spec import RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.output import documents, money, tables, text_lines
from clinvk.output.formatter import Formatter
from clinvk.output.text_width import fit
from clinvk.runs.report import Report

Row = tuple[TaskSpec, TaskResult]

MOST_FILES = 20
MIN_COLUMN_CELLS = 30
"""Answers are printed one below another where columns would be narrower than this."""


class Compare(Formatter):
    """How `clinvk compare` is shown."""

    unit = "backends"

    def header(self, specs: Sequence[TaskSpec], options: RunOptions) -> str:
        """Return the line that says what is about to run."""
        names = ", ".join(map(label, specs))
        one_by_one = "; one after another" if options.max_parallel < len(specs) else ""
        return f"Comparing {len(specs)} backends ({names}{one_by_one})..."

    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:
        """Return an answer under its backend's name."""
        return text_lines.block(label(spec), result, width)

    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the table and the totals."""
        if with_table:
            yield from _table(report, width)
        yield self.total(report)
        yield from money.cost_line(report.spending)

    def total(self, report: Report) -> str:
        """Return the line of totals."""
        return text_lines.total(report, self.unit)

    def document(self, report: Report) -> Iterator[str]:
        """Yield the JSON document of a comparison."""
        completed, failed, canceled = report.counts()
        head = {
            "run_id": report.run_id,
            "prompt": next(spec.prompt for spec in report.specs),
            "backends": [spec.name or spec.backend for spec in report.specs],
            "completed": completed,
            "failed": failed,
            "canceled": canceled,
            "total_duration_seconds": report.duration_seconds,
            "start_time": rfc3339_from_ms(report.started_ms),
            "end_time": rfc3339_from_ms(report.ended_ms),
            **documents.sums(report),
            **(
                {"ranking": [label(spec) for spec, _ in ranked(report)]}
                if _verified(report)
                else {}
            ),
        }
        return documents.listing(head, "results", (self.entry(*row) for row in report.rows()))

    def title(self, spec: TaskSpec, result: TaskResult) -> str:
        """Return the line above an answer that follows in full."""
        return f"{label(spec)} {result.status.upper()} {text_lines.took(result)}"


class SideBySide(Compare):
    """All answers in columns, once every backend has answered; where there is room for that.

    Attributes:
        fits: whether the terminal has room for a column per backend.
    """

    def __init__(self, backends: int, width: int) -> None:
        self.fits = width // backends >= MIN_COLUMN_CELLS

    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:
        """Return nothing where the answer will be in a column."""
        return None if self.fits else super().ended(spec, result, width)

    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the answers in columns, then the table and the totals."""
        if self.fits:
            yield from _columns(report, width)
            yield ""
        yield from super().end(report, width, with_table=with_table)


def label(spec: TaskSpec) -> str:
    """Return the name of a backend as the command line had it: `codex`, or `claude:opus`."""
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
        answer = text_lines.answer(result).rstrip("\n")
        answers.append(Text("\n".join([answer, *_diffstat(result)])))
    table.add_row(*answers)
    drawn = io.StringIO()
    Console(file=drawn, width=width, color_system=None).print(table)
    for line in drawn.getvalue().splitlines():
        yield line.rstrip()


def ranked(report: Report) -> list[Row]:
    """Return the rows of a comparison, best first, where `verify` has told.

    First those that passed it, then those that did not, then those that did not come so far; each
    in the order in which they were named. Nothing else makes one better than another.
    """
    return sorted(report.rows(), key=_rank) if _verified(report) else list(report.rows())


def _verified(report: Report) -> bool:
    return any(result.verify is not None for result in report.results)


def _rank(row: Row) -> int:
    _, result = row
    if result.verify is None:
        return 2
    return 0 if result.status is TaskStatus.OK else 1


def _diffstat(result: TaskResult) -> Iterator[str]:
    """Yield what a backend changed: how much, and in which files."""
    if result.changes is not None:
        names = result.changes.changed_files
        yield _changes_cell(result)
        yield from (f"  {one_line(name)}" for name in names[:MOST_FILES])
        if len(names) > MOST_FILES:
            yield "  …"


def _table(report: Report, width: int) -> Iterator[str]:
    rows = ranked(report)
    more = [name for name in MORE_COLUMNS if any(MORE_COLUMNS[name](result) for _, result in rows)]
    head, *lines = tables.columns(
        ("BACKEND", "STATUS", *more, "DURATION", "MODEL", "TOKENS", "COST"),
        (_cells(spec, result, more) for spec, result in rows),
    )
    rule = max(text_lines.RULE_CELLS, *map(cell_len, (head, *lines)))
    yield "Results" if not _verified(report) else "Results, ranked by verify"
    yield "=" * rule
    yield head
    yield "-" * rule
    for line, (_, result) in zip(lines, rows, strict=True):
        yield line
        if result.error and result.status is not TaskStatus.CANCELED:
            yield fit(f"     Error: {one_line(result.error)}", max(width, rule))
    yield "-" * rule


def _cells(spec: TaskSpec, result: TaskResult, more: Sequence[str]) -> tuple[str, ...]:
    return (
        label(spec),
        result.status.upper(),
        *(MORE_COLUMNS[name](result) or "-" for name in more),
        text_lines.took(result),
        result.model or spec.model or "-",
        f"{result.usage.total_tokens}" if result.usage else "-",
        "-" if result.cost_usd is None else f"${result.cost_usd:.4f}",
    )


def _verify_cell(result: TaskResult) -> str:
    if result.verify is None:
        return ""
    code = result.verify.exit_code
    return "passed" if code == 0 else "stopped" if code < 0 else f"failed ({code})"


def _changes_cell(result: TaskResult) -> str:
    if (changes := result.changes) is None:
        return ""
    files = "1 file" if changes.files == 1 else f"{changes.files} files"
    return f"{files} +{changes.insertions} -{changes.deletions}"


MORE_COLUMNS: Mapping[str, Callable[[TaskResult], str]] = {
    "VERIFY": _verify_cell,
    "CHANGES": _changes_cell,
}
"""Columns that are there where any task has something to say in them."""
