"""Follow a run to its end, and make its report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from clinvk.core.errors import BrokerError, ClinvkError, WireError
from clinvk.core.spec import RunSummary, TaskResult, TaskSpec, TaskStatus
from clinvk.core.spending import Spending, by_backend
from clinvk.runs.client import Event, Run, StepsWanted
from clinvk.runs.interruption import Interruption
from clinvk.runs.report import Report, add_spending
from clinvk.runs.spool import Spool

NOT_OBSERVED = frozenset({"idle", "away", "waiting", "repaired"})
"""Events that handlers do not get: they are noted on stderr at once, or not at all."""

EventHandler = Callable[[Event], None]


def follow(
    run: Run,
    specs: Sequence[TaskSpec],
    handlers: Sequence[EventHandler],
    interruption: Interruption,
    steps: StepsWanted = "none",
) -> Report:
    """Follow a run to its end. Each handler sees each event, and the steps that are wanted.

    Raises:
        BrokerLostError: the broker was lost during the run; has the report as far as it is known.
        DetachedError: the user detached from the run.
    """
    following = _Following(run, specs, handlers, interruption)
    problem: ClinvkError | None = None
    try:
        following.observe_all(steps)
    except (BrokerError, WireError) as error:
        problem = error
        following.ended_ms = _now_ms()
    following.add_unknown(str(problem or "its result never arrived"))
    if problem is not None:
        raise BrokerLostError(str(problem), following.report()) from problem
    return following.report()


class _Following:
    """A run that is being followed, and its results so far."""

    def __init__(
        self,
        run: Run,
        specs: Sequence[TaskSpec],
        handlers: Sequence[EventHandler],
        interruption: Interruption,
    ) -> None:
        self._run = run
        self._specs = specs
        self._handlers = handlers
        self._interruption = interruption
        self._results = _Results(specs)
        self.started_ms = self.ended_ms = _now_ms()
        self.idle_ms = 0
        self.summary: RunSummary | None = None

    def observe_all(self, steps: StepsWanted) -> None:
        """Let the handlers see all events of the run, until its end."""
        notices = _Notices(self._interruption)
        for event in self._run.events(steps):
            if self._interruption.detached:
                raise DetachedError
            notices.saw(event)
            if event.kind not in NOT_OBSERVED:
                self._observe(event)
        self.summary = summary = self._run.summary()
        self.started_ms = summary.created_ms
        self.idle_ms = summary.idle_ms
        self.ended_ms = summary.ended_ms or self.ended_ms

    def add_unknown(self, why: str) -> None:
        """Give a result to every task that has none."""
        for index in self._results.missing():
            result = TaskResult.unknown(index, why)
            self._observe(Event(kind="finished", at_ms=self.ended_ms, index=index, result=result))

    def report(self) -> Report:
        """Make the report of the run."""
        return Report(
            run_id=self._run.id,
            specs=self._specs,
            results=self._results,
            status_counts=self._results.status_counts,
            warned=self._results.warned,
            spending=self._results.spending,
            waited_seconds=self._results.waited_seconds or None,
            started_ms=self.started_ms,
            ended_ms=self.ended_ms,
            idle_ms=self.idle_ms,
            summary=self.summary,
        )

    def _observe(self, event: Event) -> None:
        if event.at_ms:
            self.ended_ms = event.at_ms
        if event.kind == "retried":  # until it has another, this is its result
            event = replace(event, result=self._results[event.index])
        elif event.result is not None:
            self._results[event.index] = event.result
        for handler in self._handlers:
            handler(event)


class _Notices:
    """Notes when the broker cannot be reached, when it can again, and what a run waits for."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._is_lost = False

    def saw(self, event: Event) -> None:
        """Take note of an event."""
        was_lost, self._is_lost = self._is_lost, event.kind == "away"
        if self._is_lost and not was_lost:
            self._interruption.note(f"clinvk: {event.why}; the run continues, retrying")
        elif was_lost and not self._is_lost:
            self._interruption.note("clinvk: the broker can be reached again")
        if event.kind == "waiting":
            self._interruption.note(f"clinvk: {event.why}")
        elif event.kind == "repaired":
            self._interruption.note(f"clinvk: repaired the run's record: {event.why}")


class _Results(Spool[TaskResult]):
    """A run's results as they come: their counts by status, their sums, which have warnings."""

    def __init__(self, specs: Sequence[TaskSpec]) -> None:
        super().__init__(TaskResult, count=len(specs))
        self._specs = specs
        self.status_counts = Counter[TaskStatus]()
        self.warned = set[int]()
        self.waited_seconds = 0.0
        self.spending: dict[str, Spending] = {}

    def __setitem__(self, index: int, result: TaskResult) -> None:
        if self.has(index):
            before = self[index]
            self.status_counts[before.status] -= 1
            self.waited_seconds -= before.waited_seconds or 0.0
            if _has_used(before):
                for name, spending in by_backend(self._specs[index].backend, before):
                    self.spending[name] -= spending
            self.warned.discard(index)
        self.status_counts[result.status] += 1
        self.waited_seconds += result.waited_seconds or 0.0
        if result.warnings:
            self.warned.add(index)
        if _has_used(result):
            add_spending(self.spending, self._specs[index].backend, result)
        super().__setitem__(index, result)


def _has_used(result: TaskResult) -> bool:
    """Whether anything is known to have been used for a task: else its spec need not be read."""
    return result.cost_source is not None or bool(result.tried) or result.attempts > 1


class DetachedError(ClinvkError):
    """The user detached from a run, which continues."""


class BrokerLostError(BrokerError):
    """The broker was lost during a run.

    Attributes:
        report: the results that are known; all other tasks are LOST.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def _now_ms() -> int:
    """Return this machine's time, where the broker's cannot be had."""
    return time.time_ns() // 1_000_000
