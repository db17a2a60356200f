"""The Celery side of a run: its tasks as members of a chord, published one by one.

The chord's size is registered at submit, its members are published as admission lets them out,
and its body closes the run. A revoked member fails the chord, so the body's errback leads to
the same idempotent step. Celery counts each task id of a chord once, so all attempts of a task
share one id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

import redis
from celery import Celery, Signature

from workers.kernel import Admission, Canceled, Kernel, Lease, Submitted
from workers.spec import ErrorKind, Outcome, RunOptions, TaskResult, TaskSpec

EXECUTE = "clinvk.execute"
AGGREGATE = "clinvk.aggregate"
AGGREGATE_FAILED = "clinvk.aggregate_failed"

T = TypeVar("T")


class Dispatcher:
    """The kernel's verbs together with the messages that follow from them."""

    def __init__(self, app: Celery, kernel: Kernel) -> None:
        self.app: Any = app
        self.kernel = kernel

    def submit(
        self,
        run: str,
        specs: Sequence[TaskSpec],
        options: RunOptions,
        run_key: str = "",
        digest: str = "",
    ) -> Submitted:
        """Record a run and publish the first of its tasks."""
        self.app.backend.set_chord_size(run, len(specs))
        submitted = self.kernel.submit(run, specs, options, run_key, digest)
        self.release(submitted.admission)
        return submitted

    def release(self, admission: Admission) -> int:
        """Publish tasks that were handed out; returns when to ask for more (ms).

        A message that is lost after its handout is published again by the reaper; a message
        that comes twice is refused at its claim.
        """
        for handout in admission.handouts:
            self.app.send_task(
                EXECUTE,
                (handout.run, handout.index, handout.attempt),
                task_id=_task_id(handout.run, handout.index),
                queue=handout.queue,
                group_id=handout.run,
                group_index=handout.index,
                chord=self._body(handout.run, handout.queue),
                ignore_result=True,
                add_to_parent=False,
            )
        return admission.retry_after_ms

    def _body(self, run: str, queue: str) -> Signature:
        # On the queue of the member that completes the chord: somebody serves that one.
        body = self.app.signature(AGGREGATE, (run,), immutable=True, queue=queue)
        errback = self.app.signature(AGGREGATE_FAILED, (run,), immutable=True, queue=queue)
        return body.on_error(errback)

    def finish(self, lease: Lease, result: TaskResult) -> bool:
        """Record a result and let the next tasks out. False where the fence refused it.

        A result is worth money: it waits for Redis to come back, however long that takes.
        """
        recorded = _insist(lambda: self.kernel.finish(lease, result))
        self._take_back(lease.run, recorded.canceled)
        self.release(recorded.admission)
        return recorded.ok

    def results(self, run: str, indexes: Sequence[int]) -> list[TaskResult | None]:
        """Read results that a task builds on; waits for Redis as well."""
        return _insist(lambda: list(self.kernel.results(run, indexes)))

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run: nothing of it starts any more, and workers stop what runs."""
        self._take_back(run, self.kernel.cancel(run, reason))

    def _take_back(self, run: str, canceled: Canceled) -> None:
        if not canceled:
            return
        # Members that were never published will never return to the chord.
        summary = self.kernel.summary(run)
        if summary is not None and canceled.unpublished:
            self.app.backend.set_chord_size(run, summary.total - canceled.unpublished)
        if canceled.published:
            # Their claims would be refused as well; this takes them out of the queues, too.
            self.app.control.revoke([_task_id(run, index) for index in canceled.published])
        # Where the last member returned before the size shrank, nobody completes the chord.
        self.kernel.aggregate(run)

    def reap(self) -> None:
        """Hand out again what was lost, and close what its chord did not close."""
        reaped = self.kernel.reap()
        for lease in reaped.given_up:
            summary = self.kernel.summary(lease.run)
            self.finish(lease, _lost(lease, canceled=summary is None or summary.canceled_run))
        self.release(reaped.admission)
        for run in reaped.complete:
            self.kernel.aggregate(run)


def _insist(call: Callable[[], T]) -> T:
    for delay_seconds in chain((0.1, 0.5, 1.0), repeat(2.0)):
        try:
            return call()
        except (redis.ConnectionError, redis.TimeoutError):
            time.sleep(delay_seconds)
    raise AssertionError  # the delays never end


def _task_id(run: str, index: int) -> str:
    return f"{run}-{index}"


def _lost(lease: Lease, canceled: bool) -> TaskResult:
    status, kind = (
        (Outcome.CANCELED, ErrorKind.CANCELED) if canceled else (Outcome.LOST, ErrorKind.LOST)
    )
    return TaskResult(
        index=lease.index,
        status=status,
        exit_code=-1,
        duration_seconds=0.0,
        error=f"the worker was lost in attempt {lease.attempt}",
        error_kind=kind,
        attempts=lease.attempt,
    )
