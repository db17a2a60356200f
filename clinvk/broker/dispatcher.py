"""The Celery side of a run: its tasks as members of a chord, published one by one.

The store publishes members as admission dispatches them (`clinvk/broker/message.py`), and counts
them; the chord's body closes the run (`clinvk/broker/result_backend.py`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import redis

from clinvk.broker.expired_waits import Overdue
from clinvk.broker.message import MessageOf
from clinvk.broker.recent_results import RecentResults
from clinvk.core.error_log import ErrorLog
from clinvk.core.spec import RunOptions, TaskResult, TaskSpec
from clinvk.store.connection import is_transient, retry
from clinvk.store.store import Store
from clinvk.store.types import (
    Admission,
    Canceled,
    Claim,
    ExhaustedTask,
    ExpiredWait,
    Held,
    Hold,
    Lease,
    Reaped,
    Recorded,
    Submitted,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

_nonces = itertools.count()  # an owner is one process


class Dispatcher:
    """The store's operations together with the messages that follow from them.

    `message_of` makes the message of a run's tasks. `recent` keeps results that a worker recorded,
    for `redeliver`. What belongs to a task that runs waits for a Redis that is away, up to
    `patience_seconds`: for ever in the task's own thread, not at all in one that has other work to
    do.
    """

    def __init__(
        self,
        message_of: MessageOf,
        store: Store,
        recent: RecentResults | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        self._message_of = message_of
        self.store = store
        self._recent = recent
        self._patience_seconds = patience_seconds
        self._errors = ErrorLog(logger)

    def submit(
        self,
        run: str,
        specs: Iterable[TaskSpec],
        options: RunOptions,
        run_key: str = "",
        digest: str = "",
        user: str = "",
    ) -> Submitted:
        """Record a run and dispatch the first of its tasks."""
        message = self._message_of(run)
        submitted = self.store.submit(run, specs, options, run_key, digest, message, user)
        self._log_failures(submitted.admission)
        return submitted

    def claim(self, lease: Lease, owner: str) -> Claim:
        """Ask to run a task; waits for Redis, if need be: a late claim is refused."""
        nonce = str(next(_nonces))
        return self._retry(lambda: self.store.claim(lease, owner, nonce))

    def release(self, lease: Lease, owner: str) -> None:
        """Let another worker have a task of which nothing runs here any more."""
        self._retry(lambda: self.store.release(owner, lease))

    def finish(self, lease: Lease, result: TaskResult, queues: Iterable[str] = ()) -> Recorded:
        """Record a result and dispatch the next tasks; `queues` as in `Store.finish`.

        A result is worth money: it waits for Redis to come back, however long that takes.
        """
        recorded = self._retry(lambda: self.store.finish(lease, result, queues))
        self._log_failures(recorded.admission)
        if self._recent is not None and recorded.ok:
            self._recent.add(lease, result)
        self._take_back(lease.run, recorded.canceled)
        return recorded

    def hold(self, lease: Lease, hold: Hold) -> Held:
        """Put a task back that is to be tried again; waits for Redis, as for a result."""
        held = self._retry(lambda: self.store.hold(lease, hold))
        self._log_failures(held.admission)
        return held

    def recorded_before(self, lease: Lease) -> TaskResult | None:
        """Return the result that this worker recorded of a task which the server dispatches anew.

        It does so only where it forgot: then the task is not run a second time.
        """
        return self._recent.find(lease) if self._recent is not None else None

    def redeliver(self) -> None:
        """Record the results of the last minutes again, where the server does not know them."""
        for lease, result in self._recent.latest() if self._recent is not None else ():
            recorded = self.store.finish(lease, result)
            self._take_back(lease.run, recorded.canceled)
            if recorded.is_last:
                self.store.aggregate(lease.run)

    def results(self, run: str, indexes: Sequence[int]) -> list[TaskResult | None]:
        """Read results that a task builds on; waits for Redis as well."""
        return self._retry(lambda: list(self.store.results(run, indexes)))

    def submitter_of(self, run: str) -> str:
        """Return who submitted a run; waits for Redis as well."""
        return self._retry(lambda: self.store.submitter_of(run))

    def ended_by_budget(self, run: str) -> bool:
        """Whether a run was canceled because it came to a budget; False where Redis is away.

        Nothing waits for it: the result, which does, has a connection that stands already, also
        where the socket of a private server was removed.
        """
        try:
            return self.store.ended_by_budget(run)
        except redis.RedisError:
            return False

    def piece(self, submitter: str, name: str) -> bytes | None:
        """Read a piece of what a client has shipped; waits for Redis as well."""
        return self._retry(lambda: self.store.piece(submitter, name))

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run: nothing of it starts any more, and workers stop what runs."""
        self._take_back(run, self.store.cancel(run, reason))

    def _retry(self, call: Callable[[], T]) -> T:
        return retry(call, self._patience_seconds)

    def _take_back(self, run: str, canceled: Canceled) -> None:
        if not canceled:
            return
        # The claim of a message that is still in its queue will be refused. Where nothing of the
        # run runs, no member will complete the chord.
        self.store.aggregate(run)

    def reap(self) -> Reaped:
        """Dispatch lost tasks again, end exhausted ones, close runs that their chord did not.

        Tasks that limits would hold up for longer than they may go on elsewhere, or end.

        What fails for one run is logged once, and the others go on.
        """
        reaped = self.store.reap()
        self._log_reaped(reaped)
        for exhausted in reaped.exhausted:
            self._for_run(exhausted.lease.run, partial(self._end, exhausted))
        for expired in self.store.expired_waits() if reaped.has_closed_gate else ():
            self._for_run(expired.lease.run, partial(self._end_wait, expired))
        for run in reaped.complete:
            self._for_run(run, partial(self.store.aggregate, run))
        return reaped

    def serve(self) -> None:
        """Do what users ask for who may not do it themselves."""
        self.store.serve(self._message_of)

    def admit(self) -> Admission:
        """Dispatch what time, or an operator, has made room for."""
        admission = self.store.admit()
        self._log_failures(admission)
        return admission

    def _end(self, exhausted: ExhaustedTask) -> None:
        """Record the end of a task that will not be tried again."""
        run = exhausted.lease.run
        summary = self.store.summary(run)
        is_canceled = summary is None or summary.canceled_run
        make = TaskResult.canceled_and_lost if is_canceled else TaskResult.lost
        result = make(exhausted.lease.index, exhausted.reason, exhausted.worker_losses)
        if summary is not None and summary.ended_by_budget:
            result = result.at_budget()
        self._record_end(exhausted.lease, result)

    def _record_end(self, lease: Lease, result: TaskResult) -> None:
        result = self.store.after_earlier(lease, result)
        if self.finish(lease, result).is_last:
            self.store.aggregate(lease.run)

    def _end_wait(self, expired: ExpiredWait) -> None:
        """Let a task go on elsewhere that has waited for long enough, or record its end.

        The store refuses both where the task is dispatched by now.
        """
        lease = expired.lease
        (spec,) = self.store.specs(lease.run, [lease.index])
        if spec is None:
            return
        overdue = Overdue.read(expired, spec, self.store.history(lease))
        elsewhere = overdue.elsewhere()
        if elsewhere is not None and self.hold(lease, elsewhere).verdict != "over":
            return
        self._record_end(lease, overdue.end())

    def _for_run(self, run: str, act: Callable[[], object]) -> None:
        """Act on one run; an error of its scripts is logged and costs no other run."""
        try:
            act()
        except redis.ResponseError as error:
            if is_transient(error):
                raise
            self._errors.log(f"run {run}", error)

    def _log_failures(self, admission: Admission) -> None:
        for failure in admission.failures:
            self._errors.warn(f"run {failure.run}", failure.error)

    def _log_reaped(self, reaped: Reaped) -> None:
        for failure in reaped.failures:
            self._errors.warn(f"run {failure.run}", failure.error)
        for repair in reaped.repairs:
            self._errors.warn(f"run {repair.run} was repaired", repair.what)
