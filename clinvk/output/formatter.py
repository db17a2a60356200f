"""How a run is shown, from its header to its document; each kind of run has a form of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from clinvk.core.spec import RunOptions, RunSummary, TaskResult, TaskSpec
from clinvk.output import json_document, text
from clinvk.runs.report import Report


class Formatter:
    """The form of `clinvk parallel`; what another kind shows in another way, it overrides."""

    unit = "tasks"

    def header(self, specs: Sequence[TaskSpec], options: RunOptions) -> str:
        """Say what is about to run."""
        return text.header(len(specs), options.max_parallel, fail_fast=options.fail_fast)

    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:  # noqa: ARG002
        """Say how one task ended; None says nothing."""
        return text.ended(result, width)

    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the lines after the last task's."""
        yield ""
        if with_table:
            yield from text.table(report, width)
        yield self.total(report)

    def total(self, report: Report) -> str:
        """Return the last line."""
        return text.total(report)

    def document(self, report: Report) -> Iterator[str]:
        """Yield the JSON document, piece by piece."""
        rows = (self.entry(*row) for row in report.rows())
        return json_document.listing(json_document.head(report), "results", rows)

    def entry(self, spec: TaskSpec, result: TaskResult) -> dict[str, Any]:
        """Return one task's entry in a document."""
        return json_document.entry(spec, result)

    def status(self, run: RunSummary) -> dict[str, Any]:
        """Return how far a run is."""
        return json_document.status(run)

    def title(self, spec: TaskSpec, result: TaskResult) -> str:
        """Return one task's line for where its answer follows in full."""
        return text.title_line(spec, result)

    def results(
        self, run: RunSummary, results: Iterator[tuple[TaskSpec, TaskResult]], *, as_json: bool
    ) -> Iterator[str]:
        """Yield the results that a run has so far, as text or as a document."""
        if as_json:
            entries = (self.entry(spec, result) for spec, result in results)
            yield from json_document.listing(self.status(run), "results", entries)
            return
        for spec, result in results:
            yield f"{self.title(spec, result)}\n{text.answer(result, 'Error')}\n"
        yield f"{run.ended} of {run.total} {self.unit} have ended\n"
