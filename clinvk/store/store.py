"""Runs, tasks and leases in Redis: what keeps a run true.

The only file that knows how Redis is reached and what its keys are called. Each verb is one
atomic Lua script in `lua/`; the rules they share are in `lua/_prelude.lua`. States of a run:

    submitting   tasks are being recorded; nothing is out yet
    running      tasks are let out through the window
    canceled     nothing new is let out; what runs is being stopped
    done         every task has its result and the summary is made

A task of a running run is pending (in its queue's list), out (handed out or running, see the
prelude), or has a result. Of an ordered run only the next task is pending or out; those after
it become pending one by one, as the task before them ends. A task without a result in a canceled
run that is done was canceled before it began. Every key has a lifetime, started anew by each verb
that touches the run.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from itertools import chain
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from clinvk.core.spec import RunOptions, RunSummary, TaskResult, TaskSpec
from clinvk.store import failure_detector
from clinvk.store.failure_detector import LEASE_MS, Overdue, Server

WORKER_MS = 15_000
"""How long a worker may be silent before its slots no longer count."""
CLAIM_TIMEOUT_MS = 15_000
"""How long a published task may go unclaimed before it is published again. Admission lets out
only what free slots can take, so a claim follows at once unless its worker has died."""
INLINE_BYTES = 1 << 16
"""Outputs over this get a key of their own, so that pages of results stay small."""
BEACON_MS = 3_600_000
"""How long it is remembered which connection a worker process had."""
COMPLETE_AFTER_MS = 2000
"""How long a complete run waits for its chord's body before the reaper aggregates it."""
SUBMITTING_MS = 3_600_000
"""How long the tasks of a run stay that is never opened."""
PING_SECONDS = 3.0
MOST_IDLE = 16
"""Connections that are kept for the next verbs; more are open only while more verbs run at once."""
REST_SECONDS = 1.0
"""After how long without use a connection may have been closed by the server."""
REAP_LIMIT = 1000
SUBMIT_CHUNK = 1000
SUBMIT_CHARS = 1 << 20

KEYS = {
    "run": "clinvk:run:{}",  # hash: state, options, counters, times
    "specs": "clinvk:run:{}:specs",  # hash: index -> TaskSpec
    "message": "clinvk:run:{}:message",  # string: the Celery message of its tasks, a template
    "pending": "clinvk:run:{}:pending:{}",  # list per queue: indexes not handed out
    "out": "clinvk:run:{}:out",  # hash: index -> dispatch, state, queue
    "dispatches": "clinvk:run:{}:dispatches",  # hash: index -> its last dispatch, if it was lost
    "max_attempts": "clinvk:run:{}:max_attempts",  # hash: index -> its own, if not the run's
    "worker_losses": "clinvk:run:{}:worker_losses",  # hash: index -> how often its worker was lost
    "results": "clinvk:run:{}:results",  # hash: index -> TaskResult
    "blob": "clinvk:run:{}:blob:{}",  # string: an output over INLINE_BYTES
    "events": "clinvk:run:{}:events",  # stream: what happened, in order
    "runs": "clinvk:runs",  # sorted set: run -> when it was submitted (ms)
    "submitted": "clinvk:submitted:{}",  # string: a submitter's key -> run and digest
    "queues": "clinvk:queues",  # set: all queues that were ever used
    "queue": "clinvk:queue:{}",  # hash: limits, paused, turn, waiting, when it last handed out
    "ring": "clinvk:queue:{}:runs",  # sorted set: run -> turn, of runs that could take a slot
    "leases": "clinvk:queue:{}:leases",  # sorted set: what is out -> when it runs out (ms)
    "waiting": "clinvk:waiting",  # set: queues whose ring is not empty
    "workers": "clinvk:workers",  # sorted set: worker -> until when it counts (ms)
    "worker": "clinvk:worker:{}",  # string: what a worker is, as JSON
    "beacon": "clinvk:beacon:{}",  # string: worker process -> its standing connection
    "capacity": "clinvk:capacity",  # hash: queue (or *) -> slots of the workers that serve it
    "complete": "clinvk:complete",  # sorted set: run -> since when it waits for its body (ms)
    "signals": "clinvk:signals",  # stream: runs that were canceled
}


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A task that admission let out: its Celery message is in its queue."""

    run: str
    index: int
    dispatch: int
    queue: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one dispatch of a task and to record its result."""

    run: str
    index: int
    dispatch: int

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read what `str` of a lease wrote."""
        run, index, dispatch = name.rsplit(":", 2)
        return cls(run, int(index), int(dispatch))

    @property
    def args(self) -> tuple[str, int, int]:
        """The three parts, as the scripts take them."""
        return self.run, self.index, self.dispatch

    def __str__(self) -> str:
        return f"{self.run}:{self.index}:{self.dispatch}"


@dataclass(frozen=True, slots=True)
class Canceled:
    """What a cancellation took back: how many unpublished tasks, which published ones."""

    unpublished: int
    published: Sequence[int]

    def __bool__(self) -> bool:
        return bool(self.unpublished or self.published)


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: `go` with the spec and how often it was begun; or a refusal."""

    verdict: str
    spec: bytes = b""
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Admission:
    """Tasks that were let out, and when to ask again where only time stands in the way."""

    dispatched: Sequence[Dispatched]
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What followed from a result; `ok` is False where the fence refused it.

    `is_last` says that no result of the run is missing any more. `message` is the Celery message
    that the freed slot may run next, with its queue.
    """

    ok: bool
    is_last: bool
    canceled: Canceled
    admission: Admission
    message: tuple[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class ExhaustedTask:
    """A task that will not be tried again: why it was lost this time, and how often it was."""

    lease: Lease
    why: str
    losses: int


@dataclass(frozen=True, slots=True)
class Reaped:
    """What the reaper found: tasks to give up, tasks it let out, runs to aggregate."""

    exhausted: Sequence[ExhaustedTask]
    admission: Admission
    complete: Sequence[str]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submit: the run, or the one that its key already stands for."""

    run: str
    admission: Admission
    taken_by_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A queue's limits, as its operator set them, and what it is doing."""

    name: str
    max_concurrency: int | None
    rate: str | None
    is_paused: bool
    running: int
    waiting: int
    slots: int


TRANSIENT = (
    "LOADING",
    "READONLY",
    "MISCONF",
    "MASTERDOWN",
    "NOREPLICAS",
    "OOM",
    "BUSY",
    "TRYAGAIN",
)
"""Errors of a server that may be well again later."""
SERVES_NOBODY = ("LOADING", "MISCONF")
"""Those in which it does nothing for anybody, reapers included."""


def is_transient(error: redis.RedisError) -> bool:
    """Whether what failed may work later: the server is away, or cannot write just now."""
    return (
        isinstance(error, redis.ConnectionError | redis.TimeoutError) or _code(error) in TRANSIENT
    )


def serves_nobody(error: BaseException | None) -> bool:
    """Whether an error shows that there is no server for anyone, not just no way to it."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            return True
        if _code(error) in SERVES_NOBODY:
            return True
        error = error.__cause__ or error.__context__
    return False


def _code(error: BaseException) -> str:
    """Return the first word of what a server answered."""
    return getattr(error, "status_code", None) or str(error).partition(" ")[0]


def redis_url(broker_url: str) -> str:
    """Translate any accepted form of a broker URL into redis-py's."""
    return re.sub(r"^((\w+\+)?socket|unix):///", "unix:///", broker_url)


@cache
def driver() -> redis.DriverInfo:
    """Return what connections tell the server of themselves; to find it out takes a while."""
    return redis.DriverInfo()


def connection_timeouts(answer_seconds: float | None) -> dict[str, Any]:
    """Return options of connections; with `answer_seconds` they wait so long, and try once."""
    if answer_seconds is None:
        return {"driver_info": driver()}
    return {
        "driver_info": driver(),
        "socket_connect_timeout": answer_seconds,
        "socket_timeout": answer_seconds,
        "retry": Retry(NoBackoff(), 0),
    }


def connection_beside(pool: Any) -> Any:
    """Make a connection like a pool's: it counts those that it ever made, and allows a hundred."""
    return pool.connection_class(**pool.connection_kwargs)


def _is_over(connection: Any) -> bool:
    """Whether a connection on which nothing is expected was closed, or says something."""
    try:
        return bool(connection.can_read(timeout=0))
    except (redis.RedisError, OSError):
        return True


class Store:
    """The verbs. Each is one round trip, atomic, and safe to call from any thread."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis: Any = client  # redis-py types every answer as bytes or str or None
        self._url = ""
        self._idle = deque[tuple[Any, float]]()

    @classmethod
    def connect(cls, broker_url: str, answer_seconds: float | None = None) -> Self:
        """Give a store for this broker; connects at the first verb.

        With `answer_seconds`, a verb that takes longer fails, and none is tried again.
        """
        url = redis_url(broker_url)
        store = cls(redis.Redis.from_url(url, **connection_timeouts(answer_seconds)))
        store._url = url
        return store

    def ping(self) -> None:
        """Make sure, within a few seconds, that the server answers.

        Raises:
            redis.RedisError: it does not.
        """
        with redis.Redis.from_url(self._url, **connection_timeouts(PING_SECONDS)) as client:
            client.ping()

    def close(self) -> None:
        """Close all connections."""
        while self._idle:
            self._idle.pop()[0].disconnect()
        self.redis.close()

    @cached_property
    def _scripts(self) -> dict[str, Any]:
        return {verb: self.redis.register_script(text) for verb, text in scripts().items()}

    def _call(self, verb: str, *args: object) -> Any:
        """Run a verb's script.

        Over connections of our own: redis-py's client and its pool take two thirds of the time
        of a call (65 us of CPU, so 20). They retry as the client would.
        """
        script, connection = self._scripts[verb], self._connection()

        def ask() -> Any:
            connection.send_command("EVALSHA", script.sha, 0, *args)
            return connection.read_response()

        try:
            answer = connection.retry.call_with_retry(ask, lambda _: connection.disconnect())
        except NoScriptError:
            self._put_back(connection)
            return script(args=args)  # which loads it
        except redis.ResponseError:
            self._put_back(connection)
            raise
        except BaseException:  # an answer may be on its way
            connection.disconnect()
            raise
        self._put_back(connection)
        return answer

    def _connection(self) -> Any:
        try:
            connection, used_at = self._idle.pop()
        except IndexError:
            return connection_beside(self.redis.connection_pool)
        if time.monotonic() - used_at > REST_SECONDS and _is_over(connection):
            connection.disconnect()  # it connects again as it is used
        return connection

    def _put_back(self, connection: Any) -> None:
        if len(self._idle) < MOST_IDLE:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.disconnect()

    def submit(
        self,
        run: str,
        specs: Iterable[TaskSpec],
        options: RunOptions,
        run_key: str = "",
        digest: str = "",
        message: str = "",
    ) -> Submitted:
        """Record a run and let the first tasks out. `message` is the template of what to publish.

        The specs are taken in chunks, so that they need not all be in memory. Until the last
        one is recorded the run is not visible to anyone, and goes away by itself.
        """
        total, queues, steps = 0, dict[str, None](), list[str]()
        try:
            for chunk in _chunks(specs):
                total += len(chunk)
                queues |= dict.fromkeys(spec.queue for _, spec in chunk)
                self._record(run, chunk, is_ordered=options.is_ordered)
                if options.is_ordered:
                    steps += [spec.queue for _, spec in chunk]
        except redis.ResponseError:
            # What is there already may be what a full server has no room for.
            names = [key("pending", run, queue) for queue in queues]
            with contextlib.suppress(redis.RedisError):
                self.redis.unlink(key("specs", run), key("max_attempts", run), *names)
            raise
        seconds, micros = self.redis.time()
        record: dict[str, str | int] = {
            "state": "submitting",
            "total": total,
            "remaining": total,
            "max_parallel": options.max_parallel,
            "fail_fast": int(options.fail_fast),
            "priority": options.priority,
            "kind": options.kind,
            "max_attempts": options.max_attempts,
            "queues": json.dumps(list(queues)),
            "created_ms": seconds * 1000 + micros // 1000,
            "lifetime_ms": int(options.keep_seconds * 1000),
        }
        if options.is_ordered:
            record["steps"] = json.dumps(steps)
        self.redis.hset(key("run", run), mapping=record)
        self.redis.pexpire(key("run", run), SUBMITTING_MS)
        self.redis.set(key("message", run), message, px=SUBMITTING_MS)
        verdict, existing, its_digest, admission = self._call(
            "open", run, CLAIM_TIMEOUT_MS, run_key, digest
        )
        if verdict == b"taken":
            return Submitted(existing.decode(), _admission(admission), its_digest.decode())
        return Submitted(run, _admission(admission))

    def _record(self, run: str, chunk: Sequence[tuple[int, TaskSpec]], *, is_ordered: bool) -> None:
        rows = (
            (index, spec.queue, spec.effective_max_attempts or "", spec.to_wire())
            for index, spec in chunk
        )
        flag = "1" if is_ordered else ""
        self._call("record", run, SUBMITTING_MS, flag, *chain.from_iterable(rows))

    def submitted(self, run_key: str) -> tuple[str, str] | None:
        """Return the run that a submitter's key stands for and its digest, if there is one."""
        entry = self.redis.get(key("submitted", run_key))
        if entry is None:
            return None
        fields = json.loads(entry)
        return (fields["run"], fields["digest"]) if self.summary(fields["run"]) else None

    def claim(self, lease: Lease, owner: str, nonce: str) -> Claim:
        """Ask to run a task that was handed out, as a worker's first act.

        `owner` is the worker process, "<worker>/<token>"; `nonce` is one for each message, so
        that the same question may be asked again when its answer was lost.
        """
        verdict, *rest = self._call("claim", *lease.args, owner, nonce, LEASE_MS)
        return Claim(verdict.decode(), *rest)

    def renew(self, owner: str, beacon: str, leases: Iterable[Lease]) -> list[Lease]:
        """Keep these leases, and the owner's beacon; returns those whose tasks must be stopped."""
        stop = self._call("renew", owner, beacon, BEACON_MS, LEASE_MS, *map(str, leases))
        return [Lease.parse(name.decode()) for name in stop]

    def release(self, owner: str, *leases: Lease) -> int:
        """Say that nothing runs any more under these leases, or under any that a owner has."""
        return int(self._call("release", owner, *map(str, leases)))

    def finish(self, lease: Lease, result: TaskResult, queues: Iterable[str] = ()) -> Recorded:
        """Record a result, unless another dispatch has the task by now.

        Takes a message out of the first of these queues that has one: those that the worker
        serves, whose slot is free with this. Where the answer is lost, so is the message, and
        the reaper publishes it again (`CLAIM_TIMEOUT_MS`).
        """
        result = self._store_large(lease, result)
        recorded, is_last, unpublished, published, admission, message = self._call(
            "finish", *lease.args, result.status.value, result.to_wire(), CLAIM_TIMEOUT_MS, *queues
        )
        return Recorded(
            bool(recorded),
            bool(is_last),
            Canceled(unpublished, published),
            _admission(admission),
            (message[0].decode(), message[1]) if message else None,
        )

    def _store_large(self, lease: Lease, result: TaskResult) -> TaskResult:
        if result.output is None or len(result.output) <= INLINE_BYTES // 4:
            return result
        output = result.output.encode("utf-8", "replace")
        if len(output) <= INLINE_BYTES:
            return result
        # Named after the dispatch: what a refused one has stored is never read, and expires.
        name = f"{lease.index}-{lease.dispatch}"
        lifetime_ms = int(self.redis.hget(key("run", lease.run), "lifetime_ms") or 0)
        if lifetime_ms:
            self.redis.set(key("blob", lease.run, name), output, px=2 * lifetime_ms)
        return replace(result, output=None, output_blob=name)

    def _load_large(self, run: str, result: TaskResult) -> TaskResult:
        if result.output_blob is None:
            return result
        output = self.redis.get(key("blob", run, result.output_blob))
        if output is None:
            note = [*result.warnings, "the output is no longer there"]
            return replace(result, output="", output_blob=None, warnings=note)
        return replace(result, output=output.decode("utf-8", "replace"), output_blob=None)

    def cancel(self, run: str, reason: str) -> Canceled:
        """Cancel a run; the second time changes nothing."""
        return Canceled(*self._call("cancel", run, reason))

    def aggregate(self, run: str) -> bool:
        """Close a run whose results are all in. Returns whether it is closed (idempotent)."""
        return bool(self._call("aggregate", run))

    def admit(self) -> Admission:
        """Let out what time, or an operator, has made room for."""
        return _admission(self._call("admit", CLAIM_TIMEOUT_MS))

    def reap(self) -> Reaped:
        """Find what was lost and hand it out again."""
        rows, admission, complete = self._call(
            "reap", REAP_LIMIT, COMPLETE_AFTER_MS, CLAIM_TIMEOUT_MS
        )
        lost: dict[str, str] = {}
        if rows:
            server = self.server()
            for overdue in map(_overdue, rows):
                if why := failure_detector.loss_reason(overdue, server):
                    lost[overdue.lease] = why
        exhausted: list[tuple[bytes, int]] = []
        if lost:
            exhausted, admission = self._call("lose", CLAIM_TIMEOUT_MS, *chain(*lost.items()))
        return Reaped(
            [
                ExhaustedTask(Lease.parse(name.decode()), lost[name.decode()], losses)
                for name, losses in exhausted
            ],
            _admission(admission),
            [run.decode() for run in complete],
        )

    def server(self) -> Server:
        """Ask the server which run of it this is, and who is connected."""
        about = self.redis.info("server")
        try:
            clients = frozenset(int(client["id"]) for client in self.redis.client_list())
        except redis.ResponseError:  # a user who may not ask
            clients = None
        return Server(about["run_id"], 1000 * int(about["uptime_in_seconds"]), clients)

    # Workers and queues.

    def announce(self, worker: str, entry: Mapping[str, Any]) -> Admission:
        """Tell the fleet that a worker is there: `slots`, `queues` (Celery's names) and more."""
        text = json.dumps(entry, sort_keys=True)
        return _admission(self._call("announce", worker, WORKER_MS, text, CLAIM_TIMEOUT_MS))

    def drain(self, worker: str) -> Admission:
        """Tell the fleet that a worker takes nothing more."""
        return _admission(self._call("announce", worker, WORKER_MS, "", CLAIM_TIMEOUT_MS))

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return the workers that are there, by name, with what they announced."""
        names = [name.decode() for name in self.redis.zrange(key("workers"), 0, -1)]
        entries = self.redis.mget([key("worker", name) for name in names]) if names else []
        found = zip(names, entries, strict=True)
        return {name: json.loads(entry) for name, entry in found if entry is not None}

    def limit(
        self, queue: str, source: str = "operator", **limits: str | int | float | None
    ) -> None:
        """Set limits of a queue: `max_concurrency`, `rate` with `interval_ms`, `paused`.

        None takes a limit away. What source "config" sets never overrides an operator's word.
        """
        pairs = [
            part
            for name, value in limits.items()
            for part in (name, "" if value is None else value)
        ]
        self._call("limit", queue, source, *pairs)

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
        return [
            QueueState(
                name=name,
                max_concurrency=int(state[0]) if state[0] else None,
                rate=state[1].decode() if state[1] else None,
                is_paused=state[2] == b"1",
                running=out,
                waiting=int(state[3] or 0),
                slots=int(slots or 0),
            )
            for name, state, out, slots in zip(names, answers, answers, answers, strict=True)
        ]

    # What happened.

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

        Each event has `kind`, `position` and `at_ms`; `started`, `finished` and `lost` have
        `index` and `dispatch`. `block_ms` must stay below redis-py's socket timeout (5 s).
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
            event["position"] = position.decode()
            event["at_ms"] = event["position"].partition("-")[0]
            events.append(event)
        return entries[-1][0].decode(), events

    def results(self, run: str, indexes: Sequence[int]) -> Iterator[TaskResult | None]:
        """Read the results of some tasks, None where there is none (yet).

        One round trip, and one more for each large output as it is reached.
        """
        if not indexes:
            return
        for wire in self.redis.hmget(key("results", run), [str(index) for index in indexes]):
            yield None if wire is None else self._load_large(run, TaskResult.from_wire(wire))

    def specs(self, run: str, indexes: Sequence[int]) -> list[TaskSpec]:
        """Read the specs of some tasks."""
        found = self.redis.hmget(key("specs", run), [str(index) for index in indexes])
        return [TaskSpec.from_wire(wire) for wire in found if wire is not None]

    def runs(self, limit: int) -> list[RunSummary]:
        """Return the newest runs, newest first; a fixed cost for each."""
        names = [name.decode() for name in self.redis.zrevrange(key("runs"), 0, limit - 1)]
        with self.redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(key("run", name))
                pipeline.hlen(key("out", name))
            answers = iter(pipeline.execute())
        found = [_summary(*entry) for entry in zip(names, answers, answers, strict=True)]
        return [summary for summary in found if summary is not None]

    def summary(self, run: str) -> RunSummary | None:
        """Read a run's counts and times; None if there is no such run."""
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(key("run", run))
            pipeline.hlen(key("out", run))
            return _summary(run, *pipeline.execute())


def _summary(run: str, fields: Mapping[bytes, bytes], out: int) -> RunSummary | None:
    record = {name.decode(): value.decode() for name, value in fields.items()}
    if "total" not in record:
        return None
    counters = ("total", "ok", "failed", "canceled", "timeout", "lost", "created_ms")
    ended_ms = record.get("ended_ms")
    return RunSummary(
        run_id=run,
        **{name: int(record.get(name, 0)) for name in counters},
        kind=record.get("kind", "parallel"),
        state=record["state"],
        max_parallel=int(record["max_parallel"]),
        fail_fast=record["fail_fast"] == "1",
        ended_ms=int(ended_ms) if ended_ms else None,
        cancel_reason=record.get("cancel_reason"),
        running=out,
    )


def key(name: str, *parts: str) -> str:
    """Return the Redis key of this kind for a run (and a queue)."""
    return KEYS[name].format(*parts)


@cache
def scripts() -> Mapping[str, str]:
    """Read the verbs' scripts, each with what they share in front of it."""
    folder = resources.files("clinvk.store") / "lua"
    prelude = _key_functions() + (folder / "_prelude.lua").read_text()
    return {
        path.name.removesuffix(".lua"): prelude + path.read_text()
        for path in folder.iterdir()
        if path.name.endswith(".lua") and not path.name.startswith("_")
    }


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


def _chunks(specs: Iterable[TaskSpec]) -> Iterator[list[tuple[int, TaskSpec]]]:
    """Divide specs, each with its index, so that neither many nor long ones are much at once."""
    chunk, chars = list[tuple[int, TaskSpec]](), 0
    for index, spec in enumerate(specs):
        chunk.append((index, spec))
        chars += len(spec.prompt)
        if len(chunk) == SUBMIT_CHUNK or chars >= SUBMIT_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def _overdue(row: Sequence[Any]) -> Overdue:
    lease, state, owner, beacon, over_ms = row
    return Overdue(
        lease.decode(),
        state == b"r",
        owner.decode(),
        beacon.decode(),
        None if over_ms < 0 else over_ms,
    )


def _admission(answer: Sequence[Any]) -> Admission:
    rows, retry_after_ms = answer
    dispatched = [
        Dispatched(run.decode(), index, dispatch, queue.decode())
        for run, index, dispatch, queue in rows
    ]
    return Admission(dispatched, retry_after_ms)
