"""Text measured in terminal cells: characters of CJK and emoji have two."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from clinvk.core.sanitize import one_line
from clinvk.core.spec import TaskSpec

LONG_CHARS = 4000
"""No terminal is wider; characters after this many are not measured."""
ELLIPSIS = "..."


def first_line(text: str) -> str:
    """Return the first line that is not blank, with `...` where more lines follow."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    first = one_line(lines[0][:LONG_CHARS])
    is_all = len(lines) == 1 and len(lines[0]) <= LONG_CHARS
    return first if is_all or first.endswith(ELLIPSIS) else first + ELLIPSIS


def fit(text: str, cells: int) -> str:
    """Cut text to a number of terminal cells, with `...` for what was cut."""
    if cell_len(text) <= cells:
        return text
    kept = max(0, cells - len(ELLIPSIS))
    return set_cell_size(text, kept).rstrip() + ELLIPSIS[: cells or None]


def pad(text: str, cells: int) -> str:
    """Pad or cut text to exactly this many terminal cells."""
    return set_cell_size(fit(text, cells), cells)


def title(spec: TaskSpec) -> str:
    """Return a task's name, its id, or the beginning of its prompt."""
    return one_line(spec.name or spec.id or "") or first_line(spec.prompt).removesuffix(ELLIPSIS)
