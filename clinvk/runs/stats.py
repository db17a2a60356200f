"""What the record of a run says about its time: how long tasks waited and ran, and what held it up.

Everything is derived from the run's events, which the store wrote by one clock, and its results:

* A task *runs* from its claim until that execution ends, is put back or is lost.
* It *waits* from when it could first have been dispatched (the submit, a retry, or in a chain the
  end of the step before) until its claim. It is *held* in as far as a limit of its provider, or the
  delay before another try, kept it from being dispatched: from when it was put back until the time
  that was named then, and for the `waited_seconds` of its result, which are put right before its
  start.

At each moment one thing limits the run, the first of these that is so (`Reason`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from clinvk.core.spec import QUEUE_PREFIX, RunSummary, TaskResult, TaskSpec, queue_of
from clinvk.core.spending import Spending, by_backend

HANDOVER_MS = 250
"""A slot that is taken again within so long counts as taken all the time."""


class Reason(StrEnum):
    """What kept a run from running more tasks, or from being over."""

    START = "start"
    """No task was begun yet: workers start, or none is there, or they run tasks of other runs."""
    ORDER = "order"
    """In a chain that no limit holds up: steps run one after another."""
    LONG_TASK = "long_task"
    """One task runs, and nothing else is left."""
    TASKS = "tasks"
    """All that is left runs."""
    MAX_PARALLEL = "max_parallel"
    """As many tasks run as the run may have at once."""
    LIMITS = "limits"
    """All that waits is held by a provider's limit, or until it is tried again."""
    QUEUE_LIMIT = "queue_limit"
    """All that waits and is not held waits in queues that run as many tasks as their limit, as it
    is set now, or that have a rate."""
    SLOTS = "slots"
    """No worker has a free slot for what waits: none is there, or they run tasks of other runs.
    Or its queue begins slowly, since no limit of it is known."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a task ran on a worker, or waited, where `worker` is None.

    Until `held_until_ms` it was put back.
    """

    index: int
    begin_ms: int
    end_ms: int
    worker: str | None = None
    held_until_ms: int = 0

    @property
    def length_ms(self) -> int:
        """How long it was."""
        return max(0, self.end_ms - self.begin_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStats:
    """What is counted of one task that was begun: times in seconds; None is not known."""

    index: int
    backend: str
    worker: str
    waiting_seconds: float
    running_seconds: float
    tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """The limits of a queue, as they are set now."""

    max_concurrency: int | None
    has_rate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """What was found: the tasks that were begun, and for how long what limited the run.

    `last_index` is the task that ended last.
    """

    tasks: Sequence[TaskStats]
    limited_ms: Mapping[Reason, int]
    last_index: int | None


def stats(
    summary: RunSummary,
    events: Iterable[Mapping[str, str]],
    rows: Iterable[tuple[TaskSpec, TaskResult]],
    queues: Mapping[str, QueueLimit],
    now_ms: int,
) -> RunStats:
    """Return what the record of a run says; `rows` are the tasks that have ended."""
    timeline = _Timeline(summary)
    for event in events:
        timeline.saw(event)
    spans = timeline.spans(now_ms if summary.ended_ms is None else summary.ended_ms)
    by_index = defaultdict[int, list[Span]](list)
    for span in spans:
        by_index[span.index].append(span)
    load = _Load(summary, queues)
    found = []
    for spec, result in rows:
        own = by_index.pop(result.index, [])
        load.add(own, spec.queue, queue_of(result.backend_of(spec)), result.waited_seconds or 0.0)
        if result.attempts > 0:
            found.append(_of_task(spec, result, own))
    for own in by_index.values():
        load.add(own, "", "", 0.0)
    return RunStats(tasks=found, limited_ms=load.limited_ms(), last_index=timeline.last_index)


def _of_task(spec: TaskSpec, result: TaskResult, spans: Sequence[Span]) -> TaskStats:
    running_ms = sum(span.length_ms for span in spans if span.worker is not None)
    waiting_ms = sum(span.length_ms for span in spans if span.worker is None)
    spending = Spending.sum(each for _, each in by_backend(spec.backend, result))
    return TaskStats(
        index=result.index,
        backend=result.backend_of(spec),
        worker=result.worker or "unknown",
        waiting_seconds=waiting_ms / 1000,
        running_seconds=running_ms / 1000 or result.duration_seconds,
        tokens=spending.usage.total_tokens if spending.usage else None,
        cost_usd=spending.cost_usd,
    )


@dataclass(slots=True)
class _Timeline:
    """The events of a run, one after another, as spans."""

    summary: RunSummary
    last_index: int | None = None
    _spans: list[Span] = field(default_factory=list)
    _waiting: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Since when a task waits, and until when it is held."""
    _running: dict[int, tuple[int, str]] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for index in range(self.summary.total):
            self._ready(index, self.summary.created_ms)

    @property
    def _is_chain(self) -> bool:
        return self.summary.kind == "chain"

    def _ready(self, index: int, at_ms: int, held_until_ms: int = 0) -> None:
        is_next = not self._is_chain or index == 0 or index - 1 in self._done
        if is_next and index not in self._running:
            self._waiting.setdefault(index, (at_ms, held_until_ms))

    def saw(self, event: Mapping[str, str]) -> None:
        at_ms, index = int(event["at_ms"]), _count(event.get("index"))
        if event.get("kind") == "canceled":
            for waiting in list(self._waiting):
                self._end(waiting, at_ms)
        if index is None or index >= self.summary.total:
            return
        match event.get("kind"):
            case "started":
                self._end(index, at_ms)
                self._running[index] = (at_ms, event.get("worker") or "unknown")
            case "held" | "lost":
                if index in self._running:
                    self._end(index, at_ms)
                    self._ready(index, at_ms, _count(event.get("until_ms")) or 0)
            case "finished":
                self._end(index, at_ms)
                self._done.add(index)
                self.last_index = index
                if self._is_chain and index + 1 not in self._done | {self.summary.total}:
                    self._ready(index + 1, at_ms)
            case "retried":
                self._done.discard(index)
                self._ready(index, at_ms)

    def _end(self, index: int, at_ms: int) -> None:
        """End what a task does, if anything."""
        if index in self._running:
            begin_ms, worker = self._running.pop(index)
            self._spans.append(Span(index, begin_ms, at_ms, worker))
        elif index in self._waiting:
            begin_ms, held_until_ms = self._waiting.pop(index)
            self._spans.append(Span(index, begin_ms, at_ms, None, held_until_ms))

    def spans(self, until_ms: int) -> list[Span]:
        """Return all spans; what goes on is cut off at a time."""
        for index in [*self._running, *self._waiting]:
            self._end(index, until_ms)
        return self._spans


def _count(text: str | None) -> int | None:
    """Return a number of an event; anyone who reaches the broker could have written another."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


Role = Literal["running", "ready", "held"]


class _Load:
    """How many tasks ran, waited, and were held, at each moment, by queue."""

    def __init__(self, summary: RunSummary, queues: Mapping[str, QueueLimit]) -> None:
        self._summary = summary
        self._queues = queues
        self._changes: list[tuple[int, int, Role, str]] = []
        self._runs: list[tuple[int, int, str]] = []

    def add(
        self, spans: Sequence[Span], waits_in: str, runs_in: str, waited_seconds: float
    ) -> None:
        """Add the spans of one task; limits have held it up for so long in all."""
        left_ms = round(waited_seconds * 1000)
        for span in reversed(spans):
            if span.worker is not None:
                self._runs.append((span.begin_ms, span.end_ms, runs_in))
                continue
            waited_ms = min(left_ms, span.length_ms)
            left_ms -= waited_ms
            put_back_until = min(max(span.held_until_ms, span.begin_ms), span.end_ms)
            held_again = max(put_back_until, span.end_ms - waited_ms)
            self._count("held", span.begin_ms, put_back_until, waits_in)
            self._count("ready", put_back_until, held_again, waits_in)
            self._count("held", held_again, span.end_ms, waits_in)

    def _count(self, role: Role, begin_ms: int, end_ms: int, queue: str) -> None:
        if begin_ms < end_ms:
            self._changes.append((begin_ms, 1, role, queue))
            self._changes.append((end_ms, -1, role, queue))

    def limited_ms(self) -> dict[Reason, int]:
        """Return for how long each reason limited the run, the longest first."""
        for begin_ms, end_ms, queue in _without_gaps(self._runs):
            self._count("running", begin_ms, end_ms, queue)
        found = Counter[Reason]()
        counts = {role: Counter[str]() for role in ("running", "ready", "held")}
        first_ms = min((begin_ms for begin_ms, *_ in self._runs), default=math.inf)
        before_ms = 0
        for at_ms, change, role, queue in sorted(self._changes):
            if at_ms > before_ms and (reason := self._reason(counts)) is not None:
                has_begun = reason is Reason.LIMITS or at_ms > first_ms
                found[reason if has_begun else Reason.START] += at_ms - before_ms
            before_ms = at_ms
            counts[role][queue] += change
        return dict(found.most_common())

    def _reason(self, counts: Mapping[str, Counter[str]]) -> Reason | None:
        running, ready = counts["running"].total(), counts["ready"].total()
        waiting = ready + counts["held"].total()
        if not waiting and not running:
            return None
        if self._summary.kind == "chain":
            return Reason.LIMITS if waiting and not ready else Reason.ORDER
        if not waiting:
            return Reason.LONG_TASK if running == 1 else Reason.TASKS
        if running >= self._summary.max_parallel:
            return Reason.MAX_PARALLEL
        if not ready:
            return Reason.LIMITS
        queues = [queue for queue, count in counts["ready"].items() if count > 0]
        if all(self._is_full(queue, counts["running"]) for queue in queues):
            return Reason.QUEUE_LIMIT
        return Reason.SLOTS

    def _is_full(self, queue: str, running: Counter[str]) -> bool:
        """Whether a queue, or each of those that share it, may run no more tasks by its limits."""
        names = [queue_of(name) for name in queue.removeprefix(QUEUE_PREFIX).split("|")]
        limits = [(self._queues.get(name), running[name]) for name in names]
        return all(
            limit is not None and (limit.has_rate or (limit.max_concurrency or count + 1) <= count)
            for limit, count in limits
        )


def _without_gaps(runs: Sequence[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield the times in which slots were taken, each until it was taken again soon after."""
    free = deque[tuple[int, str]]()
    ends = deque(sorted((end_ms, queue) for _, end_ms, queue in runs))
    for begin_ms, end_ms, queue in sorted(runs):
        yield begin_ms, end_ms, queue
        while ends and ends[0][0] <= begin_ms:
            free.append(ends.popleft())
        while free and free[0][0] < begin_ms - HANDOVER_MS:
            free.popleft()
        if free:
            ended_ms, of_queue = free.pop()
            yield ended_ms, begin_ms, of_queue
