"""The Celery side of a run: its tasks as members of a chord, published one by one.

Members are published by the store as admission lets them out (`clinvk/broker/message.py`), and
counted by it (`clinvk/broker/result_backend.py`); the chord's body closes the run.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

import redis
from celery import Celery

from clinvk.broker.message import task_id, template
from clinvk.core.spec import ErrorKind, RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.store.store import (
    Canceled,
    Claim,
    ExhaustedTask,
    Lease,
    Reaped,
    Recorded,
    Store,
    Submitted,
    is_transient,
)

T = TypeVar("T")


class Dispatcher:
    """The store's verbs together with the messages that follow from them."""

    def __init__(self, app: Celery, store: Store) -> None:
        self.app: Any = app
        self.store = store

    def submit(
        self,
        run: str,
        specs: Sequence[TaskSpec],
        options: RunOptions,
        run_key: str = "",
        digest: str = "",
    ) -> Submitted:
        """Record a run and let out the first of its tasks."""
        message = template(self.app, run)
        return self.store.submit(run, specs, options, run_key, digest, message)

    def claim(self, lease: Lease, owner: str) -> Claim:
        """Ask to run a task; waits for Redis, if need be: a late claim is refused."""
        nonce = secrets.token_hex(4)
        return _retry(lambda: self.store.claim(lease, owner, nonce))

    def release(self, lease: Lease, owner: str) -> None:
        """Let somebody else have a task of which nothing runs here any more."""
        _retry(lambda: self.store.release(owner, lease))

    def finish(self, lease: Lease, result: TaskResult, queues: Iterable[str] = ()) -> Recorded:
        """Record a result and let the next tasks out; `queues` as in `Store.finish`.

        A result is worth money: it waits for Redis to come back, however long that takes.
        """
        recorded = _retry(lambda: self.store.finish(lease, result, queues))
        self._take_back(lease.run, recorded.canceled)
        return recorded

    def results(self, run: str, indexes: Sequence[int]) -> list[TaskResult | None]:
        """Read results that a task builds on; waits for Redis as well."""
        return _retry(lambda: list(self.store.results(run, indexes)))

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run: nothing of it starts any more, and workers stop what runs."""
        self._take_back(run, self.store.cancel(run, reason))

    def _take_back(self, run: str, canceled: Canceled) -> None:
        if not canceled:
            return
        if canceled.published:
            # Their claims would be refused as well; this takes them out of the queues, too.
            self.app.control.revoke([task_id(run, index) for index in canceled.published])
        # Where nothing of it runs, no member will complete the chord.
        self.store.aggregate(run)

    def reap(self) -> Reaped:
        """Hand out again what was lost, and close what its chord did not close."""
        reaped = self.store.reap()
        for exhausted in reaped.exhausted:
            summary = self.store.summary(exhausted.lease.run)
            is_canceled = summary is None or summary.canceled_run
            if self.finish(exhausted.lease, _lost(exhausted, is_canceled=is_canceled)).is_last:
                self.store.aggregate(exhausted.lease.run)
        for run in reaped.complete:
            self.store.aggregate(run)
        return reaped


def _retry(call: Callable[[], T]) -> T:
    for delay_seconds in chain((0.1, 0.5, 1.0), repeat(2.0)):
        try:
            return call()
        except redis.RedisError as error:
            if not is_transient(error):
                raise
            time.sleep(delay_seconds)
    raise AssertionError  # the delays never end


def _lost(exhausted: ExhaustedTask, *, is_canceled: bool) -> TaskResult:
    times = "" if exhausted.losses == 1 else f" for the {exhausted.losses}. time"
    return TaskResult(
        index=exhausted.lease.index,
        status=TaskStatus.CANCELED if is_canceled else TaskStatus.LOST,
        exit_code=-1,
        duration_seconds=0.0,
        error=f"canceled; {exhausted.why}" if is_canceled else f"lost{times}: {exhausted.why}",
        error_kind=ErrorKind.CANCELED if is_canceled else ErrorKind.LOST,
        attempts=max(1, exhausted.losses),
    )
