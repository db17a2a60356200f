"""`output_dir`: one file per task as it ends, and the summary; each written whole, mode 0600."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from clinvk.core.errors import UsageError
from clinvk.core.spec import TaskSpec
from clinvk.output import json_document
from clinvk.output.formatter import Formatter
from clinvk.runs.client import Event
from clinvk.runs.report import Report

LABEL_BYTES = 120
"""File systems end names at 255 bytes; four of them make one character of some scripts."""


class OutputDir:
    """Writes a run's results into a directory."""

    def __init__(self, path: str, specs: Sequence[TaskSpec]) -> None:
        """Make sure of the directory before anything runs.

        Raises:
            UsageError: it cannot be made, or not be written to.
        """
        self._path = Path(path).expanduser()
        self._specs = specs
        self._digits = max(3, len(str(len(specs))))
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._path):
                pass
        except OSError as error:
            raise UsageError(f"output_dir {self._path}: cannot be written: {error.strerror}") from (
                error
            )

    def saw(self, event: Event, form: Formatter) -> None:
        """Write the file of a task that ended."""
        if event.result is None:
            return
        spec = self._specs[event.index]
        label = re.sub(r"[^\w.-]+", "_", spec.id or spec.name or spec.backend)
        label = label.encode()[:LABEL_BYTES].decode("utf-8", "ignore")
        name = f"{event.index + 1:0{self._digits}d}_{label}.json"
        whole = {"task": json_document.task(spec), "result": form.entry(spec, event.result)}
        self._write(name, [json_document.dump(whole)])

    def close(self, report: Report, form: Formatter) -> None:
        """Write the summary."""
        self._write("summary.json", form.document(report))

    def _write(self, name: str, pieces: Iterable[str]) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self._path, prefix=".clinvk-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.writelines(pieces)
            Path(temporary).replace(self._path / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
