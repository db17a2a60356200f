"""The Celery tasks: decode, claim, execute, return."""

from __future__ import annotations

from functools import partial

from celery.exceptions import Ignore

from clinvk.broker.message import AGGREGATE, EXECUTE
from clinvk.store.store import Lease
from workers import bootstep
from workers.app import app


@app.task(name=EXECUTE)  # type: ignore[untyped-decorator]
def execute(run: str, index: int, dispatch: int) -> bool:
    """Run one dispatch of one task. Returns whether it is the last of its chord to end.

    Raises:
        Ignore: this dispatch is not, or no longer, the one that counts: somebody else returns
            to the chord for the task.
    """
    here = bootstep.context()
    renewer, dispatcher, executor = here.renewer, here.dispatcher, here.executor
    lease = Lease(run, index, dispatch)
    claim = dispatcher.claim(lease, executor.owner)
    if claim.verdict == "stale":
        raise Ignore
    if claim.verdict == "canceled":
        return False
    with renewer.hold(lease) as stop:
        results = partial(dispatcher.results, run)
        result = executor.execute(lease, claim, stop, results)
        renewer.ends(lease)
        if result is not None:
            recorded = dispatcher.finish(lease, result, here.worker.consumer.serves())
        else:
            recorded = None
    if recorded is None:
        dispatcher.release(lease, executor.owner)
    if recorded is None or not recorded.ok:
        raise Ignore
    if recorded.message is not None:
        here.worker.consumer.take(*recorded.message)
    return recorded.is_last


@app.task(name=AGGREGATE)  # type: ignore[untyped-decorator]
def aggregate(run: str) -> None:
    """Close the run: the chord's body."""
    bootstep.context().dispatcher.store.aggregate(run)
