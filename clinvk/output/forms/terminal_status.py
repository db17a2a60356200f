"""How far a run is in the terminal's title, and as progress in its tab or on the taskbar.

The title is what xterm's control sequences set; it is saved before and restored after. Progress is
`OSC 9;4`, which only some terminals know: others show it as a notification, so it goes only to
those that are known to take it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from clinvk.output.forms import live
from clinvk.output.reporter import Presentation, Reporter
from clinvk.output.streams import Streams
from clinvk.runs.client import Event

UPDATE_SECONDS = 0.5
SAVE_TITLE, RESTORE_TITLE = "\x1b[22;0t", "\x1b[23;0t"
NO_TITLE = frozenset({"dumb", "linux"})
"""Terminals (TERM) without a title."""
WITH_PROGRESS = frozenset({"WezTerm", "ghostty"})
"""Terminals (TERM_PROGRAM) that show progress."""
NORMAL, FAILED = 1, 2
"""States of OSC 9;4."""


def make(presentation: Presentation) -> TerminalStatus | None:
    """Make the form where stderr is a terminal, unless it should be quiet."""
    if presentation.view.quiet or not live.has_terminal() or os.environ.get("TERM") in NO_TITLE:
        return None
    total = len(presentation.specs)
    return TerminalStatus(presentation.streams, total, with_progress=shows_progress(os.environ))


def shows_progress(environment: Mapping[str, str]) -> bool:
    """Whether the terminal is one that takes OSC 9;4; behind tmux and ssh that is not known."""
    return (
        environment.get("TERM_PROGRAM") in WITH_PROGRESS
        or "WT_SESSION" in environment
        or environment.get("ConEmuANSI") == "ON"
    )


class TerminalStatus(Reporter):
    """Shows how many tasks have ended, at most every UPDATE_SECONDS."""

    def __init__(self, streams: Streams, total: int, *, with_progress: bool) -> None:
        self._streams = streams
        self._total = total
        self._with_progress = with_progress
        self._ended = 0
        self._state = NORMAL
        self._shown_at = float("-inf")

    def begin(self) -> None:
        """Save the title, and set the first."""
        self._streams.control(SAVE_TITLE)
        self._show()

    def saw(self, event: Event) -> None:
        """Take note of a task that ended."""
        if event.result is None:
            return
        self._ended += -1 if event.kind == "retried" else 1
        if event.result.error_kind is not None:
            self._state = FAILED
        if time.monotonic() - self._shown_at >= UPDATE_SECONDS:
            self._show()

    def stop(self) -> None:
        """Restore the title, and take the progress away."""
        self._streams.control(RESTORE_TITLE + ("\x1b]9;4;0;\x07" if self._with_progress else ""))

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        text = f"\x1b]2;clinvk {self._ended}/{self._total}\x07"
        if self._with_progress:
            text += f"\x1b]9;4;{self._state};{100 * self._ended // max(1, self._total)}\x07"
        self._streams.control(text)
