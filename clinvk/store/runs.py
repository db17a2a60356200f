"""Runs: submit, cancel and close them, and read what became of them."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import redis

from clinvk.core.changes import Changes, Part
from clinvk.core.errors import WireError
from clinvk.core.spec import BUDGET_REASONS, RunOptions, RunSummary, TaskResult, TaskSpec
from clinvk.store import decoding, leases
from clinvk.store.connection import all_but_wrong_types, is_transient
from clinvk.store.keys import key
from clinvk.store.shipments import Shipments
from clinvk.store.types import Canceled, Explanation, OnUnreadable, Submitted, ignore

SUBMITTING_MS = 3_600_000
"""How long the tasks of a run stay that is never opened."""
SUBMIT_CHUNK = 1000
SUBMIT_CHARS = 1 << 20
MOST_PATCH_BYTES = 10 << 20
"""Patches over this are not read with their results, but by who asks for them."""


@dataclass(slots=True)
class _RecordedTasks:
    """What a run's record says of its tasks.

    `counts` are their numbers by queue, 0 for one that some may only be moved to; `queues` has
    each task's, in order; `max_wait_seconds` is the least that one of them may wait for limits;
    `have_tags` says whether any has tags.
    """

    counts: Counter[str] = field(default_factory=Counter)
    queues: list[str] = field(default_factory=list)
    max_wait_seconds: float = math.inf
    have_tags: bool = False

    def add(self, specs: Sequence[TaskSpec]) -> None:
        """Count some more."""
        queues = [spec.queue for spec in specs]
        self.queues += queues
        self.counts.update(queues)
        self.counts.update({name: 0 for spec in specs for name in spec.other_queues})
        waits = [spec.max_wait_seconds for spec in specs if spec.max_wait_seconds is not None]
        self.max_wait_seconds = min([self.max_wait_seconds, *waits])
        self.have_tags = self.have_tags or any(spec.tags for spec in specs)


class Runs(Shipments):
    """The operations on runs."""

    def submit(
        self,
        run: str,
        specs: Iterable[TaskSpec],
        options: RunOptions,
        submission_key: str = "",
        digest: str = "",
        message: str = "",
        user: str = "",
    ) -> Submitted:
        """Record a run and dispatch its first tasks.

        `message` is the template of what to publish, `user` the name of who submits it.
        The specs are taken in chunks, so that they need not all be in memory. Until the last
        one is recorded the run is not visible to anyone, and goes away by itself.
        """
        submitter = self.submitter or ""
        submission = f"{submitter}:{run}"
        recorded = self._record_tasks(submission, specs, is_ordered=options.is_ordered)
        self._record_run(submission, recorded, options, user)
        verdict, existing, its_digest, admission = self.call(
            "open",
            run=run,
            submitter=submitter,
            message=message,
            claim_timeout_ms=leases.CLAIM_TIMEOUT_MS,
            once_key=self._own(submission_key),
            digest=digest,
        )
        if verdict == b"taken":
            taken_by = its_digest.decode()
            return Submitted(existing.decode(), decoding.admission(admission), taken_by)
        return Submitted(run, decoding.admission(admission))

    def _record_tasks(
        self, submission: str, specs: Iterable[TaskSpec], *, is_ordered: bool
    ) -> _RecordedTasks:
        """Record the tasks in chunks."""
        recorded = _RecordedTasks()
        try:
            for chunk in _chunks(specs):
                recorded.add([spec for _, spec in chunk])
                self._record(submission, chunk, is_ordered=is_ordered)
        except redis.ResponseError:
            # What is there already may be what a full server has no room for.
            tasks = (
                key("submission_specs", submission),
                key("submission_max_attempts", submission),
                *(key("submission_pending", submission, queue) for queue in recorded.counts),
            )
            with contextlib.suppress(redis.RedisError):
                self.redis.unlink(*tasks)
            raise
        return recorded

    def _record_run(
        self,
        submission: str,
        recorded: _RecordedTasks,
        options: RunOptions,
        user: str,
    ) -> None:
        """Record what is true of the run as a whole."""
        seconds, micros = self.redis.time()
        record: dict[str, str | int] = {
            "total": recorded.counts.total(),
            "max_parallel": options.max_parallel,
            "fail_fast": int(options.fail_fast),
            "priority": options.priority,
            "kind": options.kind,
            "user": user,
            "max_attempts": options.max_attempts,
            "queues": json.dumps(list(recorded.counts)),
            "created_ms": seconds * 1000 + micros // 1000,
            "lifetime_ms": int(options.keep_seconds * 1000),
        }
        if options.is_ordered:
            record["steps"] = json.dumps(recorded.queues)
        if recorded.max_wait_seconds < math.inf:
            record["max_wait_ms"] = int(recorded.max_wait_seconds * 1000)
        if recorded.have_tags:
            record["has_tags"] = 1
        if options.has_budget:
            record |= _budget(options)
        if options.requires:
            record["requires"] = json.dumps(options.requires.to_dict())
        self.redis.hset(key("submission", submission), mapping=record)
        self.redis.pexpire(key("submission", submission), SUBMITTING_MS)

    def _record(
        self, submission: str, chunk: Sequence[tuple[int, TaskSpec]], *, is_ordered: bool
    ) -> None:
        rows = (
            (index, spec.queue, spec.effective_max_attempts or "", spec.to_wire())
            for index, spec in chunk
        )
        self.call(
            "record",
            submission=submission,
            lifetime_ms=SUBMITTING_MS,
            is_ordered="1" if is_ordered else "",
            tasks=list(chain.from_iterable(rows)),
        )

    def submitted(self, submission_key: str) -> tuple[str, str] | None:
        """Return the run that a submitter's key stands for and its digest, if there is one."""
        entry = self.redis.get(key("submitted", self._own(submission_key)))
        if entry is None:
            return None
        run, digest = decoding.submitted(entry)
        return (run, digest) if self.summary(run) else None

    def _own(self, submission_key: str) -> str:
        """Return the key of a run under which a user who may only ask finds it: its own."""
        if submission_key and self.submitter is not None:
            return f"{self.submitter}:{submission_key}"
        return submission_key

    def cancel(self, run: str, reason: str) -> Canceled:
        """Cancel a run; the second time changes nothing."""
        return Canceled(*self.call("cancel", run=run, reason=reason))

    def aggregate(self, run: str) -> bool:
        """Close a run whose results are all in. Returns whether it is closed (idempotent)."""
        return bool(self.call("aggregate", run=run))

    def explain(self, run: str) -> Explanation | None:
        """Say what a run waits for; None if there is no such run."""
        answer = self.call("explain", run=run)
        if not answer:
            return None
        state, remaining, running, dispatched, pending, now_ms, requires = answer
        return Explanation(
            state=state.decode(),
            remaining=remaining,
            running={decoding.text(worker): count for worker, count in running},
            dispatched=dispatched,
            pending=[decoding.pending_reason(row) for row in pending],
            now_ms=int(now_ms),
            requires=decoding.requirements(requires),
        )

    # What happened.

    def wait_events(self, run: str, after: str, block_ms: int) -> tuple[str, list[dict[str, str]]]:
        """Wait for events of a run after a position ("0" is its beginning).

        Each event has `kind`, `position` and `at_ms`; `started`, `finished` and `lost` have
        `index` and `dispatch`. `block_ms` must stay below redis-py's socket timeout (5 s).
        """
        return self._read_stream(key("events", run), after, block_ms)

    def is_running(self, run: str) -> bool:
        """Whether tasks of a run may start."""
        state: bytes | None = self.redis.hget(key("run", run), "state")
        return state == b"running"

    def last_signal(self) -> str:
        """Return the position after the newest signal."""
        newest = self.redis.xrevrange(key("signals"), count=1)
        return newest[0][0].decode() if newest else "0"

    def wait_signals(self, after: str, block_ms: int) -> tuple[str, list[str]]:
        """Wait for runs to be canceled; returns the new position and the runs.

        Ends early as well where a submitter asks for something (`Requests.serve`).
        """
        requests = {key("requests", submitter): "0" for submitter in self.submitters}
        position, entries = self._read_stream(key("signals"), after, block_ms, requests)
        return position, [entry["canceled"] for entry in entries if "canceled" in entry]

    def _read_stream(
        self, name: str, after: str, block_ms: int, others: Mapping[str, str] | None = None
    ) -> tuple[str, list[dict[str, str]]]:
        """Wait for entries of a stream, or of `others`; returns those of the first."""
        answer = self.redis.xread({name: after, **(others or {})}, count=1000, block=block_ms)
        rows = answer.items() if isinstance(answer, dict) else answer
        found = {stream.decode(): entries for stream, entries in rows or ()}
        if name not in found:
            return after, []
        entries = found[name][0] if isinstance(answer, dict) else found[name]
        events = []
        for position, fields in entries:
            event = {decoding.text(name): decoding.text(value) for name, value in fields.items()}
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
        wires = self.redis.hmget(key("results", run), [str(index) for index in indexes])
        for index, wire in zip(indexes, wires, strict=True):
            yield None if wire is None else self._load_large(run, decoding.result(index, wire))

    def ended_by_budget(self, run: str) -> bool:
        """Whether a run was canceled because it came to a budget, its own or one of the day."""
        reason = self.redis.hget(key("run", run), "cancel_reason")
        return decoding.text(reason or b"") in BUDGET_REASONS

    def never_ended(self, run: str, indexes: Sequence[int]) -> Iterator[TaskResult]:
        """Make the results of tasks that have none in a canceled run that is done.

        Most never started. Of those that were put back, or lost their worker, it says so.
        """
        if not indexes:
            return
        fields = [str(index) for index in indexes]
        with self.redis.pipeline(transaction=False) as pipeline:
            for kind in ("tries", "history", "worker_losses"):
                pipeline.hmget(key(kind, run), fields)
            pipeline.hget(key("run", run), "cancel_reason")
            *answers, reason = all_but_wrong_types(pipeline)
        nothing = [None] * len(fields)
        found = [nothing if isinstance(answer, Exception) else answer for answer in answers]
        for index, *entries in zip(indexes, *found, strict=True):
            is_over_budget = decoding.text(reason or b"") in BUDGET_REASONS
            yield decoding.never_ended(index, *entries, is_over_budget=is_over_budget)

    def _load_large(self, run: str, result: TaskResult) -> TaskResult:
        if (changes := result.changes) and 0 < changes.patch_bytes <= MOST_PATCH_BYTES:
            result = replace(result, changes=self.load_part(run, changes, "patch"))
        if result.output_blob is None:
            return result
        output = self._blob(run, result.output_blob)
        if output is None:
            note = [*result.warnings, "the output is no longer there"]
            return replace(result, output="", output_blob=None, warnings=note)
        return replace(result, output=output.decode("utf-8", "replace"), output_blob=None)

    def load_part(self, run: str, changes: Changes, part: Part) -> Changes:
        """Read a large part of a task's changes; it stays None where it is no longer there."""
        if part not in changes.blobs:
            return changes
        blobs = dict(changes.blobs)
        content = self._blob(run, blobs.pop(part))
        text = None if content is None else content.decode("utf-8", "surrogateescape")
        return changes.with_part(part, text, blobs)

    def _blob(self, run: str, name: str) -> bytes | None:
        try:
            found: bytes | None = self.redis.get(key("blob", run, name))
        except redis.ResponseError as error:
            if is_transient(error):
                raise
            return None  # something else is stored there
        return found

    def specs(self, run: str, indexes: Sequence[int]) -> list[TaskSpec | None]:
        """Read the specs of some tasks, in this order; None where one has expired.

        `decoding.UNREADABLE` stands for one that cannot be read.
        """
        if not indexes:
            return []
        found = self.redis.hmget(key("specs", run), [str(index) for index in indexes])
        specs = [None if wire is None else decoding.spec(wire) for wire in found]
        names = {spec.shared_schema for spec in specs if spec is not None and spec.shared_schema}
        schemas = self.schemas(run, names) if names else {}
        return [spec and spec.with_schema(schemas) for spec in specs]

    def runs(self, limit: int, on_unreadable: OnUnreadable = ignore) -> list[RunSummary]:
        """Return the newest runs, newest first; a fixed cost for each.

        One whose record cannot be read is left out, and told to `on_unreadable`.
        """
        names = [decoding.text(name) for name in self.redis.zrevrange(key("runs"), 0, limit - 1)]
        with self.redis.pipeline(transaction=False) as pipeline:
            for name in names:
                _read_summary(pipeline, name)
            answers = iter(all_but_wrong_types(pipeline))
        found = []
        for name, *parts in zip(names, answers, answers, answers, strict=True):
            try:
                found.append(decoding.summary(name, *parts))
            except WireError as error:
                on_unreadable(str(error))
        return [summary for summary in found if summary is not None]

    def summary(self, run: str) -> RunSummary | None:
        """Read a run's counts and times; None if there is no such run.

        Raises:
            WireError: its record cannot be read.
        """
        with self.redis.pipeline(transaction=False) as pipeline:
            _read_summary(pipeline, run)
            return decoding.summary(run, *all_but_wrong_types(pipeline))


def _read_summary(pipeline: Any, run: str) -> None:
    """Ask for what `decoding.summary` takes."""
    pipeline.hgetall(key("run", run))
    pipeline.hvals(key("in_flight", run))
    pipeline.hmget(key("reserved", run), "cost", "tokens")


def _budget(options: RunOptions) -> dict[str, str | int]:
    """Return what a run's record says of its budget."""
    given = {
        "max_cost": options.max_micro_usd,
        "max_tokens": options.max_total_tokens,
        "on_budget": options.on_budget,
        "allow_unknown": int(options.allow_unknown_cost),
        "estimate_cost": options.estimate_micro_usd,
        "estimate_tokens": options.estimate_tokens,
    }
    return {name: value for name, value in given.items() if value is not None}


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
