"""A table of the results for spreadsheets and data frames: CSV, one row per task, in task order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from clinvk.output import documents
from clinvk.output.reporter import WholeFile
from clinvk.runs.report import Report

COLUMNS = (
    "index",
    "task_id",
    "task_name",
    "tags",
    "backend",
    "model",
    "status",
    "error_kind",
    "error",
    "exit_code",
    "duration_seconds",
    "waited_seconds",
    "attempts",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cost_usd",
    "worker",
    "start_time",
    "end_time",
    "output",
)
"""The keys of a result's entry (docs/reference/results.md), and those of its `usage`."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


class Csv(WholeFile):
    """Writes the results of a run as CSV."""

    name = "csv"

    def pieces(self, report: Report) -> Iterator[str]:
        """Yield the table."""
        return table(report)


make = Csv.if_named


def table(report: Report) -> Iterator[str]:
    """Yield the table line by line, as RFC 4180 has it."""
    yield _line(COLUMNS)
    for spec, result in report.rows():
        entry = documents.entry(spec, result)
        entry |= entry.get("usage", {}) | {"tags": " ".join(spec.tags)}
        yield _line([_cell(entry.get(column)) for column in COLUMNS])


def _cell(value: Any) -> Any:
    """Return a value as a cell; a text that would be a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _line(cells: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()
