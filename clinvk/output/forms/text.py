"""Text on stdout: a header, each result as its task ends, the table, the totals."""

from __future__ import annotations

from clinvk.output.reporter import Presentation, StdoutReporter
from clinvk.runs.client import Event
from clinvk.runs.report import Report


def make(presentation: Presentation) -> Text | None:
    """Make the text form, unless JSON or the totals alone were asked for."""
    return Text(presentation) if presentation.view.is_text else None


class Text(StdoutReporter):
    """Prints a run as text."""

    def __init__(self, presentation: Presentation) -> None:
        super().__init__(presentation)
        self._specs = presentation.specs
        self._options = presentation.options
        self._width = presentation.width
        self._header = presentation.header
        self._with_table = presentation.view.with_table

    def begin(self) -> None:
        """Print what is about to run."""
        header = self._header or self.formatter.header(self._specs, self._options)
        self.streams.write(header + "\n\n")

    def saw(self, event: Event) -> None:
        """Print the result of a task that ended."""
        if event.kind != "finished" or event.result is None:
            return
        line = self.formatter.ended(self._specs[event.index], event.result, self._width)
        if line is not None:
            self.streams.write(line + "\n")

    def end(self, report: Report) -> None:
        """Print the table and the totals."""
        lines = self.formatter.end(report, self._width, with_table=self._with_table)
        self.streams.output.write_all(f"{line}\n" for line in lines)
