"""Workers and queues: who is there, what may run at once, what is dispatched next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clinvk.store import decoding, leases
from clinvk.store.connection import Connection
from clinvk.store.keys import key
from clinvk.store.types import Admission, QueueState

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

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return the live workers, by name, with what they announced."""
        names = [name.decode() for name in self.redis.zrange(key("workers"), 0, -1)]
        entries = self.redis.mget([key("worker", name) for name in names]) if names else []
        found = zip(names, entries, strict=True)
        return {name: json.loads(entry) for name, entry in found if entry is not None}

    def limit(
        self, queue: str, source: str = "operator", **limits: str | int | float | None
    ) -> None:
        """Set limits of a queue: `max_concurrency`, `rate` with `interval_ms`, `paused`.

        None removes a limit. Source "config" never overrides what an operator has set.
        """
        pairs = [
            part
            for name, value in limits.items()
            for part in (name, "" if value is None else value)
        ]
        self.call("limit", queue=queue, source=source, pairs=pairs)

    def queues(self) -> list[QueueState]:
        """Return all queues, by name."""
        names = sorted(name.decode() for name in self.redis.smembers(key("queues")))
        fields = ("max_concurrency", "rate", "paused", "waiting")
        with self.redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hmget(key("queue", name), *fields)
                pipeline.zcard(key("leases", name))
                pipeline.hget(key("capacity"), name)
            answers = iter(pipeline.execute())
        running = self.call("count_running", queues=names)
        rows = zip(names, answers, answers, answers, running, strict=True)
        return [
            QueueState(
                name=name,
                max_concurrency=int(state[0]) if state[0] else None,
                rate=state[1].decode() if state[1] else None,
                is_paused=state[2] == b"1",
                running=claimed,
                in_flight=in_flight,
                waiting=int(state[3] or 0),
                slots=int(slots or 0),
            )
            for name, state, in_flight, slots, claimed in rows
        ]
