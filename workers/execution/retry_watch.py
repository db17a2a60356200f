"""Ends a CLI that waits before it tries again: it would hold its slot, where the task can wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from clinvk.core.steps import Step, StepKind
from workers.execution.stop_signal import StopSignal

LONGEST_DELAY_SECONDS = 10.0
"""What a CLI may say that it will wait: a connection that was dropped is soon there again."""
LONGEST_SECONDS = 20.0
"""For how long a CLI may try again and again."""


class RetryWatch:
    """Sees each line of a CLI with its steps, and stops it where it waits for too long."""

    def __init__(self, stop: StopSignal, clock: Callable[[], float] = time.monotonic) -> None:
        self._stop = stop
        self._clock = clock
        self._since: float | None = None

    def saw(self, steps: Sequence[Step]) -> None:
        """Take the steps of the next line."""
        for step in steps:
            if step.kind != StepKind.RETRY:
                self._since = None
                continue
            if self._since is None:
                self._since = self._clock()
            if (step.delay_seconds or 0.0) > LONGEST_DELAY_SECONDS:
                self._stop.set("waiting")
        if self._since is not None and self._clock() - self._since > LONGEST_SECONDS:
            self._stop.set("waiting")
