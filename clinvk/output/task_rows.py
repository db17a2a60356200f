"""The rows of the live display: what each running task does, in columns that fit the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from clinvk.core.steps import Step, StepKind
from clinvk.output.step_lines import describe, short
from clinvk.output.text_width import fit, pad

MIN_STEP_CELLS, MIN_NAME_CELLS = 18, 12
"""The least that a step and a name are of use with; before, columns that say less are left out."""
TIME_CELLS = 7
TOKENS_CELLS = 11
GAP = "  "


class Activity:
    """What is known of a task that runs.

    Attributes:
        since: when it began, by the clock that the display counts with.
        backend: what runs it, where that is known; else its spec says so.
        step: the last step, as a line; empty before the first.
        tokens: how many it has used so far; 0 where that is not known.
    """

    def __init__(self, since: float, backend: str = "") -> None:
        self.since = since
        self.backend = backend
        self.step = ""
        self.tokens = 0
        self._call = ""

    def saw(self, step: Step) -> None:
        """Take note of a step; a tool's result is shown with its call."""
        if step.usage is not None:
            counts = step.usage
            self.tokens = counts.total_tokens or counts.input_tokens + counts.output_tokens
        if step.kind == StepKind.TOOL_RESULT and (self._call or step.ok is not False):
            if self._call:
                self.step = f"{self._call}: {'failed' if step.ok is False else 'ok'}"
            self._call = ""
        elif step.kind not in {StepKind.USAGE, StepKind.EVENT}:
            self.step = describe(step) or self.step
            self._call = self.step if step.kind == StepKind.TOOL_CALL else ""


@dataclass(frozen=True, slots=True)
class Row:
    """What a row shows; `time` is how long the task has run, as text."""

    time: str
    number: str
    backend: str
    name: str
    step: str
    tokens: int


@dataclass(frozen=True, slots=True)
class _Columns:
    """The cells of each column, 0 where it is left out; backend, tokens, name go in this order."""

    number: int
    backend: int
    name: int
    step: int
    tokens: int

    @classmethod
    def fitting(cls, rows: Sequence[Row], width: int) -> _Columns:
        """Divide the width of a terminal, of which one cell stays free."""
        number = max(len(row.number) for row in rows)
        backend = max(cell_len(row.backend) for row in rows) + 1
        tokens = TOKENS_CELLS if any(row.tokens for row in rows) else 0
        room = max(0, width - 1 - len(GAP) - TIME_CELLS - 1 - number - 1)
        if not any(row.step for row in rows):
            backend = backend if room - backend >= MIN_NAME_CELLS else 0
            return cls(number, backend, max(0, room - backend), 0, 0)
        needed = MIN_NAME_CELLS + len(GAP) + MIN_STEP_CELLS
        backend = backend if room - backend - tokens >= needed else 0
        tokens = tokens if room - backend - tokens >= needed else 0
        room -= backend + tokens
        if room < needed:
            return cls(number, backend, 0, room, tokens)
        longest = max(cell_len(row.name) for row in rows)
        name = min(longest, max(MIN_NAME_CELLS, room * 2 // 5))
        return cls(number, backend, name, room - name - len(GAP), tokens)


def lay_out(rows: Sequence[Row], width: int) -> list[list[tuple[str, str]]]:
    """Return the rows in columns: for each its parts, with their styles."""
    if not rows:
        return []
    columns = _Columns.fitting(rows, width)
    return [_parts(row, columns) for row in rows]


def _parts(row: Row, columns: _Columns) -> list[tuple[str, str]]:
    head = f"{GAP}{row.time:>{TIME_CELLS}} {pad(row.number, columns.number)} "
    if columns.backend:
        head += pad(row.backend, columns.backend)
    parts = [(head, "cyan")]
    if not columns.step:
        parts.append((fit(row.name, columns.name) if columns.name else "", ""))
    elif columns.name:
        parts += [(pad(row.name, columns.name), ""), (GAP, "")]
        parts.append((pad(row.step, columns.step), "dim"))
    else:  # no room for both: what it does, once it does something
        parts.append((pad(row.step or row.name, columns.step), ""))
    if columns.tokens and row.tokens:
        parts.append((f"{short(row.tokens) + ' tok':>{columns.tokens}}", "dim"))
    return parts
