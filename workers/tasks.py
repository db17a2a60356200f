"""The Celery tasks: decode, claim, execute, return."""

from __future__ import annotations

import random
from functools import partial

import redis
from celery.exceptions import Ignore

from clinvk.broker.message import AGGREGATE, EXECUTE
from clinvk.core.spec import ErrorKind, StepDetail, TaskResult
from clinvk.store.decoding import earlier
from clinvk.store.types import Claim, Lease, Recorded
from workers import context
from workers.app import app
from workers.context import WorkerContext
from workers.execution import next_step
from workers.execution.next_step import PutBack
from workers.observers import (
    CommandEnded,
    TaskClaimed,
    TaskEnded,
    TaskHeld,
    TaskReleased,
    TaskStep,
)


@app.task(name=EXECUTE)  # type: ignore[untyped-decorator]
def execute(run: str, index: int, dispatch: int) -> bool:
    """Run one dispatch of one task. Returns whether it is the last of its chord to end.

    Raises:
        Ignore: this dispatch is not, or no longer, the one that counts, or this worker does not
            have what the run requires: somebody else returns to the chord for the task.
    """
    here, lease = context.current(), Lease(run, index, dispatch)
    try:
        claim = here.dispatcher.claim(lease, here.executor.owner)
        if claim.verdict in {"stale", "unmet"}:
            raise Ignore
        if claim.verdict == "canceled":
            return False
        recorded = _run(here, lease, claim)
    except redis.RedisError as error:
        # Redis refuses it for this run; the worker goes on with others. What was lost by this is
        # found by a reaper.
        here.errors.log(f"run {run}", error)
        raise Ignore from error
    finally:
        here.executor.worktrees.leave(lease)
    if recorded is None or not recorded.ok:
        raise Ignore
    if recorded.is_last:
        here.unclosed.append(run)  # before the look, as a drain begins before it looks at these
        if here.renewer.is_draining:
            here.close_runs()
    if recorded.message is not None:
        here.consumer.take(*recorded.message)
    return recorded.is_last


def _run(here: WorkerContext, lease: Lease, claim: Claim) -> Recorded | None:
    """Run a claimed task and record its result; None where it is to be run again."""
    here.observers.notify(TaskClaimed(lease, claim.attempts))
    with here.renewer.hold(lease) as stop:
        results = partial(here.dispatcher.results, lease.run)
        if result := here.dispatcher.recorded_before(lease):
            return _finish(here, lease, result)
        ended = here.executor.execute(lease, claim, stop, results)
        here.renewer.mark_ended(lease)
        here.observers.notify(CommandEnded(lease))
        if ended is not None:
            step = next_step.after(ended, claim, here.executor.clock.now_ms, random.random)
            detail = ended.assignment.spec.steps if ended.assignment else "off"
            return _take(here, lease, claim, step, detail)
        reason = stop.reason
    here.dispatcher.release(lease, here.executor.owner)
    here.observers.notify(TaskReleased(lease, reason))
    return None


def _take(
    here: WorkerContext,
    lease: Lease,
    claim: Claim,
    step: TaskResult | PutBack,
    detail: StepDetail,
) -> Recorded | None:
    """Take the next step with a task: put it back, or record its result."""
    if isinstance(step, TaskResult):
        return _finish(here, lease, step.after(earlier(lease.index, claim.earlier)))
    held = here.dispatcher.hold(lease, step.hold)
    if held.verdict == "held":
        if detail != "off":
            delay_ms = held.until_ms - here.executor.clock.now_ms
            here.observers.notify(TaskStep(lease, claim.attempts, step.shown(held.queue, delay_ms)))
        resumes = bool(step.hold.pinned)
        event = TaskHeld(lease, step.result, held.queue, held.until_ms, resumes)
        here.observers.notify(event)
        return None
    # Over, or stale: then the fence refuses the result, unless the run was canceled just now.
    refused = bool(step.hold.signal)
    result = step.over(held.until_ms, held.waited_ms or claim.waited_ms, claim.rejections + refused)
    return _finish(here, lease, result.after(earlier(lease.index, claim.earlier)))


def _finish(here: WorkerContext, lease: Lease, result: TaskResult) -> Recorded:
    if result.error_kind is ErrorKind.CANCELED and here.dispatcher.ended_by_budget(lease.run):
        result = result.at_budget()
    recorded = here.dispatcher.finish(lease, result, here.consumer.serves())
    if recorded.ok:
        here.observers.notify(TaskEnded(lease, result))
    return recorded


@app.task(name=AGGREGATE)  # type: ignore[untyped-decorator]
def aggregate(run: str) -> None:
    """Close the run: the chord's body."""
    context.current().close_run(run)
