"""From the answers of scripts to the types of this package."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from annotated_types import Ge

from clinvk.core import limit_waits, wire_checks
from clinvk.core.errors import WireError
from clinvk.core.history import History
from clinvk.core.requirements import NOTHING, Requirements
from clinvk.core.spec import RunSummary, TaskResult, TaskSpec, Try
from clinvk.core.spending import Spending
from clinvk.store.failure_detector import Overdue
from clinvk.store.types import (
    Admission,
    Claim,
    Dispatched,
    ExpiredWait,
    Gate,
    Lease,
    LedgerRow,
    PendingReason,
    QueueState,
    RunFailure,
)


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


def claim(verdict: bytes, rest: Sequence[Any]) -> Claim:
    """Decode the answer to a claim."""
    if not rest:
        return Claim(text(verdict))
    spec, attempts, queue, model, waited_ms, rejections, retries, history, earlier, left = rest
    return Claim(
        text(verdict),
        spec,
        attempts,
        text(queue),
        text(model),
        int(waited_ms),
        rejections,
        retries,
        history,
        earlier,
        int(left) if left else None,
    )


def expired_wait(row: Sequence[Any]) -> ExpiredWait:
    """Decode a task that waited for too long."""
    lease, kind, worker, retry_at_ms, until_ms, waited_ms, rejections, queue, model = row
    return ExpiredWait(
        Lease.parse(text(lease)),
        text(kind),
        text(worker),
        int(retry_at_ms) or None,
        int(until_ms),
        int(waited_ms),
        rejections,
        text(queue),
        text(model),
    )


def pending_reason(row: Sequence[Any]) -> PendingReason:
    """Decode why tasks of a queue wait."""
    queue, model, count, reason, until_ms, kind, worker = row
    return PendingReason(
        text(queue),
        int(count),
        text(reason),
        text(model),
        min(int(until_ms), LATEST_MS) or None,
        text(kind),
        text(worker),
    )


def requirements(text: bytes) -> Requirements:
    """Decode what a run requires; what cannot be read is shown as nothing."""
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        return Requirements.of(json.loads(text or b"{}"))
    return NOTHING


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


def text(value: bytes) -> str:
    """Decode a name or another text; what is not UTF-8 is replaced."""
    return value.decode("utf-8", "replace")


UNREADABLE = TaskSpec(backend="unknown", prompt="(unreadable)", name="(unreadable)")
"""Stands for a task whose spec cannot be read, so that the others keep their places."""


def spec(wire: bytes) -> TaskSpec:
    """Decode a task for whoever shows it."""
    try:
        return TaskSpec.from_wire(wire)
    except WireError:
        return UNREADABLE


def result(index: int, wire: bytes) -> TaskResult:
    """Decode the result of a task; where that is not possible, the result says so."""
    try:
        found = TaskResult.from_wire(wire)
    except WireError as error:
        return TaskResult.unknown(index, f"its result cannot be read: {error}")
    if found.index != index:
        return TaskResult.unknown(index, "its result cannot be read: it is another task's")
    return found


def earlier(index: int, entry: bytes) -> TaskResult | None:
    """Decode the result that a retry took away, with the backend that was asked; None for none."""
    if not entry:
        return None
    backend, _, wire = entry.partition(b":")
    found = result(index, wire)
    return found if found.backend else replace(found, backend=text(backend))


def never_ended(
    index: int,
    tries: bytes | None,
    history: bytes | None,
    losses: bytes | None,
    *,
    is_over_budget: bool = False,
) -> TaskResult:
    """Make the result of a task that a canceled run never ended, of how it was tried.

    `is_over_budget`: a budget kept it from starting, or from being tried again.
    """
    found = _never_ended(index, tries, history, losses)
    if not is_over_budget:
        return found
    if not found.attempts:
        return TaskResult.never_started(index, is_over_budget=True)
    return found.at_budget()


def _never_ended(
    index: int, tries: bytes | None, history: bytes | None, losses: bytes | None
) -> TaskResult:
    tried = list[Try]()
    with suppress(WireError):
        tried = History.read(history or b"").tried
    lost = _count(losses)
    if not tried and not lost:
        return TaskResult.never_started(index)
    with suppress(ValueError, RecursionError):
        told = json.loads(tries or b"{}")
        if isinstance(told, dict):
            waited_ms, rejections = _count(told.get("waited_ms")), _count(told.get("rejections"))
            result = TaskResult.not_tried_again(index, tried, lost)
            return limit_waits.told(result, waited_ms, rejections)
    return TaskResult.not_tried_again(index, tried, lost)


def _count(value: Any) -> int:
    """Read a count that anyone may have written; 0 where it is none."""
    try:
        return _between(0, value or 0, LATEST_MS)
    except (ValueError, TypeError, OverflowError):
        return 0


LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that can be shown."""
MOST_TASKS = 1 << 31
MOST_AMOUNT = 1 << 53


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn what goes wrong with a record that anyone may have written into a `WireError`."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise WireError(f"the record of {what} cannot be read: {why}") from error


def _between(least: int, value: bytes | str | float, most: int) -> int:
    number = int(value)
    if not least <= number <= most:
        raise ValueError(f"{str(number)[:40]} is out of range")
    return number


def summary(
    run: str,
    fields: Mapping[bytes, bytes],
    in_flight: Sequence[bytes],
    reserved: Sequence[bytes | None] = (None, None),
) -> RunSummary | None:
    """Decode a run's record, and its entries of tasks in flight; None where there is no run.

    `reserved` is what these have reserved of budgets: the cost, and tokens.

    Raises:
        WireError: it cannot be read.
    """
    with _reading(f"run {run}"):
        record = {text(name): text(value) for name, value in _mapping(fields).items()}
        if "total" not in record:
            return None
        counters = ("total", "ok", "failed", "canceled", "timeout", "lost")
        ended_ms = record.get("ended_ms")
        cost, tokens = (_between(0, amount or 0, MOST_AMOUNT) for amount in _list(reserved))
        return RunSummary(
            run_id=run,
            **{name: _between(0, record.get(name, "0"), MOST_TASKS) for name in counters},
            created_ms=_between(0, record.get("created_ms", "0"), LATEST_MS),
            kind=record.get("kind", "parallel"),
            state=record["state"],
            max_parallel=_between(1, record["max_parallel"], MOST_TASKS),
            fail_fast=record["fail_fast"] == "1",
            ended_ms=_between(0, ended_ms, LATEST_MS) if ended_ms else None,
            cancel_reason=record.get("cancel_reason"),
            user=record.get("user", ""),
            retries=_between(0, record.get("retries", "0"), MOST_TASKS),
            idle_ms=_between(0, record.get("idle_ms", "0"), LATEST_MS),
            budget_of=record.get("budget_of"),
            unpriced=record.get("unpriced"),
            requires=Requirements.of(json.loads(record.get("requires", "{}"))).to_dict(),
            **_amounts(record),
            reserved_micro_usd=cost,
            reserved_tokens=tokens,
            in_flight=len(in_flight),
            running=sum(entry.split(b":", 2)[1] == b"r" for entry in in_flight),
        )


BUDGET_FIELDS = {
    "max_cost": "max_micro_usd",
    "max_tokens": "max_total_tokens",
    "spent_cost": "spent_micro_usd",
    "spent_tokens": "spent_tokens",
    "assumed_cost": "assumed_micro_usd",
    "assumed_tokens": "assumed_tokens",
}
"""Amounts in a run's record, and in its summary."""


def _amounts(record: Mapping[str, str]) -> dict[str, Any]:
    """Decode the amounts of a run's budget."""
    return {
        BUDGET_FIELDS[name]: _between(0, value, MOST_AMOUNT)
        for name, value in record.items()
        if name in BUDGET_FIELDS
    }


def _mapping(answer: Any) -> Mapping[Any, Any]:
    """Return the answer to HGETALL; an error stands for a key of another type."""
    if not isinstance(answer, Mapping):
        raise TypeError(str(answer))
    return answer


def _list(answer: Any) -> Sequence[Any]:
    """Return the answer to HMGET; an error stands for a key of another type."""
    if not isinstance(answer, Sequence):
        raise TypeError(str(answer))
    return answer


def submitted(entry: bytes) -> tuple[str, str]:
    """Decode which run a submitter's key stands for, and the digest of its tasks.

    Raises:
        WireError: it cannot be read.
    """
    with _reading("a run's key"):
        fields = json.loads(entry)
        return str(fields["run"]), str(fields["digest"])


def worker(name: str, entry: bytes) -> dict[str, Any]:
    """Decode what a worker announced. What is needed of it has its type.

    Raises:
        WireError: it cannot be read.
    """
    with _reading(f"worker {name}"):
        fields = json.loads(entry)
        needed = {key: fields[key] for key in ("slots", "queues")}
        shown = {key: fields[key] for key in ("version", "clis", "tags") if key in fields}
        for _, wrong in wire_checks.problems(_WorkerEntry, needed | shown):
            raise ValueError(wrong)
        return dict(fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkerEntry:
    """What is relied upon in a worker's entry, as its type."""

    slots: Annotated[int, Ge(0)]
    queues: list[str]
    version: str | None = None
    clis: dict[str, str | None] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)


def queue(
    name: str,
    fields: Mapping[bytes, bytes],
    in_flight: Any,
    slots: Any,
    claimed: int,
    now_ms: int = 0,
) -> QueueState:
    """Decode a queue's limits and counts.

    Raises:
        WireError: they cannot be read.
    """
    with _reading(f"queue {name}"):
        state = {text(field): value for field, value in fields.items()}
        until_ms = state.get("paused_until")
        return QueueState(
            name=name,
            max_concurrency=int(state["max_concurrency"]) if "max_concurrency" in state else None,
            rate=text(state["rate"]) if "rate" in state else None,
            is_paused=state.get("paused") == b"1",
            paused_until_ms=_between(0, until_ms, LATEST_MS) if until_ms else None,
            now_ms=now_ms,
            running=claimed,
            in_flight=int(in_flight),
            waiting=int(state.get("waiting") or 0),
            slots=int(slots or 0),
            gates=[
                _gate(field.partition(":")[2], value)
                for field, value in sorted(state.items())
                if field == "gate" or field.startswith("gate:")
            ],
        )


def _gate(model: str, value: bytes) -> Gate:
    fields = json.loads(value)
    return Gate(
        model=model,
        closed_until_ms=_time(fields.get("closed_until")),
        retry_at_ms=_time(fields.get("retry_at")),
        kind=str(fields.get("kind") or ""),
        worker=str(fields.get("worker") or ""),
        limit=_number(fields.get("limit")),
    )


def _time(value: Any) -> int | None:
    return None if value is None else _between(0, value, LATEST_MS)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def ledger_row(run: str, labels: bytes, sums: bytes) -> LedgerRow | None:
    """Decode a row; None for one that cannot be read, which anybody may have written."""
    try:
        day, submitter, backend, model, *tags = json.loads(text(labels))
        spending = Spending.parse(text(sums))
        return LedgerRow(
            run=run,
            day=int(day),
            key=str(submitter),
            backend=str(backend),
            model=str(model),
            tags=tuple(map(str, tags)),
            spending=spending,
        )
    except (ValueError, TypeError, RecursionError):
        return None
