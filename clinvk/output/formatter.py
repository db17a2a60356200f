"""The interface of a kind of run: how its parts look as text and in a JSON document."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clinvk.core.spec import RunOptions, RunSummary, TaskResult, TaskSpec
from clinvk.core.spending import Spending
from clinvk.output import documents, money, text_lines
from clinvk.runs.report import Report


class Formatter(ABC):
    """How a kind of run is shown; output forms call it for what they print and write.

    `width` is the number of terminal cells of a line. Texts have no line end, unless it is said.
    """

    unit: str
    """What the tasks of this kind of run are called, in the plural."""

    @abstractmethod
    def header(self, specs: Sequence[TaskSpec], options: RunOptions) -> str:
        """Return the line that says what is about to run."""

    @abstractmethod
    def ended(self, spec: TaskSpec, result: TaskResult, width: int) -> str | None:
        """Return the text for a task that ended; None for no text."""

    @abstractmethod
    def end(self, report: Report, width: int, *, with_table: bool) -> Iterator[str]:
        """Yield the lines after the last task's, the totals included."""

    @abstractmethod
    def total(self, report: Report) -> str:
        """Return the line of totals; its parts always add up."""

    @abstractmethod
    def document(self, report: Report) -> Iterator[str]:
        """Yield the JSON document of a run, piece by piece."""

    @abstractmethod
    def title(self, spec: TaskSpec, result: TaskResult) -> str:
        """Return the line above a result that follows in full."""

    def entry(self, spec: TaskSpec, result: TaskResult) -> dict[str, Any]:
        """Return one result's entry in a document."""
        return documents.entry(spec, result)

    def status(self, run: RunSummary) -> dict[str, Any]:
        """Return the state of a run and its counts."""
        return documents.status(run)

    def results(
        self,
        run: RunSummary,
        results: Iterator[tuple[TaskSpec, TaskResult]],
        spending: Mapping[str, Spending],
    ) -> Iterator[str]:
        """Yield the results that a run has so far as text, line ends included."""
        for spec, result in results:
            history = "".join(f"{line}\n" for line in text_lines.history(spec, result))
            yield f"{self.title(spec, result)}\n{text_lines.answer(result, 'Error')}{history}\n"
        yield f"{run.ended} of {run.total} {self.unit} have ended\n"
        yield from (f"{line}\n" for line in money.cost_line(spending))

    def results_document(
        self,
        run: RunSummary,
        results: Iterator[tuple[TaskSpec, TaskResult]],
        spending: Mapping[str, Spending],
    ) -> Iterator[str]:
        """Yield the results that a run has so far as a JSON document, piece by piece."""
        entries = (self.entry(spec, result) for spec, result in results)
        used = documents.used(Spending.sum(spending.values()))
        return documents.listing({**self.status(run), **used}, "results", entries)
