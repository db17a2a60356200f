"""What the executions of a task leave for the next one, and where it may go on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any, Self

from clinvk.core import wire_checks
from clinvk.core.errors import WireError
from clinvk.core.spec import TaskSpec, Try, Usage, Wire, queue_of


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Wire):
    """The executions of a task so far, `Hold.history`; one that was never put back has none.

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


class ForeignQueueError(WireError):
    """A task came through a queue that is none of its own, where clinvk never puts it."""


def entry_of(spec: TaskSpec, queue: str, model: str) -> str:
    """Return the entry of a task that a queue stands for, and a model if it was moved there.

    Raises:
        ForeignQueueError: it has none.
        WireError: its variants have fields that do not fit.
    """
    for entry in spec.entries:
        is_queue = queue in {"", queue_of(entry.partition(":")[0])}
        if is_queue and (not model or model == variant_of(spec, entry).model):
            return entry
    wanted = f"{queue} with model {model}" if model else queue
    raise ForeignQueueError(f"the task came through the queue {wanted}, which is none of its own")


def variant_of(spec: TaskSpec, entry: str) -> TaskSpec:
    """Return the task as it runs for an entry.

    Raises:
        WireError: its variant has fields that do not fit.
    """
    if entry != spec.backend:
        return spec.variant(entry)
    if spec.has_several or spec.variants:
        return replace(spec, alternatives=[], fallback=None, variants={})
    return spec


def routes(spec: TaskSpec, entry: str, history: History) -> list[tuple[str, str]]:
    """Return queue and model of each entry that was not tried yet, in order.

    Those that were forged are passed over.
    """
    tried = {entry, *history.entries}
    if not spec.alternatives:
        tried.add(spec.backend)
    found = []
    for other in spec.entries:
        if other not in tried:
            with contextlib.suppress(WireError):
                variant = variant_of(spec, other)
                found.append((queue_of(variant.backend), variant.model or ""))
    return found
