"""Workers and queues: who is there, what may run at once, what is dispatched next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clinvk.core.errors import WireError
from clinvk.store import decoding, leases
from clinvk.store.connection import Connection, all_but_wrong_types
from clinvk.store.keys import key
from clinvk.store.types import DAY_MS, Admission, OnUnreadable, QueueState, ignore

WORKER_MS = 15_000
"""How long a worker may be silent before its slots no longer count."""


class Queues(Connection):
    """The operations on queues and workers."""

    def admit(self) -> Admission:
        """Dispatch what time, or an operator, has made room for."""
        answer = self.call("admit", claim_timeout_ms=leases.CLAIM_TIMEOUT_MS)
        return decoding.admission(answer)

    def announce(self, worker: str, entry: Mapping[str, Any]) -> Admission:
        """Tell the fleet that a worker is there: `slots`, `queues` (Celery's names) and more."""
        return self._announce(worker, json.dumps(entry, sort_keys=True))

    def drain(self, worker: str) -> Admission:
        """Tell the fleet that a worker takes nothing more."""
        return self._announce(worker, "")

    def _announce(self, worker: str, entry: str) -> Admission:
        answer = self.call(
            "announce",
            worker=worker,
            lifetime_ms=WORKER_MS,
            entry=entry,
            claim_timeout_ms=leases.CLAIM_TIMEOUT_MS,
        )
        return decoding.admission(answer)

    def workers(self, on_unreadable: OnUnreadable = ignore) -> dict[str, dict[str, Any]]:
        """Return the live workers, by name, with what they announced.

        An entry that cannot be read is left out, and told to `on_unreadable`.
        """
        names = [decoding.text(name) for name in self.redis.zrange(key("workers"), 0, -1)]
        entries = self.redis.mget([key("worker", name) for name in names]) if names else []
        found = {}
        for name, entry in zip(names, entries, strict=True):
            try:
                if entry is not None:
                    found[name] = decoding.worker(name, entry)
            except WireError as error:
                on_unreadable(str(error))
        return found

    def limit(
        self, queue: str, source: str = "operator", **limits: str | int | float | None
    ) -> None:
        """Set limits of a queue.

        They are `max_concurrency`, `rate` with `interval_ms`, `paused`, and `paused_until`
        (milliseconds since the epoch).

        None removes a limit. Source "config" never overrides what an operator has set.
        """
        pairs = [
            part
            for name, value in limits.items()
            for part in (name, "" if value is None else value)
        ]
        self.call("limit", queue=queue, source=source, pairs=pairs)

    def set_budgets(
        self, limits: Mapping[str, int], elsewhere: Mapping[str, int] | None = None
    ) -> None:
        """Set the budgets of a day, in place of those that there were; see lua/budgets.lua.

        `elsewhere` is what was used today of which this server knows nothing. Both are by scope
        and unit, such as `all cost` and `clinvk.claude tokens`.
        """
        given = "" if elsewhere is None else json.dumps(elsewhere)
        pairs = [part for pair in limits.items() for part in pair]
        self.call("budgets", elsewhere=given, limits=pairs)

    def reopen(self, queue: str) -> Admission:
        """Forget what was learned of the limits of a queue's provider."""
        answer = self.call("reopen", queue=queue, claim_timeout_ms=leases.CLAIM_TIMEOUT_MS)
        return decoding.admission(answer)

    def server_time_ms(self) -> int:
        """Return the server's time, in milliseconds since the epoch."""
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def queues(self, on_unreadable: OnUnreadable = ignore) -> list[QueueState]:
        """Return all queues, by name.

        A record that cannot be read is left out, and told to `on_unreadable`.
        """
        names = sorted(decoding.text(name) for name in self.redis.smembers(key("queues")))
        with self.redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(key("queue", name))
                pipeline.zcard(key("leases", name))
                pipeline.hget(key("capacity"), name)
            answers = iter(all_but_wrong_types(pipeline))
        now_ms, running = self.call("count_running", queues=names)
        found, used_up = [], self._used_up(int(now_ms))
        for row in zip(names, answers, answers, answers, running, strict=True):
            try:
                state = decoding.queue(*row, int(now_ms))
                found.append(state.closed_by_budget() if used_up & {"all", state.name} else state)
            except WireError as error:
                on_unreadable(str(error))
        return found

    def _used_up(self, now_ms: int) -> set[str]:
        """Return the scopes whose budget of the day is used up; see lua/lib/budgets.lua."""
        limits = self.redis.hgetall(key("budgets"))
        if not limits:
            return set()
        used = self.redis.hgetall(key("used", str(now_ms // DAY_MS)))
        return {
            decoding.text(name).rpartition(" ")[0]
            for name, limit in limits.items()
            if int(used.get(name, 0)) >= int(limit)
        }
