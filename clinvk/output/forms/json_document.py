"""One JSON document on stdout when the run has ended, and nothing else there."""

from __future__ import annotations

from clinvk.output.documents import dump
from clinvk.output.reporter import Presentation, StdoutReporter
from clinvk.runs.report import Report


def make(presentation: Presentation) -> JsonDocument | None:
    """Make the JSON form where it was asked for."""
    return JsonDocument(presentation) if presentation.view.as_json else None


class JsonDocument(StdoutReporter):
    """Prints a run as one JSON document."""

    def submitted(self, run_id: str) -> None:
        """Print which run was submitted."""
        self.streams.write(dump({"run_id": run_id}))

    def end(self, report: Report) -> None:
        """Print the document."""
        self.streams.output.write_all(self.formatter.document(report))
