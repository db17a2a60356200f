"""Runs, queues and workers as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from clinvk.core.checks import Check
from clinvk.core.limit_words import limit_name, when
from clinvk.core.prices import MICROS
from clinvk.core.sanitize import one_line
from clinvk.core.spec import RunSummary, backend_of
from clinvk.core.spending import Spending
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.output.money import usd
from clinvk.output.step_lines import short

if TYPE_CHECKING:  # importing it would load redis-py
    from clinvk.store.types import Gate, QueueState


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield lines of which each column is as wide as its widest cell."""
    table = [list(head), *([one_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(cell_len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        yield "  ".join(map(set_cell_size, row, widths)).rstrip()


def workers(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the workers with their slots, queues, tags, version and CLIs."""
    yield from columns(
        ("WORKER", "SLOTS", "QUEUES", "TAGS", "VERSION", "SANDBOX", "CLIS"),
        (
            (
                name,
                entry["slots"],
                ",".join(backend_of(queue) for queue in entry["queues"]),
                ",".join(entry.get("tags", [])),
                entry.get("version", ""),
                _sandbox(entry.get("sandbox")),
                ", ".join(f"{k} {v}" for k, v in entry.get("clis", {}).items() if v),
            )
            for name, entry in sorted(found.items())
        ),
    )


def _sandbox(announced: Any) -> str:
    """Return what enforces sandbox modes on a worker; workers of local mode do not say."""
    return str(announced.get("by", "")) if isinstance(announced, dict) else ""


def checks(places: Mapping[str, Sequence[Check]]) -> Iterator[str]:
    """Yield what was found at each place, with what to do below each line that is not well."""
    everywhere = [check for found in places.values() for check in found]
    cells = max((len(check.name) for check in everywhere), default=0)
    for place, found in places.items():
        if len(places) > 1 and found:
            yield f"{one_line(place)}:"
        for check in found:
            head = f"{check.state:<8} {one_line(check.name):<{cells}} "
            yield f"{head} {one_line(check.detail)}".rstrip()
            if check.hint:
                yield f"{'':{len(head)}} -> {one_line(check.hint)}"


def queues(found: Sequence[QueueState]) -> Iterator[str]:
    """Yield the queues with their limits and counts of tasks, and the limits of single models."""
    yield from columns(
        ("QUEUE", "LIMIT", "IN FORCE", "RATE", "RUNNING", "WAITING", "SLOTS", "STATE"),
        (row for queue in found for row in _queue_rows(queue)),
    )


def _queue_rows(queue: QueueState) -> Iterator[tuple[object, ...]]:
    name = backend_of(queue.name)
    in_force = queue.limit_in_force
    yield (
        name,
        queue.max_concurrency or "-",
        "-" if in_force is None else in_force,
        queue.rate or "-",
        queue.running,
        _waiting(queue),
        queue.slots,
        _state(queue),
    )
    for gate in queue.gates:
        if gate.model and gate.closed_until_ms is not None:
            in_force = gate.limit_at(queue.now_ms)
            state = _closed(gate, queue)
            yield (f"{name}:{gate.model}", "-", in_force, "-", "-", "-", "-", state)


def _state(queue: QueueState) -> str:
    if queue.is_paused_now:
        until_ms = queue.paused_until_ms
        return f"paused until {when(until_ms)}" if until_ms else "paused"
    gate = queue.gate
    return "open" if gate is None or gate.closed_until_ms is None else _closed(gate, queue)


def _closed(gate: Gate, queue: QueueState) -> str:
    """Return what is said of a gate that is closed, or whose limit one task tries."""
    until_ms = gate.closed_until_ms or 0
    is_closed = gate.is_closed(queue.now_ms)
    state = f"closed until {when(until_ms)}" if is_closed else "open, one task tries"
    return f"{state}, {_because(gate, queue)}"


def _because(gate: Gate, queue: QueueState) -> str:
    worker = f", from worker {gate.worker}" if gate.worker else ""
    return f"{limit_name(gate.kind)} of {backend_of(queue.name)}{worker}"


def queues_document(found: Sequence[QueueState]) -> list[dict[str, Any]]:
    """Return the queues for a JSON document."""
    return [
        {
            "queue": backend_of(queue.name),
            "max_concurrency": queue.max_concurrency,
            "rate": queue.rate,
            "paused": queue.is_paused_now,
            "running": queue.running,
            "waiting": _waiting(queue),
            "slots": queue.slots,
            "limit_in_force": queue.limit_in_force,
            **_closing(queue.gate, queue, is_paused=queue.is_paused_now),
            "models": {gate.model: _closing(gate, queue) for gate in queue.gates if gate.model},
        }
        for queue in found
    ]


def _closing(gate: Gate | None, queue: QueueState, *, is_paused: bool = False) -> dict[str, Any]:
    """Return whether a queue, or a model of it, is open, until when not, and why."""
    state, until_ms, why = "open", None, None
    if is_paused:
        state, until_ms = "paused", queue.paused_until_ms
    elif gate is not None and gate.is_closed(queue.now_ms):
        state, until_ms, why = "closed", gate.closed_until_ms, _because(gate, queue)
    return {
        "state": state,
        "closed_until": rfc3339_from_ms(until_ms) if until_ms else None,
        "closed_because": why,
    }


def _waiting(queue: QueueState) -> int:
    """Return how many tasks no worker has claimed yet: as in `status`, all that do not run."""
    # The counts are read one after another, so that a claim may come in between.
    return queue.waiting + max(0, queue.in_flight - queue.running)


def runs(found: Sequence[RunSummary]) -> Iterator[str]:
    """Yield the runs with their state and counts of tasks."""
    yield from columns(
        ("RUN", "KIND", "STATE", "TASKS", "OK", "FAILED", "CANCELED", "RUNNING", "SUBMITTED"),
        (
            (
                run.run_id,
                run.kind,
                run.state,
                run.total,
                run.ok,
                run.failed + run.timeout + run.lost,
                run.canceled,
                run.running,
                rfc3339_from_ms(run.created_ms),
            )
            for run in found
        ),
    )


def costs(by: str, sums: Mapping[str, Spending], total: Spending) -> Iterator[str]:
    """Yield what was spent under each name, and in all; nothing where nothing was."""
    if not sums:
        yield "nothing was spent"
        return
    rows = [*((name or "(none)", each) for name, each in sums.items()), ("total", total)]
    yield from columns(
        (by.upper(), "COST", "ESTIMATED", "TOKENS", "EXECUTIONS", "UNKNOWN"),
        (
            (
                name,
                usd(each),
                f"~${each.estimated_micro_usd / MICROS:,.2f}" if each.estimated_micro_usd else "-",
                short(each.total_tokens),
                each.executions,
                each.unknown or "-",
            )
            for name, each in rows
        ),
    )


def status(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of a run's state, a line each; those of an object as `object.name`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from status({f"{name}.{inner}": part for inner, part in value.items()})
            continue
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{name}: {one_line(shown)}"
