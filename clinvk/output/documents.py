"""The parts of JSON documents; scripts rely on their shape.

A document with an entry per task is written piece by piece, so that it is never whole in memory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clinvk.core.changes import Changes
from clinvk.core.durations import FOR_EVER
from clinvk.core.prices import MICROS
from clinvk.core.spec import (
    DEFAULT_MAX_WAIT_SECONDS,
    DEFAULT_RETRIES,
    GIVEN_BY_RUN,
    RunSummary,
    TaskResult,
    TaskSpec,
    TaskStatus,
    Usage,
    backend_of,
)
from clinvk.core.spending import Spending
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.runs.report import Report

ENTRY_KEYS: Mapping[str, tuple[type[TaskResult | TaskSpec | Changes], str]] = {
    "index": (TaskResult, "index"),
    "backend": (TaskSpec, "backend"),
    "status": (TaskResult, "status"),
    "output": (TaskResult, "output"),
    "data": (TaskResult, "data"),
    "verify": (TaskResult, "verify"),
    "repairs": (TaskResult, "repairs"),
    "exit_code": (TaskResult, "exit_code"),
    "duration_seconds": (TaskResult, "duration_seconds"),
    "output_file": (TaskResult, "output_file"),
    "error": (TaskResult, "error"),
    "error_kind": (TaskResult, "error_kind"),
    "retry_at": (TaskResult, "retry_at"),
    "acted": (TaskResult, "acted"),
    "waited_seconds": (TaskResult, "waited_seconds"),
    "rejections": (TaskResult, "rejections"),
    "tried": (TaskResult, "tried"),
    "attempts": (TaskResult, "attempts"),
    "worker": (TaskResult, "worker"),
    "sandbox": (TaskResult, "sandbox"),
    "model": (TaskResult, "model"),
    "session_id": (TaskResult, "session_id"),
    "usage": (TaskResult, "usage"),
    "cost_usd": (TaskResult, "cost_usd"),
    "cost_source": (TaskResult, "cost_source"),
    "reused": (TaskResult, "reused"),
    "base": (Changes, "base"),
    "changed_files": (Changes, "changed_files"),
    "insertions": (Changes, "insertions"),
    "deletions": (Changes, "deletions"),
    "commits": (Changes, "commits"),
    "patch": (Changes, "patch"),
    "worktree": (Changes, "kept"),
    "task_id": (TaskSpec, "id"),
    "task_name": (TaskSpec, "name"),
    "tags": (TaskSpec, "tags"),
    "meta": (TaskSpec, "meta"),
    "warnings": (TaskResult, "warnings"),
    "start_time": (TaskResult, "start_time"),
    "end_time": (TaskResult, "end_time"),
}
"""The keys of a task's entry, in order, and the field that each is: the JSON schema is made of
this (`tools/schemas.py`)."""
ALWAYS = frozenset({"index", "backend", "status", "exit_code", "duration_seconds"})
"""The keys that every entry has."""


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
        **sums(report),
    }


def sums(report: Report) -> dict[str, Any]:
    """Return the sums over a run's results that have something to say."""
    waited_seconds = round(report.waited_seconds or 0, 3)
    waited = {"waited_seconds": waited_seconds} if waited_seconds else {}
    of_run = {} if report.summary is None else budget(report.summary)
    return {**waited, **used(Spending.sum(report.spending.values())), **of_run}


def budget(run: RunSummary) -> dict[str, Any]:
    """Return what a run has used of its budget, and whether one stopped it; {} without any.

    What is spent, assumed, reserved and left is the limit, unless that is gone over.
    """
    if not (run.has_budget or run.ended_by_budget):
        return {}
    amounts = {
        "cost_usd": (
            run.max_micro_usd,
            (run.spent_micro_usd, run.assumed_micro_usd, run.reserved_micro_usd),
            MICROS,
        ),
        "total_tokens": (
            run.max_total_tokens,
            (run.spent_tokens, run.assumed_tokens, run.reserved_tokens),
            1,
        ),
    }
    units = {
        name: _left(limit, counted, divisor)
        for name, (limit, counted, divisor) in amounts.items()
        if limit is not None
    }
    return {"budget": {**units, "stopped": run.ended_by_budget, **_stopped_by(run)}}


def _left(limit: int, counted: tuple[int, int, int], divisor: int) -> dict[str, int | float]:
    values = (limit, *counted, max(0, limit - sum(counted)))
    names = ("limit", "spent", "assumed", "reserved", "left")
    return {
        name: value / divisor if divisor > 1 else value
        for name, value in zip(names, values, strict=True)
    }


def _stopped_by(run: RunSummary) -> dict[str, str]:
    """Say which budget stopped a run, and of a day's whose it is, if it is not everybody's."""
    if not run.ended_by_budget:
        return {}
    if run.cancel_reason == "unknown_cost":
        return {"stopped_by": "unknown_cost"}
    scope = run.budget_of or "run"
    if scope == "run":
        return {"stopped_by": "run"}
    if scope == "all":
        return {"stopped_by": "day"}
    if scope.startswith("key "):
        return {"stopped_by": "day", "key": scope.removeprefix("key ")}
    return {"stopped_by": "day", "queue": backend_of(scope)}


def used(spending: Spending) -> dict[str, Any]:
    """Return what executions used, as far as it is known: `unknown_costs` are not in the cost."""
    values = {
        "cost_usd": spending.cost_usd,
        "unknown_costs": spending.unknown or None,
        "usage": spending.usage and spending.usage.to_dict(),
    }
    return {name: value for name, value in values.items() if value is not None}


def spending(spending: Spending) -> dict[str, Any]:
    """Return all that is known of what executions used, each key always there."""
    return {
        "executions": spending.executions,
        "cost_usd": spending.cost_usd,
        "estimated_usd": spending.estimated_micro_usd / MICROS,
        "unknown_costs": spending.unknown,
        "usage": (spending.usage or Usage()).to_dict(),
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
        **({"end_time": rfc3339_from_ms(ended_ms)} if ended_ms else {}),
        **budget(run),
        **({"requires": dict(run.requires)} if run.requires else {}),
    }


def entry(spec: TaskSpec, result: TaskResult) -> dict[str, Any]:
    """Return one task's entry, without the optional keys that have no value."""
    sources = {TaskResult: result, TaskSpec: spec, Changes: result.changes}
    values = {key: getattr(sources[kind], field, None) for key, (kind, field) in ENTRY_KEYS.items()}
    values["commits"] = [dataclasses.asdict(each) for each in values["commits"] or ()]
    values["backend"] = result.backend_of(spec)
    values["tried"] = [each.to_dict() for each in result.tried]
    values["rejections"] = result.rejections or None
    values["repairs"] = result.repairs or None
    values["verify"] = result.verify and result.verify.to_dict()
    values["usage"] = result.usage and result.usage.to_dict()
    values["sandbox"] = result.sandbox and result.sandbox.to_dict()
    values["output"] = (result.output or "") if result.status is TaskStatus.OK else result.output
    return {
        key: value
        for key, value in values.items()
        if key in ALWAYS or value not in (None, [], {}) or (key == "data" and value is not None)
    }


def task(spec: TaskSpec) -> dict[str, Any]:
    """Return a task as it was submitted, without the fields that were not set."""
    given = dataclasses.asdict(spec)
    for name in GIVEN_BY_RUN:
        del given[name]
    if spec.alternatives:
        others = [_with_model(name, spec.variants.get(name, {})) for name in spec.alternatives]
        given["backend"] = [spec.backend, *others]
    if spec.retries == DEFAULT_RETRIES:
        del given["retries"]
    if spec.max_wait_seconds != DEFAULT_MAX_WAIT_SECONDS:
        given["max_wait"] = FOR_EVER if spec.max_wait_seconds is None else spec.max_wait_seconds
    return {key: value for key, value in given.items() if value not in (None, [], {})}


def _with_model(backend: str, variant: Mapping[str, Any]) -> str:
    return f"{backend}:{variant['model']}" if variant.get("model") else backend


def dump(value: Any) -> str:
    """Return a value as indented JSON with a line end, in characters that UTF-8 can encode."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # an unpaired surrogate in an answer
        text = json.dumps(value, indent=2)
    return text + "\n"
