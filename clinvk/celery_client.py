"""The client that submits runs through Celery and follows them in Redis.

Importing this loads Celery and redis-py; everything that a command needs before that is in
`clinvk.client`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import redis

from clinvk.client import Event
from workers.app import create_app
from workers.config import mask_password
from workers.dispatch import Dispatcher
from workers.errors import BrokerError
from workers.kernel import Kernel
from workers.spec import ErrorKind, Outcome, RunOptions, RunSummary, TaskResult, TaskSpec

BLOCK_MS = 1000
"""How long to wait for events at a time; also how often the fleet's health is checked."""


class CeleryClient:
    """Submits runs to the broker at `broker_url`.

    `check_health` is called while a run gives no events; it raises when nobody can serve it.
    """

    def __init__(self, broker_url: str, check_health: Callable[[], None] = lambda: None) -> None:
        self._broker_url = broker_url
        self._kernel = Kernel.connect(broker_url)
        self._dispatcher = Dispatcher(create_app(broker_url), self._kernel)
        self._check_health = check_health

    def close(self) -> None:
        """Close all connections."""
        self._kernel.close()
        self._dispatcher.app.close()

    def ping(self) -> None:
        """Check that the broker answers.

        Raises:
            BrokerError: it does not.
        """
        with self._reaching_broker():
            self._kernel.redis.ping()

    def submit(self, specs: Sequence[TaskSpec], options: RunOptions) -> CeleryRun:
        """Record a run and release its first tasks.

        Raises:
            BrokerError: the broker cannot be reached, or refuses to store more.
        """
        run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        with self._reaching_broker():
            self._dispatcher.submit(run, specs, options)
        return CeleryRun(run, len(specs), self)

    @contextmanager
    def _reaching_broker(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            self._check_health()
            url = mask_password(self._broker_url)
            raise BrokerError(f"cannot use the broker {url}: {error}") from error


class CeleryRun:
    """One submitted run."""

    def __init__(self, run: str, total: int, client: CeleryClient) -> None:
        self.id = run
        self._total = total
        self._client = client

    def events(self) -> Iterator[Event]:
        """Yield the run's events from its beginning, waiting for new ones, until `ended`.

        Raises:
            BrokerError: the broker cannot be reached any more.
        """
        position = "0"
        missing = set(range(self._total))
        while True:
            position, entries = self._read(position)
            results = self._results(entries)
            for entry in entries:
                if entry["kind"] == "ended":
                    yield from self._canceled(missing, int(entry["at_ms"]))
                    yield Event(kind="ended", at_ms=int(entry["at_ms"]))
                    return
                if event := _event(entry, results):
                    if event.kind == "finished":
                        missing.discard(event.index)
                    yield event

    def _read(self, position: str) -> tuple[str, list[dict[str, str]]]:
        with self._client._reaching_broker():
            position, entries = self._client._kernel.wait_events(self.id, position, BLOCK_MS)
        if not entries:
            self._client._check_health()
        return position, entries

    def _results(self, entries: Sequence[dict[str, str]]) -> dict[int, TaskResult]:
        indexes = [int(entry["index"]) for entry in entries if entry["kind"] == "finished"]
        with self._client._reaching_broker():
            found = self._client._kernel.results(self.id, indexes)
        return {result.index: result for result in found if result is not None}

    def _canceled(self, indexes: set[int], at_ms: int) -> Iterator[Event]:
        """Yield the tasks that the run ended without: canceled before they began."""
        for index in sorted(indexes):
            result = TaskResult(
                index=index,
                status=Outcome.CANCELED,
                exit_code=-1,
                duration_seconds=0.0,
                error="canceled before it started",
                error_kind=ErrorKind.CANCELED,
                attempts=0,
            )
            yield Event(kind="finished", at_ms=at_ms, index=index, attempt=0, result=result)

    def cancel(self, reason: str) -> None:
        """Mark the run canceled; its events go on until `ended`. Safe from any thread."""
        with self._client._reaching_broker():
            self._client._dispatcher.cancel(self.id, reason)

    def summary(self) -> RunSummary:
        """Read the run's counts and times."""
        with self._client._reaching_broker():
            summary = self._client._kernel.summary(self.id)
        if summary is None:
            raise BrokerError(f"run {self.id} is gone from the broker")
        return summary


def _event(entry: dict[str, str], results: dict[int, TaskResult]) -> Event | None:
    at_ms, index = int(entry["at_ms"]), int(entry.get("index", -1))
    match entry["kind"]:
        case "started":
            return Event(
                kind="started",
                at_ms=at_ms,
                index=index,
                attempt=int(entry["attempt"]),
                worker=entry["worker"],
            )
        case "finished":
            attempt = int(entry["attempt"])
            return Event(
                kind="finished", at_ms=at_ms, index=index, attempt=attempt, result=results[index]
            )
        case _:  # an event of a newer version, or one that the display has no use for
            return None
