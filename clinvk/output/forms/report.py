"""The run as one HTML page (`clinvk/output/html`)."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

from clinvk.core.steps import StepRecord
from clinvk.output.html.model import Steps
from clinvk.output.reporter import Presentation, WholeFile
from clinvk.output.step_lines import describe
from clinvk.runs.client import Event
from clinvk.runs.report import Report as RunReport

STEPS_OF_TASK = 50
STEPS = 20_000
"""The most steps that are kept for the page: the newest of each task, and of all tasks."""


class Report(WholeFile):
    """Writes the page when the run has ended."""

    name = "report"
    steps_wanted = "all"

    def __init__(self, presentation: Presentation, path: str) -> None:
        super().__init__(presentation, path)
        self._total = presentation.formatter.total
        self._steps = NewestSteps()

    def write_event(self, event: Event) -> None:
        """Take note of a step."""
        if event.step is not None:
            self._steps.add(event.step)

    def pieces(self, report: RunReport) -> Iterator[str]:
        """Yield the page."""
        yield page_of(report, self._total(report), self._steps)


make = Report.if_named


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


def page_of(report: RunReport, total: str, steps: NewestSteps) -> str:
    """Return the page of a run; `total` is its line of totals."""
    from clinvk.output.html.page import page  # loads jinja2

    return page(report, total, steps.lines())
