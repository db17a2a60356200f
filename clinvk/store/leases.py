"""Leases: who may run a task and record its result, and what becomes of those who vanished."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

from clinvk.core.changes import PARTS, Changes
from clinvk.core.spec import ErrorKind, TaskResult, TaskStatus
from clinvk.store import decoding, failure_detector
from clinvk.store.connection import Connection
from clinvk.store.failure_detector import LEASE_MS
from clinvk.store.keys import key
from clinvk.store.types import (
    Canceled,
    Claim,
    ExhaustedTask,
    ExpiredWait,
    Held,
    Hold,
    Lease,
    Reaped,
    Recorded,
    Renewed,
    Repair,
    used,
)

CLAIM_TIMEOUT_MS = 15_000
"""How long a published task may go unclaimed before it is published again. Admission dispatches
only what free slots can take, so a claim follows at once unless its worker has died."""
INLINE_BYTES = 1 << 16
"""Outputs over this get a key of their own, so that pages of results stay small."""
LIVENESS_MS = 3_600_000
"""How long it is remembered which connection a worker process had."""
COMPLETE_AFTER_MS = 2000
"""How long a complete run waits for its chord's body before the reaper aggregates it."""
AUDIT_INTERVAL_MS = 5000
"""How long after its last audit a run is audited again, by whoever comes first."""
AUDIT_LIMIT = 20
REAP_LIMIT = 1000
WAITS_LIMIT = 500
SERVED = frozenset({ErrorKind.REFUSED, ErrorKind.TOO_LARGE})
"""How a task can fail although its provider served it."""


def signal_of(result: TaskResult) -> str:
    """Return what the end of a task says of its provider's limits, see lua/lib/gates.lua."""
    if result.reused is not None:
        return ""
    if result.status is TaskStatus.OK or result.error_kind in SERVED:
        return "clean"
    return "frozen" if result.error_kind in {ErrorKind.TIMEOUT, ErrorKind.OVERLOADED} else ""


class Leases(Connection):
    """The operations on leases."""

    def claim(self, lease: Lease, owner: str, nonce: str) -> Claim:
        """Ask to run a task that was dispatched, as a worker's first act.

        `owner` is the worker process, "<worker>/<token>"; `nonce` is one for each message, so
        that the same question may be asked again when its answer was lost.
        """
        verdict, *rest = self.call(
            "claim", **lease.arguments(), owner=owner, nonce=nonce, lease_ms=LEASE_MS
        )
        return decoding.claim(verdict, rest)

    def renew(self, owner: str, connection: str, leases: Iterable[Lease]) -> Renewed:
        """Renew these leases and remember the owner's liveness connection."""
        stop, now_ms = self.call(
            "renew",
            owner=owner,
            connection=connection,
            connection_ms=LIVENESS_MS,
            lease_ms=LEASE_MS,
            leases=[str(lease) for lease in leases],
        )
        return Renewed([Lease.parse(name.decode()) for name in stop], int(now_ms))

    def release(self, owner: str, *leases: Lease) -> int:
        """Say that nothing runs any more under these leases, or under any that an owner has."""
        names = [str(lease) for lease in leases]
        return int(self.call("release", owner=owner, leases=names))

    def disown(self, run: str) -> int:
        """Say that nothing of a run runs anywhere; returns how many of its tasks were in flight.

        `reap` dispatches them again. Only for a run of which no worker is left.
        """
        return int(self.call("disown", run=run))

    def finish(self, lease: Lease, result: TaskResult, queues: Iterable[str] = ()) -> Recorded:
        """Record a result, unless another dispatch has the task by now.

        Takes a message out of the first of these queues that has one: those that the worker
        serves, whose slot is free with this. Where the answer is lost, so is the message, and
        the reaper publishes it again (`CLAIM_TIMEOUT_MS`).
        """
        result = self._store_large(lease, result)
        recorded, is_last, unpublished, published, admission, message = self.call(
            "finish",
            **lease.arguments(),
            status=result.status.value,
            signal=signal_of(result),
            result=result.to_wire(),
            **used(result),
            claim_timeout_ms=CLAIM_TIMEOUT_MS,
            queues=list(queues),
        )
        return Recorded(
            bool(recorded),
            bool(is_last),
            Canceled(unpublished, published),
            decoding.admission(admission),
            (message[0].decode(), message[1]) if message else None,
        )

    def hold(self, lease: Lease, hold: Hold) -> Held:
        """Put a task back that met a limit, or is worth another try; see lua/hold.lua."""
        verdict, waited_ms, until_ms, rejections, retries, queue, admission = self.call(
            "hold",
            **lease.arguments(),
            **hold.arguments(),
            claim_timeout_ms=CLAIM_TIMEOUT_MS,
        )
        return Held(
            verdict.decode(),
            int(waited_ms),
            int(until_ms),
            int(rejections),
            int(retries),
            queue.decode(),
            decoding.admission(admission),
        )

    def slow_down(self, lease: Lease, kind: str, worker: str) -> bool:
        """Let a queue's gate know that a running task met a burst limit, and tries again itself.

        Returns whether this dispatch of the task is running.
        """
        told = self.call("slow_down", **lease.arguments(), kind=kind, worker=worker)
        return bool(told)

    def expired_waits(self) -> list[ExpiredWait]:
        """Find tasks that limits would hold up for longer than they may."""
        rows = self.call("expired_waits", limit=WAITS_LIMIT)
        return [decoding.expired_wait(row) for row in rows]

    def history(self, lease: Lease) -> bytes:
        """Read what earlier executions of a task left for the next one (`Hold.history`)."""
        found: bytes | None = self.redis.hget(key("history", lease.run), str(lease.index))
        return found or b""

    def _store_large(self, lease: Lease, result: TaskResult) -> TaskResult:
        if result.changes is not None:
            result = replace(result, changes=self._store_parts(lease, result.changes))
        if result.output is None or len(result.output) <= INLINE_BYTES // 4:
            return result
        output = result.output.encode("utf-8", "replace")
        if len(output) <= INLINE_BYTES:
            return result
        return replace(result, output=None, output_blob=self._store_blob(lease, "", output))

    def _store_parts(self, lease: Lease, changes: Changes) -> Changes:
        """Store the parts of changes that are too large for a result."""
        for part in PARTS:
            text: str | None = getattr(changes, part)
            if text is not None and len(text) > INLINE_BYTES:
                content = text.encode("utf-8", "surrogateescape")
                blobs = {**changes.blobs, part: self._store_blob(lease, f"-{part}", content)}
                changes = changes.with_part(part, None, blobs)
        return changes

    def _store_blob(self, lease: Lease, what: str, content: bytes) -> str:
        # Named after the dispatch: what a refused one has stored is never read, and expires.
        name = f"{lease.index}-{lease.dispatch}{what}"
        lifetime_ms = int(self.redis.hget(key("run", lease.run), "lifetime_ms") or 0)
        if lifetime_ms:
            with self.redis.pipeline(transaction=False) as pipeline:
                pipeline.set(key("blob", lease.run, name), content, px=2 * lifetime_ms)
                pipeline.sadd(key("blobs", lease.run), name)
                pipeline.pexpire(key("blobs", lease.run), 2 * lifetime_ms)
                pipeline.execute()
        return name

    def reap(self) -> Reaped:
        """Find lost tasks and dispatch them again; audit runs."""
        rows, admission, complete, repaired, failed, is_any_closed = self.call(
            "reap",
            limit=REAP_LIMIT,
            complete_after_ms=COMPLETE_AFTER_MS,
            claim_timeout_ms=CLAIM_TIMEOUT_MS,
            audit_interval_ms=AUDIT_INTERVAL_MS,
            audit_limit=AUDIT_LIMIT,
        )
        reasons = self._loss_reasons(rows) if rows else {}
        exhausted: list[tuple[bytes, int]] = []
        failures = [*decoding.failures(failed), *decoding.admission(admission).failures]
        if reasons:
            exhausted, admission, more = self.call(
                "lose", claim_timeout_ms=CLAIM_TIMEOUT_MS, losses=list(chain(*reasons.items()))
            )
            failures += [*decoding.failures(more), *decoding.admission(admission).failures]
        return Reaped(
            [
                ExhaustedTask(Lease.parse(name.decode()), reasons[name.decode()], losses)
                for name, losses in exhausted
            ],
            decoding.admission(admission),
            [run.decode() for run in complete],
            [Repair(run.decode(), what.decode("utf-8", "replace")) for run, what in repaired],
            failures,
            is_any_closed == 1,
        )

    def _loss_reasons(self, rows: Iterable[Any]) -> dict[str, str]:
        """Return the leases that are lost, each with the reason."""
        server = self.server()
        found = [decoding.overdue(row) for row in rows]
        reasons = {each.lease: failure_detector.loss_reason(each, server) for each in found}
        return {lease: reason for lease, reason in reasons.items() if reason}
