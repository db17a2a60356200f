"""What operations take and give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from clinvk.core.requirements import NOTHING, Requirements
from clinvk.core.spending import LOST, Spending

if TYPE_CHECKING:
    from clinvk.core.spec import TaskResult
    from clinvk.core.steps import StepRecord


OnUnreadable = Callable[[str], None]
"""Gets what cannot be read among the records that are listed, and why, as one line."""


def ignore(_: str) -> None:
    """Let a record that cannot be read be missing from what is listed."""


DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A task that admission dispatched: its Celery message is in its queue."""

    run: str
    index: int
    dispatch: int
    queue: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one dispatch of a task and to record its result.

    `dispatch` counts how often the task was dispatched, from 1: the fencing token.
    """

    run: str
    index: int
    dispatch: int

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read what `str` of a lease wrote."""
        run, index, dispatch = name.rsplit(":", 2)
        return cls(run, int(index), int(dispatch))

    def arguments(self) -> dict[str, str | int]:
        """Return the three parts, by the names that the scripts give them."""
        return {"run": self.run, "index": self.index, "dispatch": self.dispatch}

    def __str__(self) -> str:
        return f"{self.run}:{self.index}:{self.dispatch}"


@dataclass(frozen=True, slots=True)
class Canceled:
    """What a cancellation took back: how many unpublished tasks, which published ones."""

    unpublished: int
    published: Sequence[int]

    def __bool__(self) -> bool:
        return bool(self.unpublished or self.published)


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: `go` with the spec and how often it was begun; or a refusal.

    The spec is None where it is not there any more. `queue` is the one that it came through,
    `model` the one to use instead of its own, or "". Limits have held it up for `waited_ms` in all
    and refused it `rejections` times; `retries` counts other tries. `history` is what an earlier
    execution left for this one (`Hold.history`). `earlier` is the result that a retry took away,
    after the name of the backend that it was asked of; see `decoding.earlier`. `left_micro_usd` is
    what budgets leave for it, None without one.
    """

    verdict: str
    spec: bytes | None = b""
    attempts: int = 1
    queue: str = ""
    model: str = ""
    waited_ms: int = 0
    rejections: int = 0
    retries: int = 0
    history: bytes = b""
    earlier: bytes = b""
    left_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class RunFailure:
    """An error that kept an operation from one run, while others went on."""

    run: str
    error: str


@dataclass(frozen=True, slots=True)
class Admission:
    """Tasks that were dispatched, and when to ask again where only time stands in the way."""

    dispatched: Sequence[Dispatched]
    retry_after_ms: int
    failures: Sequence[RunFailure] = ()


@dataclass(frozen=True, slots=True)
class Renewed:
    """The leases whose tasks must be stopped, and the time by the server's clock."""

    stop: Sequence[Lease]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What followed from a result; `ok` is False where the fence refused it.

    `is_last` says that no result of the run is missing any more. `message` is the Celery message
    that the freed slot may run next, with its queue.
    """

    ok: bool
    is_last: bool
    canceled: Canceled
    admission: Admission
    message: tuple[str, bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why a task is put back, and where it may go on; see lua/hold.lua.

    `signal` is "window" or "burst" for a limit of its provider, "" for another reason. `model` is
    the one whose limit it is. `retry_at_ms` is when the limit opens, by the server's clock.
    `delay_ms` None means never again where it was; `max_wait_ms` None, that it may wait for ever.
    `kind` and `worker` are shown with the queue's gate. `pinned` is the only worker that can go on
    with it. `history` is JSON for the next worker. `routes` are other queues and models, in order.
    `result` is the execution that is put back, for the ledger.
    """

    signal: str = ""
    model: str = ""
    retry_at_ms: int | None = None
    delay_ms: int | None = 0
    max_wait_ms: int | None = None
    kind: str = ""
    worker: str = ""
    pinned: str = ""
    history: str = ""
    routes: Sequence[tuple[str, str]] = ()
    result: TaskResult | None = None

    def arguments(self) -> dict[str, Any]:
        """Return them by the names and in the form that the script takes."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        del given["result"]
        plain = {name: "" if value is None else value for name, value in given.items()}
        return {
            **plain,
            **used(self.result),
            "routes": [part for route in self.routes for part in route],
        }


def used(result: TaskResult | None) -> dict[str, str]:
    """Return what an execution used as scripts take it for the ledger (lua/lib/ledger.lua)."""
    if result is None or result.cost_source is None:
        return {"used_model": "", "spent": ""}
    if result.cost_source == "unknown" and result.usage is None:  # of most CLIs that count nothing
        return {"used_model": result.model or "", "spent": LOST_TEXT}
    return {"used_model": result.model or "", "spent": str(Spending.of(result))}


LOST_TEXT = str(LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What was used on a day (UTC, days since the epoch) in a run, under one set of labels.

    `key` is who submitted the run. `backend` is "" for what had no room in the ledger of its run.
    """

    run: str
    day: int
    key: str
    backend: str
    model: str
    tags: Sequence[str]
    spending: Spending


@dataclass(frozen=True, slots=True)
class Held:
    """What became of a task that was to be put back.

    `verdict` is "held", "over" (it would wait longer than it may: its end is to be recorded) or
    "stale". It has waited `waited_ms` for limits so far, and runs again not before `until_ms`, by
    the server's clock. `rejections` counts limits that refused it, `retries` other tries.
    """

    verdict: str
    waited_ms: int
    until_ms: int
    rejections: int
    retries: int
    queue: str
    admission: Admission


@dataclass(frozen=True, slots=True)
class ExpiredWait:
    """A task that limits would hold up for longer than they may.

    `kind` is the limit's, met by `worker`; it opens at `retry_at_ms` (None where that is not
    known), and the queue at `until_ms`. It waits in `queue`, for `model` or "".
    """

    lease: Lease
    kind: str
    worker: str
    retry_at_ms: int | None
    until_ms: int
    waited_ms: int
    rejections: int
    queue: str
    model: str


@dataclass(frozen=True, slots=True)
class ExhaustedTask:
    """A task that will not be tried again: why it was lost this time, and how often it was."""

    lease: Lease
    reason: str
    worker_losses: int


@dataclass(frozen=True, slots=True)
class Repair:
    """A run whose record did not agree with itself, and what was wrong with it."""

    run: str
    what: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """What the reaper found.

    `exhausted` are tasks whose end is to be recorded, `complete` are runs to aggregate, `repairs`
    are runs that the audit repaired, `failures` are runs that could not be looked at. With
    `has_closed_gate`, tasks may wait for longer than they may (`Store.expired_waits`).
    """

    exhausted: Sequence[ExhaustedTask]
    admission: Admission
    complete: Sequence[str]
    repairs: Sequence[Repair] = ()
    failures: Sequence[RunFailure] = ()
    has_closed_gate: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submit: the run, or the one that its key already stands for."""

    run: str
    admission: Admission
    taken_by_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Retried:
    """The answer to a retry; the verdicts are in lua/retry.lua.

    `position` is that of the last event before it.
    """

    verdict: str
    position: str
    admission: Admission


@dataclass(frozen=True, slots=True)
class StepsPage:
    """Some steps of a run, in the order of their sequences.

    `position` is the sequence after which the next page begins; `has_more` says that there may be
    one right now. Each record has its `number` among the steps of its task, from 1: where numbers
    are missing, steps were dropped.
    """

    records: Sequence[StepRecord]
    position: int
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What was learned of the limits of a queue's provider, or of one `model` of it ("" for all).

    Nothing starts until `closed_until_ms`; then one task tries. `kind` is the limit that closed it,
    `worker` who met it, `retry_at_ms` when it opens, where the CLI said so. `limit` is how many may
    run at once, None where nothing is known to limit it.
    """

    model: str
    closed_until_ms: int | None
    retry_at_ms: int | None
    kind: str
    worker: str
    limit: int | None

    def is_closed(self, now_ms: int) -> bool:
        """Whether nothing may start; `now_ms` is the server's time."""
        return self.closed_until_ms is not None and self.closed_until_ms > now_ms

    def limit_at(self, now_ms: int) -> int | None:
        """Return how many may run at once: none while it is closed, then one that tries."""
        if self.closed_until_ms is None:
            return self.limit
        return 0 if self.is_closed(now_ms) else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A queue's limits, as its operator set them, and what it is doing.

    `running` are tasks that a worker has claimed, `in_flight` also those that are dispatched and
    not claimed yet: each of these takes a slot. `waiting` are the pending ones, and those that are
    held until a time. `gates` are what its provider was found to allow. `now_ms` is the time of the
    server as this was read.
    """

    name: str
    max_concurrency: int | None
    rate: str | None
    is_paused: bool
    paused_until_ms: int | None = None
    running: int
    in_flight: int
    waiting: int
    slots: int
    gates: Sequence[Gate] = ()
    now_ms: int = 0

    @property
    def gate(self) -> Gate | None:
        """The gate of the queue as a whole, if it has one."""
        return next((gate for gate in self.gates if not gate.model), None)

    def closed_by_budget(self) -> QueueState:
        """Return the queue as it is where a budget of the day is used up: closed until the next."""
        tomorrow_ms = self.now_ms - self.now_ms % DAY_MS + DAY_MS
        gate = self.gate or Gate(
            model="", closed_until_ms=None, retry_at_ms=None, kind="", worker="", limit=None
        )
        if gate.closed_until_ms is not None and gate.closed_until_ms > tomorrow_ms:
            return self
        closed = replace(gate, closed_until_ms=tomorrow_ms, kind="budget", worker="")
        return replace(self, gates=[closed, *(each for each in self.gates if each.model)])

    @property
    def is_paused_now(self) -> bool:
        """Whether somebody has paused it, and the time that it was paused for is not over."""
        return self.is_paused and (self.paused_until_ms or math.inf) > self.now_ms

    @property
    def limit_in_force(self) -> int | None:
        """How many of its tasks may run at once just now; None where nothing limits it."""
        if self.is_paused_now:
            return 0
        gate = self.gate
        learned = None if gate is None else gate.limit_at(self.now_ms)
        return min((n for n in (self.max_concurrency, learned) if n is not None), default=None)


@dataclass(frozen=True, slots=True)
class PendingReason:
    """Why `count` tasks of a run wait in a queue: see `explain` in lua/explain.lua.

    Where a limit of the provider is the reason, `model` is the one whose limit it is ("" for all),
    `kind` what it is, and `worker` who met it. `until_ms` is when it ends, where that is known.
    """

    queue: str
    count: int
    reason: str
    model: str = ""
    until_ms: int | None = None
    kind: str = ""
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a run waits for, at `now_ms` by the server. `running` counts claimed tasks by worker.

    `requires` is what its workers must have.
    """

    state: str
    remaining: int
    running: Mapping[str, int] = field(default_factory=dict)
    dispatched: int = 0
    pending: Sequence[PendingReason] = ()
    now_ms: int = field(default=0, compare=False)
    requires: Requirements = NOTHING
