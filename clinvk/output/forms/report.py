"""The run as one HTML page (`clinvk/output/html`)."""

from __future__ import annotations

from collections import defaultdict, deque
from pathlib import Path

from clinvk.core.steps import StepRecord
from clinvk.output.html.model import Steps
from clinvk.output.reporter import FileReporter, Presentation
from clinvk.output.step_lines import describe
from clinvk.output.whole_file import writable_file, write_whole
from clinvk.runs.client import Event
from clinvk.runs.report import Report as RunReport

STEPS_OF_TASK = 50
STEPS = 20_000
"""The most steps that are kept for the page: the newest of each task, and of all tasks."""


def make(presentation: Presentation) -> Report | None:
    """Make the form where a file was named.

    Raises:
        UsageError: the file cannot be written.
    """
    path = presentation.view.paths.get(Report.name)
    return Report(presentation, path) if path else None


class Report(FileReporter):
    """Writes the page when the run has ended."""

    name = "report"
    steps_wanted = "all"

    def __init__(self, presentation: Presentation, path: str) -> None:
        super().__init__(presentation.streams, writable_file(self.name, path))
        self._total = presentation.formatter.total
        self._steps = NewestSteps()

    def write_event(self, event: Event) -> None:
        """Take note of a step."""
        if event.step is not None:
            self._steps.add(event.step)

    def write_report(self, report: RunReport) -> None:
        """Write the page."""
        write_page(self.path, report, self._total(report), self._steps)


class NewestSteps:
    """The newest steps of a run, as lines, in bounded memory."""

    def __init__(self) -> None:
        self._of_task: dict[int, deque[str]] = defaultdict(lambda: deque(maxlen=STEPS_OF_TASK))
        self._order: deque[int] = deque()

    def add(self, step: StepRecord) -> None:
        """Keep a step; the oldest of all makes room."""
        line = describe(step)
        if not line:
            return
        self._of_task[step.index].append(line)
        self._order.append(step.index)
        if len(self._order) > STEPS:
            oldest = self._of_task[self._order.popleft()]
            if oldest:
                oldest.popleft()

    def lines(self) -> Steps:
        """Return them by the indexes of their tasks."""
        return {index: list(lines) for index, lines in self._of_task.items() if lines}


def write_page(path: Path, report: RunReport, total: str, steps: NewestSteps) -> None:
    """Write the page of a run; `total` is its line of totals.

    Raises:
        OSError: it cannot be written.
    """
    from clinvk.output.html.page import page

    write_whole(path, [page(report, total, steps.lines())])
