"""Choose the tasks of a run that are to run again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from clinvk.core.spec import ErrorKind, RunSummary, TaskResult, TaskStatus
from clinvk.runs.run_reader import RunReader, pages

NOT_RETRIED = {
    "ending": "run {0} is canceled, and some of its tasks are still being stopped: retry it when "
    "it has ended (clinvk wait {0})",
    "ordered": "run {0} is a chain that still goes on, and its later steps build on the earlier "
    "ones: retry it when it has ended (clinvk wait {0})",
    "gone": "run {0} cannot be retried: its tasks are no longer there (runs.keep_days)",
}
"""Why a run is not retried, by the verdict of the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which tasks are to run again; without anything, all that are not ok.

    `kinds` are kinds of errors, `indexes` from 0.
    """

    is_all: bool = False
    kinds: Collection[ErrorKind] = ()
    indexes: Collection[int] | None = None

    def names(self, index: int) -> bool:
        """Whether a task is one of them, whatever its result."""
        return self.is_all or (self.indexes is not None and index in self.indexes)

    def has(self, result: TaskResult) -> bool:
        """Whether the task of a result is one of them."""
        if self.is_all or self.indexes is not None:
            return self.names(result.index)
        if self.kinds:
            return result.error_kind in self.kinds
        return result.status is not TaskStatus.OK


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tasks that run again, in order, and how many more were meant that have no result yet."""

    indexes: Sequence[int]
    unfinished: int = 0


def choose(run: RunReader, summary: RunSummary, selection: Selection) -> Chosen:
    """Choose by the results that the tasks have: one that waits or runs is left alone.

    In a chain, every step after the first one runs again as well: its inputs change.
    """
    indexes, unfinished = list[int](), 0
    for index, result in _results(run, summary):
        if result is None:
            unfinished += selection.names(index)
        elif selection.has(result):
            indexes.append(index)
    if summary.kind == "chain" and indexes:
        return Chosen(range(indexes[0], run.total), unfinished)
    return Chosen(indexes, unfinished)


def _results(run: RunReader, summary: RunSummary) -> Iterator[tuple[int, TaskResult | None]]:
    """Yield each task's result, None where there is none yet."""
    is_canceled = summary.canceled_run and summary.ended_ms is not None
    for page in pages(range(run.total)):
        found = run.read_all_results(page) if is_canceled else run.read_results(page)
        yield from zip(page, found, strict=True)
