"""One run in Redis: its tasks, its results, how far it is; and its cancellation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.errors import BrokerError
from clinvk.core.spec import RunSummary, TaskResult, TaskSpec
from clinvk.runs.spool import Spool
from clinvk.store.store import Store

PAGE = 100
"""Tasks that are read at a time. A prompt has no limit, and a result may have 64 KiB inline."""


class BrokerAwayError(BrokerError):
    """The broker cannot be used just now."""


class RunIsGoneError(BrokerError):
    """The broker does not have the run any more, or not all that it had recorded of it."""


class Connected(Protocol):
    """What a run needs of its client."""

    store: Store
    dispatcher: Dispatcher

    @property
    def is_private(self) -> bool:
        """Whether the fleet ends with this client."""

    def check_health(self) -> None:
        """Raise a `BrokerError` if nobody can serve this client any more."""

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run."""

    def reaching_broker(self) -> AbstractContextManager[None]:
        """Turn what goes wrong with the broker into a `BrokerError`."""


class RunReader:
    """One submitted run, but for its events."""

    def __init__(
        self, run: str, total: int, client: Connected, *, was_retried: bool = False
    ) -> None:
        self.id = run
        self.total = total
        self.client = client
        self.was_retried = was_retried

    @property
    def outlives_client(self) -> bool:
        """Whether the run goes on when nobody watches it."""
        return not self.client.is_private

    def specs(self) -> Sequence[TaskSpec]:
        """Read the run's tasks."""
        specs = Spool(TaskSpec)
        for page in pages(range(self.total)):
            for spec in self._specs(page):
                specs.append(spec)
        return specs

    def _specs(self, indexes: Sequence[int]) -> list[TaskSpec]:
        with self.client.reaching_broker():
            found = self.client.store.specs(self.id, indexes)
        return [spec or EXPIRED for spec in found]

    def results(self, summary: RunSummary) -> Iterator[tuple[TaskSpec, TaskResult]]:
        """Yield the tasks that have ended with their results, in task order, page by page.

        A task that runs again has the result that it had before, until it has a new one.
        """
        is_retried = summary.retries > 0 and summary.ended_ms is None
        for page in pages(range(self.total)):
            specs = self._specs(page)
            earlier = iter(self._earlier_results(page) if is_retried else [None] * len(page))
            has_ended = summary.ended_ms is not None
            found = self.read_all_results(page) if has_ended else self.read_results(page)
            for spec, result in zip(specs, found, strict=True):
                before = next(earlier)
                if (result := result or before) is not None:
                    yield spec, result

    def read_results(self, indexes: Sequence[int]) -> Iterator[TaskResult | None]:
        """Read the results of some tasks, None where there is none (yet)."""
        with self.client.reaching_broker():
            yield from self.client.store.results(self.id, indexes)

    def read_all_results(self, indexes: Sequence[int]) -> Iterator[TaskResult]:
        """Read results in a run that has ended: where there is none, a cancellation was first."""
        never_ended = dict[int, TaskResult]()
        for place, result in enumerate(self.read_results(indexes)):
            if result is None and not never_ended:
                with self.client.reaching_broker():
                    found = self.client.store.never_ended(self.id, indexes[place:])
                    never_ended = {each.index: each for each in found}
            yield result or never_ended[indexes[place]]

    def _earlier_results(self, indexes: Sequence[int]) -> list[TaskResult | None]:
        with self.client.reaching_broker():
            return list(self.client.store.earlier_results(self.id, indexes))

    def retried_dispatches(self) -> Mapping[int, int]:
        """Return up to which dispatch events of a task count no more, by index."""
        with self.client.reaching_broker():
            return self.client.store.retried_dispatches(self.id)

    def cancel(self, reason: str) -> None:
        """Mark the run canceled; its events go on until `ended`. Safe from any thread."""
        self.client.cancel(self.id, reason)

    def events_so_far(self) -> Iterator[Mapping[str, str]]:
        """Yield what has happened so far, as the store has it (`Store.wait_events`)."""
        position, entries = "0", list[dict[str, str]]([{}])
        while entries:
            with self.client.reaching_broker():
                position, entries = self.client.store.wait_events(self.id, position, 1)
            yield from entries

    def summary(self) -> RunSummary:
        """Read the run's counts and times.

        Raises:
            RunIsGoneError: there is no such run any more.
        """
        with self.client.reaching_broker():
            summary = self.client.store.summary(self.id)
        if summary is None:
            raise RunIsGoneError(
                f"run {self.id} is gone from the broker: its data was deleted, or it restarted "
                "without an append-only file"
            )
        return summary


EXPIRED = TaskSpec(backend="unknown", prompt="(expired)", name="(expired)")
"""Stands for a task whose spec is no longer there, so that the others keep their places."""

T = TypeVar("T")


def pages(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    """Divide a sequence into pages."""
    for first in range(0, len(whole), PAGE):
        yield whole[first : first + PAGE]
