"""The totals alone on stdout, and nothing while the run goes on."""

from __future__ import annotations

from clinvk.output.reporter import Presentation, StdoutReporter
from clinvk.runs.report import Report


def make(presentation: Presentation) -> Quiet | None:
    """Make the quiet form where it was asked for; with `--json` there is the document instead."""
    view = presentation.view
    return Quiet(presentation) if view.quiet and not view.as_json else None


class Quiet(StdoutReporter):
    """Prints the totals of a run."""

    def end(self, report: Report) -> None:
        """Print the totals."""
        self.streams.write(self.formatter.total(report) + "\n")
