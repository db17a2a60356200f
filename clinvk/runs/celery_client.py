"""The client that submits runs through Celery and follows them in Redis.

Importing this loads Celery and redis-py; everything that a command needs before that is in
`clinvk.runs.client`.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import kombu.exceptions
import redis

from clinvk.broker.app import create_app
from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.broker_url import mask_password
from clinvk.core.errors import BrokerError, UsageError
from clinvk.core.spec import (
    ErrorKind,
    RunOptions,
    RunSummary,
    TaskResult,
    TaskSpec,
    TaskStatus,
    queue_of,
)
from clinvk.runs.client import Event, PrivateFleet
from clinvk.runs.spool import Spool
from clinvk.store.store import Store

PAGE = 100
"""Tasks that are read at a time. A prompt has no limit, and a result may have 64 KiB inline."""
AWAY_SECONDS = 600.0
"""How long whoever watches a run waits for its broker to come back."""
RETRY_SECONDS = 0.5
FEW, BUSY_SECONDS, GATHER_SECONDS = 20, 0.05, 0.02
"""Once there were more than a few events, and one came so soon after another, how long to gather
more: many short tasks would otherwise be read one by one, and each cost the server and this process
more than its worker."""
BLOCK_MS = 1000
"""How long to wait for events at a time; also how often the fleet's health is checked."""


class BrokerAwayError(BrokerError):
    """The broker cannot be used just now."""


class CeleryClient:
    """Submits runs to the broker at `broker_url`.

    `private` is given for a private fleet, which ends with its client.
    """

    def __init__(self, broker_url: str, private: PrivateFleet | None = None) -> None:
        self._broker_url = broker_url
        self.store = Store.connect(broker_url)
        self.dispatcher = Dispatcher(create_app(broker_url), self.store)
        self._private = private

    def close(self) -> None:
        """Close all connections."""
        self.store.close()
        self.dispatcher.app.close()

    def ping(self) -> None:
        """Check that the broker answers.

        Raises:
            BrokerError: it does not.
        """
        with self.reaching_broker():
            self.store.ping()

    @property
    def is_private(self) -> bool:
        """Whether the fleet ends with this client."""
        return self._private is not None

    def check_health(self) -> None:
        """Check that the fleet can serve this client; called while a run gives no events.

        Raises:
            BrokerError: the private fleet cannot serve it any more.
        """
        if self._private is not None:
            self._private.check()

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run.

        Raises:
            BrokerError: the broker cannot be reached.
        """
        if self._private is not None:
            self._private.cancel(run, reason)
            return
        with self.reaching_broker():
            self.dispatcher.cancel(run, reason)

    def submit(
        self, specs: Sequence[TaskSpec], options: RunOptions, run_key: str = ""
    ) -> CeleryRun:
        """Record a run and release its first tasks.

        With a key, the second submitter of the same tasks gets the first one's run.

        Raises:
            BrokerError: the broker cannot be reached, or refuses to store more.
            UsageError: the key stands for a run of other tasks.
        """
        run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        digest = _digest(specs, options) if run_key else ""
        with self.reaching_broker():
            known = self.store.submitted(run_key) if run_key else None
            if known is None:
                submitted = self.dispatcher.submit(run, specs, options, run_key, digest)
                known = (submitted.run, submitted.taken_by_digest or digest)
        run, its_digest = known
        if its_digest != digest:
            raise UsageError(
                f'--run-key "{run_key}" stands for run {run}, which has other tasks or options: '
                "use another key"
            )
        return CeleryRun(run, len(specs), self)

    def open(self, run: str) -> CeleryRun:
        """Give a run that was submitted before.

        Raises:
            UsageError: there is none of this id.
        """
        with self.reaching_broker():
            summary = self.store.summary(run)
        if summary is None:
            raise UsageError(f"there is no run {run} (clinvk runs lists them)")
        return CeleryRun(run, summary.total, self)

    def served(self) -> set[str]:
        """Return the queues that live workers serve."""
        with self.reaching_broker():
            workers = self.store.workers()
        return {queue for entry in workers.values() for queue in entry["queues"]}

    def check_served(self, backends: Iterable[str]) -> None:
        """Make sure that live workers serve these backends.

        Raises:
            BrokerError: nobody serves one of them.
        """
        served = self.served()
        missing = sorted(name for name in backends if queue_of(name) not in served)
        if missing:
            raise BrokerError(
                f"no live worker serves {', '.join(missing)}: start one with "
                f"`clinvk worker --queues {','.join(missing)}`, or submit all the same with "
                "--wait-for-workers"
            )

    @contextmanager
    def reaching_broker(self) -> Iterator[None]:
        """Turn what goes wrong with the broker into a `BrokerError`, the password masked."""
        try:
            yield
        except (redis.RedisError, kombu.exceptions.OperationalError) as error:
            self.check_health()
            url = mask_password(self._broker_url)
            raise BrokerAwayError(f"cannot use the broker {url}: {error}") from error


class CeleryRun:
    """One submitted run."""

    def __init__(self, run: str, total: int, client: CeleryClient) -> None:
        self.id = run
        self._total = total
        self._client = client

    @property
    def outlives_client(self) -> bool:
        """Whether the run goes on when nobody watches it."""
        return not self._client.is_private

    def specs(self) -> Sequence[TaskSpec]:
        """Read the run's tasks."""
        specs = Spool(TaskSpec)
        for page in _pages(range(self._total)):
            with self._client.reaching_broker():
                found = self._client.store.specs(self.id, page)
            for spec in found:
                specs.append(spec)
        return specs

    def results(self, summary: RunSummary) -> Iterator[tuple[TaskSpec, TaskResult]]:
        """Yield the tasks that have ended with their results, in task order, page by page."""
        for page in _pages(range(self._total)):
            with self._client.reaching_broker():
                specs = self._client.store.specs(self.id, page)
                found = self._client.store.results(self.id, page)
                for index, spec, result in zip(page, specs, found, strict=True):
                    if result is not None:
                        yield spec, result
                    elif summary.ended_ms is not None:
                        yield spec, _never_started(index)

    def events(self) -> Iterator[Event]:
        """Yield the run's events from its beginning, waiting for new ones, until `ended`.

        Raises:
            BrokerError: the broker cannot be reached any more, or has lost the run.
        """
        position, seen = "0", 0
        has_ended = bytearray(self._total)
        reached_at = time.monotonic()
        while True:
            try:
                before, entries = reached_at, self._read(position)
                reached_at = time.monotonic()
                if not entries:
                    yield Event(kind="idle")
                for entry, result in self._with_results(entries):
                    position = entry["position"]
                    if entry["kind"] == "ended":
                        yield from self._canceled(has_ended, int(entry["at_ms"]))
                        yield Event(kind="ended", at_ms=int(entry["at_ms"]))
                        return
                    if event := _event(entry, result):
                        if event.kind == "finished":
                            has_ended[event.index] = True
                        yield event
                seen += len(entries)
                if seen > FEW and reached_at - before < BUSY_SECONDS:
                    time.sleep(GATHER_SECONDS)
            except BrokerAwayError as error:
                away_seconds = time.monotonic() - reached_at
                if not self.outlives_client or away_seconds > AWAY_SECONDS:
                    raise
                yield Event(kind="away", why=str(error))
                time.sleep(RETRY_SECONDS)

    def _read(self, position: str) -> list[dict[str, str]]:
        with self._client.reaching_broker():
            _, entries = self._client.store.wait_events(self.id, position, BLOCK_MS)
        if not entries:
            self._client.check_health()
            # Where the last worker has gone, nobody else gives up what it ran, or closes the run.
            with self._client.reaching_broker():
                self._client.dispatcher.reap()
            self.summary()  # a server that came back without its data would be silent for ever
        return entries

    def _with_results(
        self, entries: Sequence[dict[str, str]]
    ) -> Iterator[tuple[dict[str, str], TaskResult | None]]:
        """Yield the entries with the results that they tell of, and no more in memory than that."""
        for page in _pages(entries):
            indexes = [int(entry["index"]) for entry in page if entry["kind"] == "finished"]
            results = self._client.store.results(self.id, indexes)
            for entry in page:
                result = None
                if entry["kind"] == "finished":
                    with self._client.reaching_broker():
                        result = next(results)
                yield entry, result

    def _canceled(self, has_ended: bytearray, at_ms: int) -> Iterator[Event]:
        """Yield the tasks that the run ended without: canceled before they began."""
        for index in range(self._total):
            if has_ended[index]:
                continue
            result = _never_started(index)
            yield Event(kind="finished", at_ms=at_ms, index=index, dispatch=0, result=result)

    def cancel(self, reason: str) -> None:
        """Mark the run canceled; its events go on until `ended`. Safe from any thread."""
        self._client.cancel(self.id, reason)

    def summary(self) -> RunSummary:
        """Read the run's counts and times."""
        with self._client.reaching_broker():
            summary = self._client.store.summary(self.id)
        if summary is None:
            raise BrokerError(f"run {self.id} is gone from the broker")
        return summary


T = TypeVar("T")


def _pages(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(whole), PAGE):
        yield whole[first : first + PAGE]


def _never_started(index: int) -> TaskResult:
    """Give the result of a task that has none: its run was canceled before it began."""
    return TaskResult(
        index=index,
        status=TaskStatus.CANCELED,
        exit_code=-1,
        duration_seconds=0.0,
        error="canceled before it started",
        error_kind=ErrorKind.CANCELED,
        attempts=0,
    )


def _digest(specs: Sequence[TaskSpec], options: RunOptions) -> str:
    digest = hashlib.sha256(options.to_wire())
    for spec in specs:
        digest.update(spec.to_wire())
    return digest.hexdigest()


def _event(entry: dict[str, str], result: TaskResult | None) -> Event | None:
    at_ms, index = int(entry["at_ms"]), int(entry.get("index", -1))
    match entry["kind"]:
        case "started":
            return Event(
                kind="started",
                at_ms=at_ms,
                index=index,
                dispatch=int(entry["dispatch"]),
                worker=entry["worker"],
            )
        case "finished":
            dispatch = int(entry["dispatch"])
            return Event(
                kind="finished", at_ms=at_ms, index=index, dispatch=dispatch, result=result
            )
        case _:  # an event of a newer version, or one that the display has no use for
            return None
