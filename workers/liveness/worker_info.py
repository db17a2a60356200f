"""What a worker announces of itself to the fleet."""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clinvk.core.version import __version__
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.store import Store
from workers.observers import WorkerEvent, WorkerStarted

UPDATE_SECONDS = 10.0


class Announcement:
    """A worker's entry in the list of live workers. It expires unless it is published again.

    `entry` has at least `slots` (tasks at once) and `queues` (Celery's names). `limits` are those
    of queues, by their names, in this machine's configuration, `budgets` those of a day.
    """

    def __init__(
        self,
        store: Store,
        worker: str,
        entry: Mapping[str, Any],
        limits: Mapping[str, Mapping[str, Any]] | None = None,
        budgets: Mapping[str, int] | None = None,
    ) -> None:
        self._store = store
        self._worker = worker
        self._entry = dict(entry)
        self._limits = dict(limits or {})
        self._budgets = budgets

    def describe(self, **more: Any) -> None:
        """Add to the entry, from the next time that it is published."""
        self._entry = {**self._entry, **more}

    def publish(self) -> None:
        """Tell the fleet that this worker lives; the first time, set the limits before.

        So no task is dispatched to this worker that its own limits would hold back.

        Raises:
            redis.RedisError: Redis cannot be used.
        """
        while self._limits:
            queue, limits = next(iter(self._limits.items()))
            self._store.limit(queue, "config", **limits)
            del self._limits[queue]
        if self._budgets is not None:
            self._store.set_budgets(self._budgets)
            self._budgets = None
        self._store.announce(self._worker, self._entry)

    def drain(self, running: int) -> None:
        """Announce as many slots as tasks still run, or withdraw the entry where none does.

        Were it withdrawn at once, those tasks would be counted against the slots of the workers
        that take over.

        Raises:
            redis.RedisError: Redis cannot be used.
        """
        if running:
            self.describe(slots=running, draining=True)
            self.publish()
        else:
            self._store.drain(self._worker)


def entry(owner: str, slots: int, queues: Sequence[str], config: WorkerConfig) -> dict[str, Any]:
    """Return the entry of a worker of this process: where, what, how much at once.

    `owner` is what it claims tasks as (`Store.claim`).
    """
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": __version__,
        "python": platform.python_version(),
        "slots": slots,
        "queues": list(queues),
        "started_ms": int(time.time() * 1000),
        "owner": owner,
        "clis": dict(config.clis),
        "tags": list(config.tags),
    }


def wait_for_updates() -> bool:
    """Wait until it is time to look whether CLIs have been updated."""
    time.sleep(UPDATE_SECONDS)
    return True


class HealthObserver:
    """Announces how this machine is, and the versions of its CLIs, which take a moment to tell.

    `look` is called in a thread of its own; it returns what to add to the announcement. It is
    called again once `programs` has changed, and is the same for as long as `wait` takes: some CLIs
    update themselves, file by file. `wait` returns False to end the thread.
    """

    def __init__(
        self,
        look: Callable[[], Mapping[str, Any]],
        programs: Callable[[], object],
        describe: Callable[..., None],
        wait: Callable[[], bool] = wait_for_updates,
    ) -> None:
        self._look = look
        self._programs = programs
        self._describe = describe
        self._wait = wait

    def saw(self, event: WorkerEvent) -> None:
        """Begin to look once the worker has started."""
        if isinstance(event, WorkerStarted):
            threading.Thread(target=self._announce, name="clinvk-health", daemon=True).start()

    def _announce(self) -> None:
        looked_at = known = self._programs()
        self._describe(**self._look())
        while self._wait():
            before, known = known, self._programs()
            if before == known != looked_at:
                looked_at = known
                self._describe(**self._look())
