"""The parts of JSON documents; scripts rely on their shape.

A document with an entry per task is written piece by piece, so that it is never whole in memory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from clinvk.core.spec import GIVEN_BY_RUN, RunSummary, TaskResult, TaskSpec, TaskStatus
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.runs.report import Report


def head(report: Report) -> dict[str, Any]:
    """Return what the document of a run has before its results."""
    completed, failed, canceled = report.counts()
    return {
        "run_id": report.run_id,
        "total_tasks": len(report.results),
        "completed": completed,
        "failed": failed,
        "canceled": canceled,
        "total_duration_seconds": report.duration_seconds,
        "start_time": rfc3339_from_ms(report.started_ms),
        "end_time": rfc3339_from_ms(report.ended_ms),
    }


def listing(head: dict[str, Any], name: str, entries: Iterable[Any]) -> Iterator[str]:
    """Yield the text that `dump` gives for a document which ends with a list, entry by entry."""
    yield dump({**head, name: []}).removesuffix("]\n}\n")
    separator, end = "\n", "]\n}\n"
    for item in entries:
        lines = dump(item).rstrip("\n").split("\n")
        yield separator + "\n".join(f"    {line}" for line in lines)
        separator, end = ",\n", "\n  ]\n}\n"
    yield end


def status(run: RunSummary) -> dict[str, Any]:
    """Return the state of a run and its counts of tasks."""
    ended_ms = run.ended_ms
    return {
        "run_id": run.run_id,
        "kind": run.kind,
        "state": run.state,
        "total_tasks": run.total,
        "completed": run.ok,
        "failed": run.failed + run.timeout + run.lost,
        "canceled": run.canceled,
        "running": run.running,
        "waiting": run.total - run.ended - run.running,
        "max_parallel": run.max_parallel,
        "fail_fast": run.fail_fast,
        "start_time": rfc3339_from_ms(run.created_ms),
    } | ({"end_time": rfc3339_from_ms(ended_ms)} if ended_ms else {})


def entry(spec: TaskSpec, result: TaskResult) -> dict[str, Any]:
    """Return one task's entry, without the optional keys that have no value."""
    body: dict[str, Any] = {"index": result.index, "backend": spec.backend, "status": result.status}
    if result.status is TaskStatus.OK:
        body["output"] = result.output or ""
    optional = {
        "output_file": result.output_file,
        "error": result.error,
        "error_kind": result.error_kind,
        "attempts": result.attempts,
        "worker": result.worker,
        "model": result.model,
        "session_id": result.session_id,
        "usage": result.usage and result.usage.to_dict(),
        "cost_usd": result.cost_usd,
        "task_id": spec.id,
        "task_name": spec.name,
        "tags": spec.tags,
        "meta": spec.meta,
        "warnings": result.warnings,
        "start_time": result.start_time,
        "end_time": result.end_time,
    }
    body["exit_code"] = result.exit_code
    body["duration_seconds"] = result.duration_seconds
    return body | {key: value for key, value in optional.items() if value not in (None, [], {})}


def task(spec: TaskSpec) -> dict[str, Any]:
    """Return a task as it was submitted, without the fields that were not set."""
    given = dataclasses.asdict(spec)
    for name in GIVEN_BY_RUN:
        del given[name]
    return {key: value for key, value in given.items() if value not in (None, [], {})}


def dump(value: Any) -> str:
    """Return a value as indented JSON with a line end, in characters that UTF-8 can encode."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # an unpaired surrogate in an answer
        text = json.dumps(value, indent=2)
    return text + "\n"
