"""Runs, tasks and leases in Redis: what keeps a run true.

The only file that knows how Redis is reached and what its keys are called. Each verb is one
atomic Lua script in `lua/`; the rules they share are in `lua/_prelude.lua`. States of a run:

    submitting   tasks are being recorded; nothing is out yet
    running      tasks are let out through the window
    canceled     nothing new is let out; what runs is being stopped
    done         every task has its result and the summary is made

A task of a running run is pending (in its queue's list), out (handed out or running, see the
prelude), or has a result. A task without a result in a canceled run that is done was canceled
before it began. Every key has a lifetime, started anew by each verb that touches the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import islice
from typing import Any, Self

import redis

from workers.spec import RunOptions, RunSummary, TaskResult, TaskSpec

LEASE_SECONDS = 15.0
"""How long a worker may be silent before its tasks count as lost."""
HANDOUT_SECONDS = 60.0
"""How long a published task may go unclaimed before it is published again."""
RUN_LIFETIME_SECONDS = 7 * 86400.0
"""How long a run's record stays after its last change."""
MAX_ATTEMPTS = 3
"""How many times a task may be lost before it is given up."""
COMPLETE_AFTER_SECONDS = 5.0
"""How long a complete run waits for its chord's body before the reaper aggregates it."""
REAP_LIMIT = 100
SUBMIT_CHUNK = 1000

KEYS = {
    "run": "clinvk:run:{}",  # hash: state, options, counters, times
    "specs": "clinvk:run:{}:specs",  # hash: index -> TaskSpec
    "pending": "clinvk:run:{}:pending:{}",  # list per queue: indexes not handed out
    "out": "clinvk:run:{}:out",  # hash: index -> attempt, state, queue
    "attempts": "clinvk:run:{}:attempts",  # hash: index -> attempts so far, where not 0
    "losses": "clinvk:run:{}:losses",  # hash: index -> attempts whose worker was lost
    "results": "clinvk:run:{}:results",  # hash: index -> TaskResult
    "events": "clinvk:run:{}:events",  # stream: what happened, in order
    "leases": "clinvk:leases",  # sorted set: lease -> when it runs out (ms)
    "complete": "clinvk:complete",  # sorted set: run -> since when it waits for its body (ms)
    "signals": "clinvk:signals",  # stream: runs that were canceled
}


@dataclass(frozen=True, slots=True)
class Handout:
    """A task that admission let out, to be published as a Celery message."""

    index: int
    attempt: int
    queue: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one attempt of a task and to record its result."""

    run: str
    index: int
    attempt: int

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read what `str` of a lease wrote."""
        run, index, attempt = name.rsplit(":", 2)
        return cls(run, int(index), int(attempt))

    @property
    def args(self) -> tuple[str, int, int]:
        """The three parts, as the scripts take them."""
        return self.run, self.index, self.attempt

    def __str__(self) -> str:
        return f"{self.run}:{self.index}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class Canceled:
    """What a cancellation took back: how many unpublished tasks, which published ones."""

    unpublished: int
    published: Sequence[int]

    def __bool__(self) -> bool:
        return bool(self.unpublished or self.published)


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: `go` with the spec, `canceled`, or `stale`."""

    verdict: str
    spec: bytes = b""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What followed from a result; `ok` is False where the fence refused it."""

    ok: bool
    canceled: Canceled
    admitted: Sequence[Handout]


@dataclass(frozen=True, slots=True)
class Reaped:
    """What the reaper found: leases to give up, tasks to publish, runs to aggregate."""

    given_up: Sequence[Lease]
    admitted: Mapping[str, Sequence[Handout]]
    complete: Sequence[str]


def redis_url(broker_url: str) -> str:
    """Translate Celery's form of a broker URL into redis-py's."""
    return re.sub(r"^(redis\+socket|socket|unix):///", "unix:///", broker_url)


def celery_url(broker_url: str) -> str:
    """Translate any accepted form of a broker URL into Celery's."""
    return re.sub(r"^(redis\+socket|socket|unix):///", "redis+socket:///", broker_url)


class Kernel:
    """The verbs. Each is one round trip, atomic, and safe to call from any thread."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis: Any = client  # redis-py types every answer as bytes or str or None

    @classmethod
    def connect(cls, broker_url: str) -> Self:
        """Give a kernel for this broker; connects at the first verb."""
        return cls(redis.Redis.from_url(redis_url(broker_url)))

    def close(self) -> None:
        """Close all connections."""
        self.redis.close()

    @cached_property
    def _scripts(self) -> dict[str, Any]:
        folder = resources.files("workers") / "lua"
        prelude = _key_functions() + (folder / "_prelude.lua").read_text()
        return {
            path.name.removesuffix(".lua"): self.redis.register_script(prelude + path.read_text())
            for path in folder.iterdir()
            if path.name.endswith(".lua") and not path.name.startswith("_")
        }

    def _call(self, verb: str, *args: object) -> Any:
        return self._scripts[verb](args=args)

    def submit(
        self,
        run: str,
        specs: Iterable[TaskSpec],
        queues: Sequence[str],
        options: RunOptions,
        total: int,
    ) -> list[Handout]:
        """Record a run of `total` tasks and let the first ones out.

        The specs are taken in chunks, so that they need not all be in memory. Until the last
        one is recorded the run is not visible to anyone, and goes away by itself.
        """
        lifetime_ms = int(RUN_LIFETIME_SECONDS * 1000)
        seconds, micros = self.redis.time()
        record: dict[str, str | int] = {
            "state": "submitting",
            "total": total,
            "remaining": total,
            "max_parallel": options.max_parallel,
            "fail_fast": int(options.fail_fast),
            "queues": json.dumps(queues),
            "created_ms": seconds * 1000 + micros // 1000,
            "lifetime_ms": lifetime_ms,
            "handout_ms": int(HANDOUT_SECONDS * 1000),
        }
        self.redis.hset(key("run", run), mapping=record)
        indexed = enumerate(specs)
        while chunk := list(islice(indexed, SUBMIT_CHUNK)):
            with self.redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(
                    key("specs", run), mapping={str(i): spec.to_wire() for i, spec in chunk}
                )
                for index, spec in chunk:
                    pipeline.rpush(key("pending", run, spec.queue), index)
                for name in (
                    key("run", run),
                    key("specs", run),
                    *(key("pending", run, queue) for queue in queues),
                ):
                    pipeline.pexpire(name, lifetime_ms)
                pipeline.execute()
        return _handouts(self._call("open", run))

    def claim(self, lease: Lease, worker: str) -> Claim:
        """Ask to run a task that was handed out, as a worker's first act."""
        verdict, *spec = self._call("claim", *lease.args, worker, int(LEASE_SECONDS * 1000))
        return Claim(verdict.decode(), *spec)

    def renew(self, leases: Iterable[Lease]) -> list[Lease]:
        """Keep these leases; returns those whose tasks must be stopped."""
        stop = self._call("renew", int(LEASE_SECONDS * 1000), *map(str, leases))
        return [Lease.parse(name.decode()) for name in stop]

    def finish(self, lease: Lease, result: TaskResult) -> Recorded:
        """Record a result, unless another attempt has the task by now."""
        recorded, unpublished, published, admitted = self._call(
            "finish", *lease.args, result.status.value, result.to_wire()
        )
        return Recorded(bool(recorded), Canceled(unpublished, published), _handouts(admitted))

    def cancel(self, run: str, reason: str) -> Canceled:
        """Cancel a run; the second time changes nothing."""
        return Canceled(*self._call("cancel", run, reason))

    def aggregate(self, run: str) -> bool:
        """Close a run whose results are all in. Returns whether it is closed (idempotent)."""
        return bool(self._call("aggregate", run))

    def reap(self) -> Reaped:
        """Find what was lost and hand it out again."""
        given_up, admitted, complete = self._call(
            "reap", MAX_ATTEMPTS, REAP_LIMIT, int(COMPLETE_AFTER_SECONDS * 1000)
        )
        pairs = iter(admitted)
        return Reaped(
            [Lease.parse(name.decode()) for name in given_up],
            {run.decode(): _handouts(handouts) for run, handouts in zip(pairs, pairs, strict=True)},
            [run.decode() for run in complete],
        )

    def last_signal(self) -> str:
        """Return the position after the newest signal."""
        newest = self.redis.xrevrange(key("signals"), count=1)
        return newest[0][0].decode() if newest else "0"

    def wait_signals(self, after: str, block_ms: int) -> tuple[str, list[str]]:
        """Wait for runs to be canceled; returns the new position and the runs."""
        position, entries = self._read_stream(key("signals"), after, block_ms)
        return position, [entry["canceled"] for entry in entries]

    def wait_events(self, run: str, after: str, block_ms: int) -> tuple[str, list[dict[str, str]]]:
        """Wait for events of a run after a position ("0" is its beginning).

        Each event has `kind` and `at_ms`; `started`, `finished` and `lost` have `index` and
        `attempt`. `block_ms` must stay below redis-py's socket timeout (5 s).
        """
        return self._read_stream(key("events", run), after, block_ms)

    def _read_stream(
        self, name: str, after: str, block_ms: int
    ) -> tuple[str, list[dict[str, str]]]:
        answer = self.redis.xread({name: after}, count=1000, block=block_ms)
        if not answer:
            return after, []
        entries = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
        events = []
        for position, fields in entries:
            event = {name.decode(): value.decode() for name, value in fields.items()}
            event["at_ms"] = position.decode().partition("-")[0]
            events.append(event)
        return entries[-1][0].decode(), events

    def results(self, run: str, indexes: Sequence[int]) -> list[TaskResult | None]:
        """Read the results of some tasks, None where there is none (yet)."""
        if not indexes:
            return []
        found = self.redis.hmget(key("results", run), [str(index) for index in indexes])
        return [None if wire is None else TaskResult.from_wire(wire) for wire in found]

    def summary(self, run: str) -> RunSummary | None:
        """Read a run's counts and times; None if there is no such run."""
        record = {
            name.decode(): value.decode()
            for name, value in self.redis.hgetall(key("run", run)).items()
        }
        if not record:
            return None
        counts = {
            name: int(record.get(name, 0))
            for name in ("total", "ok", "failed", "canceled", "timeout", "lost", "created_ms")
        }
        ended_ms = record.get("ended_ms")
        return RunSummary(
            run_id=run,
            **counts,
            ended_ms=int(ended_ms) if ended_ms else None,
            cancel_reason=record.get("cancel_reason"),
        )


def key(name: str, *parts: str) -> str:
    """Return the Redis key of this kind for a run (and a queue)."""
    return KEYS[name].format(*parts)


def _key_functions() -> str:
    """Write KEYS as Lua functions, so that their names stand in one place."""
    return "\n".join(_key_function(name, template) for name, template in KEYS.items()) + "\n"


def _key_function(name: str, template: str) -> str:
    parts = list(_lua_parts(template))
    arguments = ", ".join(part for part in parts if not part.startswith("'"))
    return f"local function {name}_key({arguments}) return {' .. '.join(parts)} end"


def _lua_parts(template: str) -> Iterator[str]:
    names = iter("ab")
    for text in re.split(r"(\{\})", template):
        if text == "{}":
            yield next(names)
        elif text:
            yield f"'{text}'"


def _handouts(rows: Iterable[Sequence[Any]]) -> list[Handout]:
    return [Handout(index, attempt, queue.decode()) for index, attempt, queue in rows]
