"""Sends the steps of this worker's tasks to the store, from a thread of its own.

All that came in a quarter of a second goes in one call for each run, so a task costs Redis four
calls a second at most, and one at its end: a task's steps are recorded before its result. While
Redis is away, steps wait, and of each task the oldest are dropped, and counted; no task waits.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import redis

from clinvk.core.error_log import ErrorLog
from clinvk.core.steps import StepRecord
from clinvk.core.timestamps import rfc3339
from clinvk.store.connection import is_transient
from clinvk.store.steps import MAX_BYTES, MAX_STEPS, Steps
from clinvk.store.types import Lease
from workers.observers import CommandEnded, TaskStep, WorkerEvent

PUBLISH_SECONDS = 0.25
RETRY_SECONDS = 1.0
CALL_STEPS = 1000
CALL_BYTES = 1 << 20
"""How much one call records at most, about: Redis does nothing else meanwhile."""
STEP_BYTES = 200
"""About what a step takes beside its text and its line."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    """Steps of one task that are not recorded yet, no more than the store would keep."""

    steps: deque[tuple[TaskStep, str]] = field(default_factory=deque)
    bytes: int = 0
    dropped: int = 0

    def add(self, step: TaskStep, at: str) -> None:
        self.steps.append((step, at))
        self.bytes += _size(step)
        while len(self.steps) > MAX_STEPS or (self.bytes > MAX_BYTES and len(self.steps) > 1):
            self.bytes -= _size(self.steps.popleft()[0])
            self.dropped += 1


@dataclass(slots=True)
class _Call:
    """One call of the store; it may be repeated, because the store knows its nonce."""

    run: str
    records: list[StepRecord] = field(default_factory=list)
    dropped: dict[int, int] = field(default_factory=dict)
    bytes: int = 0
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    def add(self, lease: Lease, waiting: _Waiting) -> None:
        self.records += [_record(step, at) for step, at in waiting.steps]
        self.bytes += waiting.bytes
        if waiting.dropped:
            self.dropped[lease.index] = self.dropped.get(lease.index, 0) + waiting.dropped

    @property
    def is_full(self) -> bool:
        return len(self.records) >= CALL_STEPS or self.bytes >= CALL_BYTES


class StepPublisher:
    """An observer; `store` is for it alone, and must not wait for long."""

    def __init__(self, store: Steps) -> None:
        self._store = store
        self._errors = ErrorLog(logger)
        self._news = threading.Event()
        self._thread: threading.Thread | None = None
        self._calling = threading.Lock()
        self._failed: list[_Call] = []  # only for whoever holds it
        self._lock = threading.Lock()
        self._waiting: dict[Lease, _Waiting] = {}  # what follows, too, is guarded by it
        self._in_call: set[Lease] = set()
        self._is_away = False

    def saw(self, event: WorkerEvent) -> None:
        """Take a step; record what is left of a task whose command has ended."""
        match event:
            case TaskStep():
                self._add(event, rfc3339(datetime.now(UTC)))
            case CommandEnded(lease):
                self._flush(lease)

    def _add(self, step: TaskStep, at: str) -> None:
        with self._lock:
            self._waiting.setdefault(step.lease, _Waiting()).add(step, at)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="clinvk-step-publisher", daemon=True
                )
                self._thread.start()
        self._news.set()

    def _flush(self, lease: Lease) -> None:
        with self._lock:
            is_recorded = lease not in self._waiting and lease not in self._in_call
            if is_recorded or self._is_away:
                return
        with self._calling:
            self._publish([lease])

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            with self._calling:
                self._publish()
            if self._is_away:
                self._news.set()
            time.sleep(RETRY_SECONDS if self._is_away else PUBLISH_SECONDS)

    def _publish(self, leases: Iterable[Lease] | None = None) -> None:
        """Record what waits, of all tasks or of these, after what could not be recorded before."""
        calls, self._failed = [*self._failed, *self._take(leases)], []
        for number, call in enumerate(calls):
            try:
                self._store.record_steps(call.run, call.records, call.dropped, call.nonce)
            except Exception as error:  # noqa: BLE001  (without this thread there are no steps)
                if isinstance(error, redis.RedisError) and is_transient(error):
                    self._failed = calls[number:]
                    break
                self._errors.log(f"recording steps of run {call.run}", error)
        with self._lock:
            self._is_away = bool(self._failed)
            self._in_call.clear()

    def _take(self, leases: Iterable[Lease] | None) -> list[_Call]:
        with self._lock:
            of = list(self._waiting) if leases is None else leases
            taken = {lease: self._waiting.pop(lease) for lease in of if lease in self._waiting}
            self._in_call.update(taken)
        return list(_calls(taken))


def _calls(taken: dict[Lease, _Waiting]) -> Iterator[_Call]:
    calls: dict[str, _Call] = {}
    for lease, waiting in taken.items():
        call = calls.setdefault(lease.run, _Call(lease.run))
        call.add(lease, waiting)
        if call.is_full:
            yield calls.pop(lease.run)
    yield from calls.values()


def _size(step: TaskStep) -> int:
    return STEP_BYTES + len(step.step.text) + len(step.raw or "")


def _record(step: TaskStep, at: str) -> StepRecord:
    return StepRecord.of(
        step.step, index=step.lease.index, attempt=step.attempt, time=at, raw=step.raw
    )
