"""A line on stderr for each step of each agent, as it comes: `[3] Bash pytest -q`."""

from __future__ import annotations

import shutil
import sys

from clinvk.core.steps import StepKind
from clinvk.output.reporter import Presentation, Reporter
from clinvk.output.step_lines import StepLines
from clinvk.runs.client import Event

NOT_SHOWN = frozenset({StepKind.USAGE, StepKind.EVENT})
"""Steps that would only be in the way: their numbers are in the display and in the results."""


def make(presentation: Presentation) -> Steps | None:
    """Make the form where it was asked for; on a terminal its lines are above the display."""
    return Steps(presentation) if presentation.view.with_steps else None


class Steps(Reporter):
    """Prints steps as lines."""

    steps_wanted = "all"

    def __init__(self, presentation: Presentation) -> None:
        self._streams = presentation.streams
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        cells = shutil.get_terminal_size().columns if is_terminal else None
        self._lines = StepLines(with_task=True, with_time=False, width=cells)

    def saw(self, event: Event) -> None:
        """Print a step."""
        if event.step is None:
            return
        if event.step.kind in NOT_SHOWN:
            self._lines.skip(event.step)
            return
        for line in self._lines.lines(event.step):
            self._streams.note(line)
