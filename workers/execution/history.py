"""What the executions of a task leave for the next one: `Hold.history`, as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from clinvk.core import wire_checks
from clinvk.core.errors import WireError
from clinvk.core.spec import Try, Usage, Wire

MOST_TRIES = 20
"""A task that waits for days may be refused hundreds of times: the latest are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Wire):
    """The executions of a task so far; one that was never put back has none.

    `entries` are those of its `backend`, `alternatives` and `fallback` that were tried. Where an
    execution has acted, the next one goes on with its `session`, that of the CLI of
    `session_entry` on worker `session_worker`; this CLI has counted `session_usage` in it so far.
    With `may_start_over` it may also be started from its beginning.
    """

    tried: list[Try] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    session: str | None = None
    session_entry: str | None = None
    session_worker: str | None = None
    session_usage: Usage | None = None
    may_start_over: bool = False

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Read what an earlier execution left; nothing where there was none.

        Raises:
            WireError: it cannot be read.
        """
        return cls.from_wire(text) if text else cls()

    @classmethod
    def _from_fields(cls, body: dict[str, Any]) -> Self:
        for _, wrong in wire_checks.problems(cls, body):
            raise WireError(wrong)
        body["tried"] = [Try.from_dict(entry) for entry in body.get("tried", ())]
        if body.get("session_usage") is not None:
            body["session_usage"] = Usage(**body["session_usage"])
        return cls(**body)
