"""The steps of one execution, on their way from its reader to the observers."""

from __future__ import annotations

from collections.abc import Sequence

from clinvk.backends.steps import retry
from clinvk.core.spec import ErrorKind, StepDetail
from clinvk.core.steps import Step, StepKind
from clinvk.store.types import Lease
from workers.execution.masking import Masker
from workers.execution.retry_watch import RetryWatch
from workers.observers import Observers, TaskRetries, TaskStep

RAW_CHARS = 1 << 16
"""A line of the CLI that is longer is not passed on; its steps are."""

EVENT = Step(kind=StepKind.EVENT)


class StepFeed:
    """Masks steps and notifies observers of them, in the detail that the task asks for.

    `watch` sees all of them.

    Attributes:
        last: the text of the last step that has one.
        last_before_stall: the same when the command stalled; some do more when they are stopped.
    """

    def __init__(
        self,
        lease: Lease,
        attempt: int,
        detail: StepDetail,
        masker: Masker,
        observers: Observers,
        watch: RetryWatch | None = None,
    ) -> None:
        self._lease = lease
        self._attempt = attempt
        self._detail = detail
        self._masker = masker
        self._observers = observers
        self._watch = watch
        self.last = self.last_before_stall = ""

    def stalled(self) -> None:
        """Note that the command has stalled."""
        self.last_before_stall = self.last

    def saw(self, line: str, steps: Sequence[Step]) -> None:
        """Take the next line of the CLI and the steps that it tells of."""
        if self._watch is not None:
            self._watch.saw(steps)
        if steps:
            steps = [self._masker.step(step) for step in steps]
            self.last = next((step.text for step in reversed(steps) if step.text), self.last)
            self._tell_of_retries(steps)
        if self._detail == "off":
            return
        raw = None
        if self._detail == "full" and len(line) <= RAW_CHARS:
            raw, steps = self._masker.text(line), steps or [EVENT]
        for step in steps:
            self._observers.notify(TaskStep(self._lease, self._attempt, step, raw))
            raw = None

    def tell(self, error: str) -> None:
        """Tell of what is handed back to the CLI."""
        step = self._masker.step(retry(f"asked again: {error}", None, None))
        self.last = step.text
        if self._detail != "off":
            self._observers.notify(TaskStep(self._lease, self._attempt, step, None))

    def _tell_of_retries(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.kind is StepKind.RETRY and isinstance(step.error_kind, ErrorKind):
                self._observers.notify(TaskRetries(self._lease, step.error_kind))
