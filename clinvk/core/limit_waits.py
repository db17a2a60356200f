"""What a result says of the limits that held its task up."""

from __future__ import annotations

from datetime import UTC, datetime

from clinvk.core.durations import in_words
from clinvk.core.limit_words import limit_name
from clinvk.core.replaced import replaced
from clinvk.core.spec import ErrorKind, TaskResult


def over_wait(kind: ErrorKind, until_ms: int, max_wait_seconds: float, said: str) -> str:
    """Return the error of a task that a limit would hold up for longer than it may.

    `until_ms` is when the limit opens, `said` what the CLI said of it, if it did.
    """
    until = datetime.fromtimestamp(until_ms / 1000, UTC)
    words = f"{limit_name(kind)} until {until:%Y-%m-%d %H:%M} UTC, longer than "
    return f"{words}max_wait ({in_words(max_wait_seconds)}) allows" + (f": {said}" if said else "")


def told(result: TaskResult, waited_ms: int, rejections: int) -> TaskResult:
    """Add to a result how long limits held its task up in all, and how often they refused it."""
    waited_seconds = round(waited_ms / 1000, 3) if waited_ms or rejections else None
    return replaced(result, waited_seconds=waited_seconds, rejections=rejections)
