"""Steps as lines of text, and as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from clinvk.core.sanitize import one_line
from clinvk.core.spec import Usage
from clinvk.core.steps import Step, StepKind, StepRecord
from clinvk.core.timestamps import local, until
from clinvk.output.text_width import fit

STEP_KEYS = (
    "index",
    "attempt",
    "sequence",
    "number",
    "time",
    "kind",
    "text",
    "tool",
    "can_change",
    "ok",
    "size_bytes",
    "usage",
    "error_kind",
    "until",
    "delay_seconds",
    "raw",
)
"""The keys of a step as JSON, in order: the JSON schema is made of this (`tools/schemas.py`)."""
STEP_ALWAYS = frozenset({"index", "attempt", "sequence", "number", "time", "kind"})
"""The keys that every step has."""
KIB, MIB = 1 << 10, 1 << 20


def entry(record: StepRecord) -> dict[str, Any]:
    """Return a step for JSON, without the optional keys that have no value."""
    values = {key: getattr(record, key) for key in STEP_KEYS}
    values["usage"] = record.usage and record.usage.to_dict()
    return {key: value for key, value in values.items() if value not in (None, "")}


def json_line(value: Mapping[str, Any]) -> str:
    """Return a value as one line of JSON, line end included, that UTF-8 can encode."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # an unpaired surrogate
        text = json.dumps(value)
    return text + "\n"


def describe(step: Step) -> str:
    """Return what a step is, in one safe line; nothing for one that is not worth a line."""
    said = one_line(step.text)
    match step.kind:
        case StepKind.TOOL_CALL:
            return said or one_line(step.tool or "a tool")
        case StepKind.TOOL_RESULT:
            return _tool_result(step, said)
        case StepKind.USAGE:
            return tokens(step.usage) if step.usage else ""
        case StepKind.LIMIT:
            return f"limit: {said or step.error_kind or 'near'}{until(step.until)}"
        case StepKind.RETRY:
            later = "" if step.delay_seconds is None else f", in {step.delay_seconds:.0f} s"
            return (said or f"retry: {step.error_kind or 'the CLI tries again'}") + later
        case StepKind.ERROR:
            return f"error: {said}"
        case _:
            return said


def _tool_result(step: Step, said: str) -> str:
    parts = ["failed" if step.ok is False else "ok"]
    parts += [size(step.size_bytes)] if step.size_bytes is not None else []
    parts += [said] if said else []
    return f"{one_line(step.tool or '') or 'result'}: {', '.join(parts)}"


def clock(moment: str) -> str:
    """Return an RFC 3339 time as this machine's clock showed it then; dashes where it is none."""
    at = local(moment)
    return f"{at:%H:%M:%S}" if at else "--:--:--"


def size(count: int) -> str:
    """Return a number of bytes as `300 B`, `1.2 KiB` or `3.4 MiB`."""
    if count < KIB:
        return f"{count} B"
    return f"{count / KIB:.1f} KiB" if count < MIB else f"{count / MIB:.1f} MiB"


def tokens(usage: Usage) -> str:
    """Return a number of tokens as `812 tokens`, `12.3k tokens` or `1.2M tokens`."""
    return f"{short(usage.total_tokens or usage.input_tokens + usage.output_tokens)} tokens"


def short(count: int) -> str:
    """Return a count as `812`, `12.3k` or `1.2M`."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 999_950 else f"{count / 1e6:.1f}M"


class StepLines:
    """Makes the lines of steps as they come, with a note where steps are missing, or a new attempt.

    Attributes:
        with_task: whether each line begins with the task's number in brackets.
        with_time: whether each line begins with the time.
        width: the terminal cells of a line; None does not cut it.
    """

    def __init__(self, *, with_task: bool, with_time: bool, width: int | None) -> None:
        self.with_task = with_task
        self.with_time = with_time
        self.width = width
        self._seen: dict[int, tuple[int, int]] = {}

    def lines(self, record: StepRecord) -> Iterator[str]:
        """Yield the lines of a step, without line ends: none, one, or one more for a note."""
        number, attempt = self._seen.get(record.index, (0, 1))
        self._seen[record.index] = (record.number, record.attempt)
        if record.number > number + 1:
            yield self._line(record, f"({record.number - number - 1} steps were dropped)")
        if record.attempt > attempt:
            yield self._line(record, f"(attempt {record.attempt})")
        if text := describe(record):
            yield self._line(record, text)

    def skip(self, record: StepRecord) -> None:
        """Take note of a step that is not shown."""
        number, attempt = self._seen.get(record.index, (0, 1))
        missing = record.number - number - 1
        self._seen[record.index] = (record.number - max(0, missing), attempt)

    def _line(self, record: StepRecord, text: str) -> str:
        head = f"{clock(record.time)} " if self.with_time else ""
        head += f"[{record.index + 1}] " if self.with_task else ""
        line = head + text
        return line if self.width is None else fit(line, self.width)
