"""Text that is safe and fits: shared by all that is shown to a person."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

from workers.spec import TaskSpec

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
ELLIPSIS = "..."


def one_line(text: str) -> str:
    """Return the text on one line, without anything that a terminal would obey."""
    return _CONTROL.sub(" ", text).strip()


def first_line(text: str) -> str:
    """Return the first line that says something, with `...` when there is more."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    first = one_line(lines[0])
    return first if len(lines) == 1 or first.endswith(ELLIPSIS) else first + ELLIPSIS


def fit(text: str, cells: int) -> str:
    """Cut text to a number of terminal cells, with `...` for what was cut."""
    if cell_len(text) <= cells:
        return text
    kept = max(0, cells - len(ELLIPSIS))
    return set_cell_size(text, kept).rstrip() + ELLIPSIS[: cells or None]


def pad(text: str, cells: int) -> str:
    """Fill (or cut) text to exactly this many terminal cells."""
    return set_cell_size(fit(text, cells), cells)


def title(spec: TaskSpec) -> str:
    """Return what a task is called: its name, its id, or how its prompt begins."""
    return one_line(spec.name or spec.id or "") or first_line(spec.prompt).removesuffix(ELLIPSIS)
