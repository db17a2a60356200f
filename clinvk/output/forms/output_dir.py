"""A directory with one JSON file per task, and a summary; each written whole, mode 0600."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from clinvk.core.spec import TaskSpec
from clinvk.output import documents
from clinvk.output.reporter import FileReporter, Presentation
from clinvk.output.whole_file import writable_directory, write_whole
from clinvk.runs.client import Event
from clinvk.runs.report import Report

LABEL_BYTES = 120
"""File systems allow names of 255 bytes, and a character may have four."""


def make(presentation: Presentation) -> OutputDir | None:
    """Make the form where a directory was named.

    Raises:
        UsageError: the directory cannot be made, or not be written to.
    """
    path = presentation.view.paths.get(OutputDir.name)
    return OutputDir(presentation, path) if path else None


class OutputDir(FileReporter):
    """Writes the results of a run into a directory, each as its task ends."""

    name = "output_dir"

    def __init__(self, presentation: Presentation, path: str) -> None:
        super().__init__(presentation.streams, writable_directory(self.name, path))
        self._formatter = presentation.formatter
        self._specs = presentation.specs

    def write_event(self, event: Event) -> None:
        """Write the file of a task that ended."""
        if event.kind == "retried" or event.result is None:
            return
        spec = self._specs[event.index]
        name = file_name(self._specs, event.index, ".json")
        entry = self._formatter.entry(spec, event.result)
        self._write(name, [documents.dump({"task": documents.task(spec), "result": entry})])

    def write_report(self, report: Report) -> None:
        """Write the summary."""
        self._write("summary.json", self._formatter.document(report))

    def _write(self, name: str, pieces: Iterable[str]) -> None:
        write_whole(self.path / name, pieces)


def file_name(specs: Sequence[TaskSpec], index: int, ending: str) -> str:
    """Return what a file about a task is called: `001_<id or name>` and the ending."""
    digits = max(3, len(str(len(specs))))
    return f"{index + 1:0{digits}d}_{_label(specs[index])}{ending}"


def _label(spec: TaskSpec) -> str:
    """Return what a task is called, in characters that any file system takes."""
    label = re.sub(r"[^\w.-]+", "_", spec.id or spec.name or spec.backend)
    return label.encode()[:LABEL_BYTES].decode("utf-8", "ignore")
