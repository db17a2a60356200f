"""What a claim gives a worker to run: the task as it is for the queue that it came through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from clinvk.backends.base import Session
from clinvk.core.errors import WireError
from clinvk.core.history import ForeignQueueError, History, entry_of, variant_of
from clinvk.core.spec import ErrorKind, TaskSpec
from clinvk.store.types import Claim
from workers.execution.refusal import RefusedError

LARGEST_SPEC_BYTES = 1 << 27
"""What is larger is not decoded: it would take the memory of the tasks beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task to run.

    `spec` is the task as it was submitted, `variant` as it is to be run, which is that of `entry`:
    its `backend`, or one of its `alternatives` and `fallback`.
    """

    spec: TaskSpec
    variant: TaskSpec
    entry: str
    history: History = field(default_factory=History)

    def begin(
        self, worker: str, resume_prompt: str, *, has_session: bool = True
    ) -> tuple[TaskSpec, Session]:
        """Return what to run on this worker: the task, or the next prompt of its session.

        `has_session`: this worker still has what an execution of the task here has kept.

        Raises:
            RefusedError: it has acted, so that it is not started over, and cannot be gone on with.
        """
        history = self.history
        if history.session is None:
            return self.variant, Session(keep=self.spec.may_go_on)
        is_here = (history.session_worker, history.session_entry) == (worker, self.entry)
        if is_here and has_session:
            spec = replace(self.variant, prompt=resume_prompt, inputs={})
            return spec, Session(keep=True, resume=history.session)
        if history.may_start_over:
            return self.variant, Session(keep=self.spec.may_go_on)
        raise self._stranded()

    def _stranded(self) -> RefusedError:
        last = self.history.tried[-1] if self.history.tried else None
        reason = (
            "not tried again: it had called tools that can change something, and its session on "
            f"worker {self.history.session_worker} is gone; retry_after_changes: true allows it"
        )
        error = f"{last.error} ({reason})" if last and last.error else reason
        kind = last.error_kind if last else None
        return RefusedError(kind or ErrorKind.FAILED, error, is_final=True)


def assigned(claim: Claim, complete: Callable[[TaskSpec], TaskSpec]) -> Assignment:
    """Decode what was claimed, which anyone who reaches the broker may have written.

    `complete` adds to a task what it shares with others.

    Raises:
        RefusedError: it is no task, or too large, or not one for the queue that it came through.
    """
    spec = complete(_decoded(claim.spec))
    try:
        history, entry = History.read(claim.history), entry_of(spec, claim.queue, claim.model)
        variant = variant_of(spec, entry)
    except ForeignQueueError as error:
        raise RefusedError(ErrorKind.REFUSED, str(error)) from error
    except WireError as error:
        raise RefusedError(ErrorKind.INVALID, str(error)) from error
    return Assignment(spec=spec, variant=variant, entry=entry, history=history)


def _decoded(wire: bytes | None) -> TaskSpec:
    if wire is None:
        raise RefusedError(ErrorKind.INVALID, "the task's spec is no longer there")
    if len(wire) > LARGEST_SPEC_BYTES:
        raise RefusedError(
            ErrorKind.TOO_LARGE, f"the task has {len(wire)} bytes, more than {LARGEST_SPEC_BYTES}"
        )
    try:
        return TaskSpec.from_wire(wire)
    except WireError as error:
        raise RefusedError(ErrorKind.INVALID, str(error)) from error
