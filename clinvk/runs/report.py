"""The results of a run, and its exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from clinvk.core import exit_codes
from clinvk.core.spec import RunSummary, TaskResult, TaskSpec, TaskStatus
from clinvk.core.spending import Spending, by_backend

FAILED = (TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.LOST)


def add_spending(sums: dict[str, Spending], backend: str, result: TaskResult) -> None:
    """Add what a task of this backend used to sums by backend."""
    for name, spending in by_backend(backend, result):
        sums[name] = sums.get(name, Spending()) + spending


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every task of a run with its result, in order, and when the run was submitted and ended.

    `specs` and `results` may be sequences that read an item anew each time (`Spool`).
    `status_counts` has the number of results by status, counted here where it is not given.
    For `idle_ms` of the time, the run had ended and was not retried yet.
    `warned` has the indexes of results with warnings; None is any of them.
    `waited_seconds` is for how long limits held up its tasks in all, if they did. `spending` is
    what they used, by backend. `summary` is the run's record, where it was read.
    """

    run_id: str
    specs: Sequence[TaskSpec]
    results: Sequence[TaskResult]
    started_ms: int
    ended_ms: int
    idle_ms: int = 0
    status_counts: Counter[TaskStatus] = field(default_factory=Counter)
    warned: Collection[int] | None = None
    waited_seconds: float | None = None
    spending: dict[str, Spending] = field(default_factory=dict)
    summary: RunSummary | None = None

    def __post_init__(self) -> None:
        if not self.status_counts:
            self.status_counts.update(result.status for result in self.results)
            for spec, result in self.rows():
                add_spending(self.spending, spec.backend, result)

    def counts(self) -> tuple[int, int, int]:
        """Return how many tasks completed, failed and were canceled; they add up to the total."""
        failed = sum(self.status_counts[status] for status in FAILED)
        return self.status_counts[TaskStatus.OK], failed, self.status_counts[TaskStatus.CANCELED]

    def warnings(self) -> Iterator[str]:
        """Yield each warning once, in task order."""
        indexes = range(len(self.results)) if self.warned is None else sorted(self.warned)
        yield from dict.fromkeys(w for index in indexes for w in self.results[index].warnings)

    def rows(self) -> Iterator[tuple[TaskSpec, TaskResult]]:
        """Yield each task with its result."""
        return zip(self.specs, self.results, strict=True)

    @property
    def duration_seconds(self) -> float:
        """The time from submission to the end of the run, without that between it and a retry."""
        return max(0, self.ended_ms - self.started_ms - self.idle_ms) / 1000

    @property
    def exit_code(self) -> int:
        """OK if every task is ok, else TASK_FAILED."""
        completed, _, _ = self.counts()
        return exit_codes.OK if completed == len(self.results) else exit_codes.TASK_FAILED
