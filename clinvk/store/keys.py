"""What the keys in Redis are called, for Python and for the scripts.

Every key has a lifetime, started anew by each operation that touches its run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

KEYS = {
    # What a submitter writes, until the run is opened: {} is "<submitter>:<run>".
    "submission": "clinvk:submission:{}",  # hash: what becomes the run's record
    "submission_specs": "clinvk:submission:{}:specs",
    "submission_max_attempts": "clinvk:submission:{}:max_attempts",
    "submission_pending": "clinvk:submission:{}:pending:{}",
    "piece": "clinvk:submission:{}:piece:{}",  # hash: content, by its name (shipments.py)
    "shipped": "clinvk:submission:{}:shipped:{}",  # hash: what was shipped of a repository
    # What users who may not act themselves ask of workers (requests.py).
    "submitters": "clinvk:submitters",  # set: their names
    "requests": "clinvk:requests:{}",  # stream: what one of them asks
    "answer": "clinvk:answer:{}:{}",  # stream of one entry: the answer to one request
    # Runs.
    "run": "clinvk:run:{}",  # hash: state, options, counters, times
    "specs": "clinvk:run:{}:specs",  # hash: index -> TaskSpec
    "message": "clinvk:run:{}:message",  # string: the Celery message of its tasks, a template
    "pending": "clinvk:run:{}:pending:{}",  # list per queue: indexes not dispatched
    "held": "clinvk:run:{}:held",  # sorted set: index of a task that waits -> until when (ms)
    "tries": "clinvk:run:{}:tries",  # hash: index -> how it was tried, see lua/lib/tries.lua
    "history": "clinvk:run:{}:history",  # hash: index -> its earlier executions, as JSON
    "in_flight": "clinvk:run:{}:in_flight",  # hash: index -> dispatch, state, queue, claim
    "dispatches": "clinvk:run:{}:dispatches",  # hash: index -> its last dispatch, if it was lost
    "max_attempts": "clinvk:run:{}:max_attempts",  # hash: index -> its own, if not the run's
    "worker_losses": "clinvk:run:{}:worker_losses",  # hash: index -> how often its worker was lost
    "results": "clinvk:run:{}:results",  # hash: index -> TaskResult
    "earlier_results": "clinvk:run:{}:earlier_results",  # hash: index -> what a retry took away
    "blob": "clinvk:run:{}:blob:{}",  # string: an output over INLINE_BYTES
    "blobs": "clinvk:run:{}:blobs",  # set: the names of its blobs
    "events": "clinvk:run:{}:events",  # stream: what happened, in order
    "steps": "clinvk:run:{}:steps",  # hash: sequence -> "<number>:<StepRecord>"
    "step_order": "clinvk:run:{}:step_order",  # sorted set: sequence -> index and sequence, in one
    "step_counts": "clinvk:run:{}:step_counts",  # hash: index -> what is kept; last -> sequence
    "reusable": "clinvk:reusable:{}",  # string: a TaskResult, by the fingerprint of its task
    "ledger": "clinvk:run:{}:ledger",  # hash: day and labels -> used, see lua/lib/ledger.lua
    "ledgers": "clinvk:ledgers",  # sorted set: run -> when its ledger got a new row (ms)
    "reserved": "clinvk:run:{}:reserved",  # hash: index -> reserved, see lua/lib/budgets.lua
    "budgets": "clinvk:budgets",  # hash: scope and unit -> how much a day may have
    "used": "clinvk:used:{}",  # hash of a day: scope and unit -> used
    "all_reserved": "clinvk:reserved",  # hash: scope and unit -> reserved now
    "at_budget": "clinvk:at_budget",  # set: runs whose next task goes over a budget
    "runs": "clinvk:runs",  # sorted set: run -> when it was submitted (ms)
    "active": "clinvk:active",  # sorted set: run that is not done -> when it was audited last (ms)
    "submitted": "clinvk:submitted:{}",  # string: a submitter's key -> run and digest
    "queues": "clinvk:queues",  # set: all queues that were ever used
    "queue": "clinvk:queue:{}",  # hash: limits, paused, turn, waiting, when it last dispatched
    "fair_queue": "clinvk:queue:{}:runs",  # sorted set: run that could take a slot -> turn
    "leases": "clinvk:queue:{}:leases",  # sorted set: what is in flight -> when it runs out (ms)
    "waiting_queues": "clinvk:waiting",  # set: queues whose fair queue is not empty
    "workers": "clinvk:workers",  # sorted set: worker -> until when it counts (ms)
    "worker": "clinvk:worker:{}",  # string: what a worker is, as JSON
    "liveness": "clinvk:liveness:{}",  # string: worker process -> its liveness connection
    "capacity": "clinvk:capacity",  # hash: queue (or *) -> slots of the workers that serve it
    "held_runs": "clinvk:held",  # sorted set: run -> until when its first held task waits (ms)
    "complete": "clinvk:complete",  # sorted set: run -> since when it waits for its body (ms)
    "signals": "clinvk:signals",  # stream: runs that were canceled
}


def key(name: str, *parts: str) -> str:
    """Return the Redis key of this kind for a run (and a queue)."""
    return KEYS[name].format(*parts)


def lua_functions() -> str:
    """Write KEYS as Lua functions `<name>_key(...)`, so that the names stand in one place."""
    return "\n".join(_lua_function(name, template) for name, template in KEYS.items()) + "\n"


def _lua_function(name: str, template: str) -> str:
    parts = list(_lua_parts(template))
    arguments = ", ".join(part for part in parts if not part.startswith("'"))
    return f"local function {name}_key({arguments}) return {' .. '.join(parts)} end"


def _lua_parts(template: str) -> Iterator[str]:
    names = iter("ab")
    for text in re.split(r"(\{\})", template):
        if text == "{}":
            yield next(names)
        elif text:
            yield f"'{text}'"
