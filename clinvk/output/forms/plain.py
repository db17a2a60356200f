"""A line on stderr as each task ends, for logs: beside a JSON document, where no terminal is."""

from __future__ import annotations

from clinvk.output.forms import live
from clinvk.output.reporter import Presentation, Reporter
from clinvk.output.text_width import fit, title
from clinvk.runs.client import Event

TITLE_CELLS = 60


def make(presentation: Presentation) -> Plain | None:
    """Make the plain form where stdout has no text and stderr no live display."""
    view = presentation.view
    is_wanted = view.as_json and not view.quiet and not live.has_terminal()
    return Plain(presentation) if is_wanted else None


class Plain(Reporter):
    """Notes each task that ended."""

    def __init__(self, presentation: Presentation) -> None:
        self._specs = presentation.specs
        self._streams = presentation.streams
        self._ended = 0

    def saw(self, event: Event) -> None:
        """Note how a task ended."""
        if event.result is None:
            return
        self._ended += -1 if event.kind == "retried" else 1
        if event.kind != "finished":
            return
        spec, result = self._specs[event.index], event.result
        status = f"{result.status.upper()} {result.duration_seconds:.2f}s"
        name = fit(title(spec), TITLE_CELLS)
        self._streams.note(
            f"[{self._ended}/{len(self._specs)}] {result.backend_of(spec)} {status} {name}"
        )
