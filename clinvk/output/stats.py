"""The times, tokens and costs of a run's tasks as percentiles, and what limited the run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from clinvk.core.spec import RunSummary
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.output.step_lines import short
from clinvk.output.tables import columns
from clinvk.runs.stats import Reason, RunStats, TaskStats

PERCENTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
MEASURES: Mapping[str, Callable[[TaskStats], float | None]] = {
    "waiting_seconds": lambda task: task.waiting_seconds,
    "running_seconds": lambda task: task.running_seconds,
    "tokens": lambda task: task.tokens,
    "cost_usd": lambda task: task.cost_usd,
}
TOLD: Mapping[Reason, str] = {
    Reason.START: "no task was begun yet",
    Reason.ORDER: "the steps of a chain run one after another",
    Reason.LONG_TASK: "only one task was left, and ran",
    Reason.TASKS: "all that was left ran at once",
    Reason.MAX_PARALLEL: "no more than {} tasks of the run at once (--max-parallel)",
    Reason.LIMITS: "what waited was held by limits of providers, or to be tried again",
    Reason.QUEUE_LIMIT: "limits of queues (clinvk queues)",
    Reason.SLOTS: "no worker had a free slot (clinvk workers), or the queue began slowly",
}


def document(summary: RunSummary, found: RunStats) -> dict[str, Any]:
    """Return the JSON document; a measure of which nothing is known is left out."""
    whole_ms = sum(found.limited_ms.values())
    end = {"end_time": rfc3339_from_ms(summary.ended_ms)} if summary.ended_ms else {}
    last = {} if found.last_index is None else {"last_task_index": found.last_index}
    return {
        "run_id": summary.run_id,
        "kind": summary.kind,
        "state": summary.state,
        "total_tasks": summary.total,
        "begun_tasks": len(found.tasks),
        "max_parallel": summary.max_parallel,
        "start_time": rfc3339_from_ms(summary.created_ms),
        **end,
        **last,
        "limited_by": [
            {
                "reason": reason.value,
                "seconds": limited_ms / 1000,
                "share": round(limited_ms / whole_ms, 4),
            }
            for reason, limited_ms in found.limited_ms.items()
        ],
        **_percentiles(found.tasks),
        "backends": list(_groups("backend", found.tasks)),
        "workers": list(_groups("worker", found.tasks)),
    }


def _groups(name: str, tasks: Sequence[TaskStats]) -> Iterator[dict[str, Any]]:
    groups = defaultdict[str, list[TaskStats]](list)
    for task in tasks:
        groups[getattr(task, name)].append(task)
    for value, members in sorted(groups.items()):
        yield {name: value, "tasks": len(members), **_percentiles(members)}


def _percentiles(tasks: Sequence[TaskStats]) -> dict[str, dict[str, float]]:
    """Return the percentiles of each measure, by nearest rank: each is the value of a task."""
    found = {}
    for name, measure in MEASURES.items():
        values = sorted(value for value in map(measure, tasks) if value is not None)
        if values:
            found[name] = {
                label: values[math.ceil(share * len(values) - 1e-9) - 1]
                for label, share in PERCENTILES.items()
            }
    return found


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the document as text."""
    kind, state, total = document["kind"], document["state"], document["total_tasks"]
    yield f"{document['run_id']}: {kind}, {state}, {document['begun_tasks']} of {total} tasks begun"
    groups = [
        ("all", document),
        *((group["backend"], group) for group in document["backends"]),
        *((f"worker {group['worker']}", group) for group in document["workers"]),
    ]
    rows = [
        (name.removesuffix("_seconds").removesuffix("_usd"), label, *_cells(name, group[name]))
        for name in MEASURES
        for label, group in groups
        if name in group
    ]
    if rows:
        yield ""
        yield from columns(("", "", *(label.upper() for label in PERCENTILES)), rows)
    if document["limited_by"]:
        yield ""
        yield "Limited by"
    for entry in document["limited_by"]:
        reason = Reason(entry["reason"])
        told = TOLD[reason].format(document["max_parallel"])
        if reason is Reason.LONG_TASK and "last_task_index" in document:
            told += f": [{document['last_task_index'] + 1}]"
        yield f"{entry['share']:>4.0%} {entry['seconds']:>9.2f}s  {reason}: {told}"


def _cells(measure: str, values: Mapping[str, float]) -> Iterator[str]:
    for value in values.values():
        match measure:
            case "tokens":
                yield short(int(value))
            case "cost_usd":
                yield f"${value:,.{4 if 0 < value < 0.01 else 2}f}"
            case _:
                yield f"{value:.2f}s"
