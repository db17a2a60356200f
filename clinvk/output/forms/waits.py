"""A line on stderr when a limit holds up tasks, once each time: where no live display shows it."""

from __future__ import annotations

from clinvk.output.forms import live
from clinvk.output.reporter import Presentation, Reporter
from clinvk.runs.client import Event

SAME_MS = 120_000
"""A limit that opens only so much later is the same: each task that meets it says when it opens."""


def make(presentation: Presentation) -> Waits | None:
    """Make the form where there is no live display."""
    is_wanted = presentation.view.quiet or not live.has_terminal()
    return Waits(presentation) if is_wanted else None


class Waits(Reporter):
    """Notes each limit that closes a backend, or a model."""

    def __init__(self, presentation: Presentation) -> None:
        self._streams = presentation.streams
        self._told_ms: dict[str, int] = {}

    def saw(self, event: Event) -> None:
        """Note limits that are new."""
        for wait in event.waits:
            is_new = wait.until_ms > self._told_ms.get(wait.name, 0) + SAME_MS
            if wait.kind and is_new and wait.until_ms > wait.now_ms:
                self._told_ms[wait.name] = wait.until_ms
                self._streams.note(f"clinvk: {wait.texts()[0]}")
