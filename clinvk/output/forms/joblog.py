"""A log of the tasks as JSON Lines: each is written as its task ends, so it survives a crash."""

from __future__ import annotations

import json
import os
from pathlib import Path

from clinvk.output import documents
from clinvk.output.reporter import Presentation, SingleFile
from clinvk.runs.client import Event


class Joblog(SingleFile):
    """Appends a line for each task as it ends: its entry in the results."""

    name = "joblog"

    def __init__(self, presentation: Presentation, path: str) -> None:
        super().__init__(presentation, path)
        self._specs = presentation.specs
        self._is_new = True

    def write_event(self, event: Event) -> None:
        """Write the line of a task that ended."""
        if event.kind != "finished" or event.result is None:
            return
        entry = documents.entry(self._specs[event.index], event.result)
        with os.fdopen(self._opened(self.path), "w", encoding="ascii") as stream:
            stream.write(json.dumps(entry) + "\n")

    def _opened(self, path: Path) -> int:
        """Open the log for one line; the first time whatever has its name is emptied."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if self._is_new else 0)
        descriptor = os.open(path, flags, 0o600)
        self._is_new = False
        return descriptor


make = Joblog.if_named
