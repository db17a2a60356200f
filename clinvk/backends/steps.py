"""Steps from the events of CLIs: what they call a tool's arguments and results, in common words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from clinvk.backends import parsing
from clinvk.backends.outcomes import LIMITS, Outcome
from clinvk.backends.parsing import Json
from clinvk.core.spec import ErrorKind, Usage
from clinvk.core.steps import STEP_CHARS, Step, StepKind
from clinvk.core.timestamps import rfc3339

ARGUMENTS = (
    "command",
    "file_path",
    "notebook_path",
    "absolute_path",
    "dir_path",
    "path",
    "pattern",
    "query",
    "url",
    "description",
    "prompt",
)
"""What says most about a tool call, the first that it has."""

NO_NAMES: Mapping[str, str] = {}
KEPT_CHARS = 10 * STEP_CHARS
"""How much of a message is kept for its step, white space included."""


def message(text: str) -> list[Step]:
    """Return the step of a message; none for one that says nothing."""
    said = parsing.excerpt(text)
    return [Step(kind=StepKind.MESSAGE, text=said)] if said else []


class Message:
    """A message that comes in pieces: one step at its end, of its beginning.

    Attributes:
        size_chars: how much of it is kept.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.size_chars = 0

    def add(self, part: str) -> None:
        """Take the next piece; what no step would show is dropped."""
        if self.size_chars < KEPT_CHARS:
            self._parts.append(part[:KEPT_CHARS])
            self.size_chars += len(self._parts[-1])

    def end(self) -> list[Step]:
        """Return the step of the message, and begin the next one."""
        said = "".join(self._parts)
        self._parts.clear()
        self.size_chars = 0
        return message(parsing.whole(said))


def tool_call(
    tool: str, arguments: Json, harmless: Collection[str], names: Mapping[str, str] = NO_NAMES
) -> Step:
    """Return the step of a tool call, such as `Edit src/auth.py`.

    `harmless` are the tools that change nothing; any other can. `names` are what people read for
    the CLI's own names, the same for all CLIs.
    """
    return Step(
        kind=StepKind.TOOL_CALL,
        text=parsing.excerpt(f"{names.get(tool, tool)} {_argument(arguments)}"),
        tool=parsing.excerpt(tool),
        can_change=tool not in harmless,
    )


def tool_result(content: Any, *, ok: bool, tool: str | None = None) -> Step:
    """Return the step of what a tool returned: text, or a list of blocks with text."""
    return Step(
        kind=StepKind.TOOL_RESULT,
        tool=tool,
        ok=ok,
        size_bytes=parsing.size_bytes(content),
    )


def usage(counts: Usage | None) -> list[Step]:
    """Return the step of the tokens so far; none where nothing was counted."""
    return [Step(kind=StepKind.USAGE, usage=counts)] if counts else []


def error(text: str, outcome: Outcome | None = None) -> list[Step]:
    """Return the step of an error, or of the limit that it means; none if it says nothing."""
    said = parsing.excerpt(text)
    if not said:
        return []
    if outcome is None or outcome.kind not in LIMITS:
        return [Step(kind=StepKind.ERROR, text=said)]
    return [limit(said, outcome.retry_at, outcome.kind)]


def limit(text: str, until: datetime | None, kind: ErrorKind | None = None) -> Step:
    """Return the step of a limit; without a kind it is near, or does not stop the CLI."""
    return Step(
        kind=StepKind.LIMIT,
        text=parsing.excerpt(text),
        error_kind=kind,
        until=rfc3339(until) if until else None,
    )


def retry(text: str, kind: ErrorKind | None, delay_seconds: float | None) -> Step:
    """Return the step of the CLI's own retry, which waits `delay_seconds` first."""
    return Step(
        kind=StepKind.RETRY,
        text=parsing.excerpt(text),
        error_kind=kind,
        delay_seconds=delay_seconds,
    )


def _argument(arguments: Json) -> str:
    named = (parsing.text(arguments, name) for name in ARGUMENTS)
    others = (parsing.text(arguments, name) for name in arguments)
    return next(filter(None, (*named, *others)), "")
