"""What becomes of a task that limits would hold up for longer than it may: it goes on, or ends."""

from __future__ import annotations

from dataclasses import dataclass

from clinvk.core.errors import WireError
from clinvk.core.history import History, entry_of, routes
from clinvk.core.limit_waits import over_wait, told
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, backend_of
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.store.types import ExpiredWait, Hold


@dataclass(frozen=True, slots=True)
class Overdue:
    """Such a task, as it was submitted, and what its executions left."""

    expired: ExpiredWait
    spec: TaskSpec
    history: History

    @classmethod
    def read(cls, expired: ExpiredWait, spec: TaskSpec, history: bytes) -> Overdue:
        """Make one of what the store has; a history that cannot be read says nothing."""
        try:
            return cls(expired, spec, History.read(history))
        except WireError:
            return cls(expired, spec, History())

    def elsewhere(self) -> Hold | None:
        """Return how to let it wait elsewhere; None where there is nothing that was not tried.

        One that has acted stays with its session, unless it may be started over.
        """
        try:
            entry = entry_of(self.spec, _first(self.expired.queue), self.expired.model)
        except WireError:
            return None
        others = routes(self.spec, entry, self.history)
        is_bound = self.history.session is not None and not self.history.may_start_over
        if is_bound or not others:
            return None
        return Hold(delay_ms=None, max_wait_ms=self.spec.max_wait_ms, routes=others)

    def end(self) -> TaskResult:
        """Return its end, which says what limit it is and that it may not wait for that."""
        expired, tried = self.expired, self.history.tried
        kind = _kind(expired.kind)
        opens_ms = expired.retry_at_ms or expired.until_ms
        said = next((each.error for each in reversed(tried) if each.error), None) or ""
        result = TaskResult.held_up(
            expired.lease.index,
            kind,
            over_wait(kind, opens_ms, self.spec.max_wait_seconds or 0, said),
            rfc3339_from_ms(expired.retry_at_ms) if expired.retry_at_ms else None,
            backend_of(_first(expired.queue)) if self.spec.has_several else None,
            tried,
        )
        return told(result, expired.waited_ms, expired.rejections)


def _first(queue: str) -> str:
    """Return the first of the queues that a task for several backends waits for."""
    return queue.partition("|")[0]


def _kind(name: str) -> ErrorKind:
    return next((kind for kind in ErrorKind if kind == name), ErrorKind.USAGE_LIMIT)
