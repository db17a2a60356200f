"""In `output_dir`, what each CLI wrote, line by line as it comes: `001_NAME.transcript.jsonl`.

A transcript has the CLI's own lines, its secrets masked by the worker. Where it lacks some, or
where the task began anew, it has a line of clinvk's own: `{"clinvk": {"dropped_steps": 7}}` or
`{"clinvk": {"attempt": 2}}`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from clinvk.core.steps import StepRecord
from clinvk.output.forms.output_dir import OutputDir, file_name
from clinvk.output.reporter import FileReporter, Presentation
from clinvk.output.step_lines import json_line
from clinvk.output.whole_file import writable_directory
from clinvk.runs.client import Event


def make(presentation: Presentation) -> Transcripts | None:
    """Make the form where a directory was named, and the steps of the tasks have all lines.

    Raises:
        UsageError: the directory cannot be made, or not be written to.
    """
    path, specs = presentation.view.paths.get(OutputDir.name), presentation.specs
    is_wanted = path is not None and len(specs) > 0 and specs[0].steps == "full"
    return Transcripts(presentation, path) if path and is_wanted else None


class Transcripts(FileReporter):
    """Writes the transcripts of a run's tasks, each line at once."""

    name = OutputDir.name
    steps_wanted = "all"

    def __init__(self, presentation: Presentation, path: str) -> None:
        super().__init__(presentation.streams, writable_directory(self.name, path))
        self._specs = presentation.specs
        self._is_created = bytearray(len(presentation.specs))
        self._seen: dict[int, tuple[int, int]] = {}  # number and attempt of the last step

    def write_event(self, event: Event) -> None:
        """Write the line of a step."""
        if event.result is not None:
            self._seen.pop(event.index, None)
        if event.step is None:
            return
        lines = list(self._lines(event.step))
        if not lines:
            return
        # Opened anew each time: a run may have more tasks than a process may have files. Neither
        # open follows a link that somebody else may have put there.
        path = self.path / file_name(self._specs, event.index, ".transcript.jsonl")
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.writelines(lines)

    def _lines(self, step: StepRecord) -> Iterator[str]:
        is_late = self._is_created[step.index]  # for those after its task's end
        number, attempt = (step.number - 1, step.attempt) if is_late else (0, 1)
        number, attempt = self._seen.get(step.index, (number, attempt))
        if not self._is_created[step.index]:
            self._create(step.index)
        self._seen[step.index] = (step.number, step.attempt)
        if step.number > number + 1:
            yield json_line({"clinvk": {"dropped_steps": step.number - number - 1}})
        if step.attempt > attempt:
            yield json_line({"clinvk": {"attempt": step.attempt}})
        if step.raw is not None:
            yield step.raw.replace("\r", " ").replace("\n", " ") + "\n"

    def _create(self, index: int) -> None:
        """Make an empty file in the place of whatever has its name, readable for its owner."""
        descriptor, temporary = tempfile.mkstemp(dir=self.path, prefix=".clinvk-")
        os.close(descriptor)
        self._is_created[index] = True
        Path(temporary).replace(self.path / file_name(self._specs, index, ".transcript.jsonl"))
