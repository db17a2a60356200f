"""The Celery tasks: decode, claim, execute, return."""

from __future__ import annotations

from functools import partial

import redis
from celery.exceptions import Ignore

from clinvk.broker.message import AGGREGATE, EXECUTE
from clinvk.store.types import Claim, Lease, Recorded
from workers import context
from workers.app import app
from workers.context import WorkerContext
from workers.observers import CommandEnded, RunEnded, TaskClaimed, TaskEnded, TaskReleased


@app.task(name=EXECUTE)  # type: ignore[untyped-decorator]
def execute(run: str, index: int, dispatch: int) -> bool:
    """Run one dispatch of one task. Returns whether it is the last of its chord to end.

    Raises:
        Ignore: this dispatch is not, or no longer, the one that counts: somebody else returns
            to the chord for the task.
    """
    here, lease = context.current(), Lease(run, index, dispatch)
    try:
        claim = here.dispatcher.claim(lease, here.executor.owner)
        if claim.verdict == "stale":
            raise Ignore
        if claim.verdict == "canceled":
            return False
        recorded = _run(here, lease, claim)
    except redis.RedisError as error:
        # Redis refuses it for this run; the worker goes on with others. What was lost by this is
        # found by a reaper.
        here.errors.log(f"run {run}", error)
        raise Ignore from error
    if recorded is None or not recorded.ok:
        raise Ignore
    if recorded.is_last and here.renewer.is_draining:
        _close(here, run)  # perhaps no worker is left that would take the message of the body
    if recorded.message is not None:
        here.consumer.take(*recorded.message)
    return recorded.is_last


def _run(here: WorkerContext, lease: Lease, claim: Claim) -> Recorded | None:
    """Run a claimed task and record its result; None where the task was released instead."""
    here.observers.notify(TaskClaimed(lease, claim.attempts))
    with here.renewer.hold(lease) as stop:
        results = partial(here.dispatcher.results, lease.run)
        result = here.dispatcher.recorded_before(lease) or here.executor.execute(
            lease, claim, stop, results
        )
        here.renewer.mark_ended(lease)
        here.observers.notify(CommandEnded(lease))
        if result is not None:
            recorded = here.dispatcher.finish(lease, result, here.consumer.serves())
            if recorded.ok:
                here.observers.notify(TaskEnded(lease, result))
            return recorded
        reason = stop.reason
    here.dispatcher.release(lease, here.executor.owner)
    here.observers.notify(TaskReleased(lease, reason))
    return None


@app.task(name=AGGREGATE)  # type: ignore[untyped-decorator]
def aggregate(run: str) -> None:
    """Close the run: the chord's body."""
    _close(context.current(), run)


def _close(here: WorkerContext, run: str) -> None:
    """Close a run whose results are all in; the second time changes nothing."""
    if here.dispatcher.store.aggregate(run):
        here.observers.notify(RunEnded(run))
