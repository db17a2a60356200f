"""What a CLI does while it runs, one step at a time, in the same words for every CLI.

A backend makes a `Step` of each event that means something to a person; a worker sends it on as a
`StepRecord`. A reader of the wire format passes over fields that it does not know, and keeps kinds
that it does not know, since a step is only shown, never obeyed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self

from clinvk.core import wire_checks
from clinvk.core.errors import WireError
from clinvk.core.spec import ErrorKind, Usage, Wire

STEP_CHARS = 500
"""The longest text of a step."""


class StepKind(StrEnum):
    """What a step is."""

    MESSAGE = "message"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    USAGE = "usage"
    LIMIT = "limit"
    RETRY = "retry"
    ERROR = "error"
    EVENT = "event"
    """A line of the CLI that is no step, kept for its `raw` alone, where the task asked for full
    steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a CLI did.

    `kind` is a `StepKind`; one that a newer version wrote stays a string. `text` is one line
    without control characters, at most `STEP_CHARS` long: the beginning of a message, a tool call's
    summary (`Edit src/auth.py`), an error.

    Attributes:
        tool: the tool's name (tool_call; tool_result where the CLI says it).
        can_change: whether the tool can change anything (tool_call).
        ok: whether the tool succeeded (tool_result).
        size_bytes: how much the tool returned, in UTF-8 (tool_result).
        usage: the tokens of this run of the CLI so far (usage).
        error_kind: which limit was hit (limit), or why the CLI tries again (retry), where known.
            A limit without one is near, not hit.
        until: when that limit opens, RFC 3339 (limit), where the CLI says so.
        delay_seconds: how long the CLI waits before it tries again (retry).
    """

    kind: StepKind | str
    text: str = ""
    tool: str | None = None
    can_change: bool | None = None
    ok: bool | None = None
    size_bytes: int | None = None
    usage: Usage | None = None
    error_kind: ErrorKind | str | None = None
    until: str | None = None
    delay_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord(Step, Wire):
    """A step of one task of a run, as the store keeps it.

    Attributes:
        index: the task's index in its run.
        attempt: which execution of the task it belongs to, from 1.
        time: when the worker read it, RFC 3339 in UTC.
        sequence: its place among all steps of the run, from 1; 0 until the store has given it one.
        number: its place among the steps of its task, from 1, given by the store; where numbers are
            missing, steps were dropped.
        raw: the CLI's own line, where the task asked for full steps.
    """

    index: int
    attempt: int
    time: str
    sequence: int = 0
    number: int = 0
    raw: str | None = None

    @classmethod
    def of(cls, step: Step, **where: Any) -> Self:
        """Make the record of a step; `where` are the fields that a record adds."""
        return cls(**{entry.name: getattr(step, entry.name) for entry in fields(Step)}, **where)

    @classmethod
    def from_wire(cls, text: str | bytes) -> Self:
        """Decode what `to_wire` of any version wrote.

        Raises:
            WireError: not a JSON object, without one of the required fields, or with one of
                another type.
        """
        try:
            body = json.loads(text)
            known = {name: body[name] for name in _NAMES if name in body}
            return cls._from_fields(known)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WireError(f"cannot decode a {cls.__name__}: {error}") from error

    @classmethod
    def _from_fields(cls, body: dict[str, Any]) -> Self:
        if body.get("usage") is not None:
            body["usage"] = {name: body["usage"].get(name, 0) for name in _COUNTS}
        for _, wrong in wire_checks.problems(cls, body):
            raise ValueError(wrong)
        body["kind"] = _known(StepKind, body["kind"])
        if body.get("error_kind") is not None:
            body["error_kind"] = _known(ErrorKind, body["error_kind"])
        if body.get("usage") is not None:
            body["usage"] = Usage(**body["usage"])
        return cls(**body)


_NAMES = tuple(entry.name for entry in fields(StepRecord))
_COUNTS = tuple(entry.name for entry in fields(Usage))


def _known(kinds: type[StrEnum], value: str) -> StrEnum | str:
    """Return the member of this value; the value itself where a newer version wrote it."""
    return next((kind for kind in kinds if kind == value), value)
