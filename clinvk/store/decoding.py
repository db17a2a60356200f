"""From the answers of scripts to the types of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clinvk.core.spec import RunSummary
from clinvk.store.failure_detector import Overdue
from clinvk.store.types import Admission, Dispatched, RunFailure


def admission(answer: Sequence[Any]) -> Admission:
    """Decode an admission."""
    rows, retry_after_ms, failed = answer
    dispatched = [
        Dispatched(run.decode(), index, dispatch, queue.decode())
        for run, index, dispatch, queue in rows
    ]
    return Admission(dispatched, retry_after_ms, failures(failed))


def failures(rows: Sequence[Any]) -> list[RunFailure]:
    """Decode pairs of a run and an error."""
    return [RunFailure(run.decode(), error.decode("utf-8", "replace")) for run, error in rows]


def overdue(row: Sequence[Any]) -> Overdue:
    """Decode a lease that ran out."""
    lease, state, owner, connection, over_ms = row
    return Overdue(
        lease.decode(),
        state == b"r",
        owner.decode(),
        connection.decode(),
        None if over_ms < 0 else over_ms,
    )


def summary(
    run: str, fields: Mapping[bytes, bytes], in_flight: Sequence[bytes]
) -> RunSummary | None:
    """Decode a run's record, and its entries of tasks in flight; None where there is no run."""
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
        in_flight=len(in_flight),
        running=sum(entry.split(b":", 2)[1] == b"r" for entry in in_flight),
    )
