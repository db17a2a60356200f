"""The JSON schemas of what commands print with `--json`, beside the results of a run.

All are published in `documents.schema.json`, each under its name in `$defs`: a program checks what
`clinvk status --json` printed against `documents.schema.json#/$defs/status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from clinvk.core.checks import CheckState
from clinvk.core.spec import RunKind
from clinvk.runs.stats import Reason

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
AMOUNT: Schema = {"type": "number", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
USAGE: Schema = {"$ref": "#/$defs/Usage"}
RESULT: Schema = {"$ref": "#/$defs/Entry"}

BUDGET: Schema = {"$ref": "#/$defs/Budget"}
SUMS = {
    "waited_seconds": AMOUNT,
    "cost_usd": AMOUNT,
    "unknown_costs": COUNT,
    "usage": USAGE,
    "budget": BUDGET,
}
"""What a document of results has only if it has something to say."""
SPENDING = {
    "executions": COUNT,
    "cost_usd": {"type": ["number", "null"], "minimum": 0},
    "estimated_usd": AMOUNT,
    "unknown_costs": COUNT,
    "usage": USAGE,
}
TIMES = {"start_time": TIME, "end_time": TIME}


def an_object(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> Schema:
    """Return the schema of an object with these keys."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def a_list(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def a_map(values: Schema) -> Schema:
    """Return the schema of an object with any keys."""
    return {"type": "object", "additionalProperties": values}


def nullable(schema: Schema) -> Schema:
    """Return the schema of what may also be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(values: Any) -> Schema:
    """Return the schema of one of some texts."""
    return {"enum": [str(value) for value in values]}


STATUS_OF_TASKS = {
    "run_id": TEXT,
    "kind": one_of(get_args(RunKind)),
    "state": TEXT,
    "total_tasks": COUNT,
    "completed": COUNT,
    "failed": COUNT,
    "canceled": COUNT,
    "running": COUNT,
    "waiting": COUNT,
    "max_parallel": COUNT,
    "fail_fast": FLAG,
    "start_time": TIME,
}
STATUS_OF_CHAIN = {
    "run_id": TEXT,
    "kind": {"const": "chain"},
    "state": TEXT,
    "total_steps": COUNT,
    "completed_steps": COUNT,
    "failed_steps": COUNT,
    "canceled_steps": COUNT,
    "current_step": COUNT,
    "stop_on_failure": FLAG,
    "start_time": TIME,
}
REQUIRES = {
    "type": "object",
    "properties": {"tags": a_list(TEXT)},
    "additionalProperties": TEXT,
}
END = {"end_time": TIME}
STATE = END | {"budget": BUDGET, "requires": REQUIRES}
"""What a document of a run's state has only if it has something to say."""
PERCENTILES = an_object(dict.fromkeys(("p50", "p90", "p99", "max"), AMOUNT))
MEASURES = dict.fromkeys(("waiting_seconds", "running_seconds", "tokens", "cost_usd"), PERCENTILES)
CLOSING = {
    "state": one_of(["open", "paused", "closed"]),
    "closed_until": nullable(TIME),
    "closed_because": nullable(TEXT),
}
COMMAND = {"backend": TEXT, "argv": a_list(TEXT), "env": a_map(TEXT)}
CHAIN = {
    "run_id": TEXT,
    "total_steps": COUNT,
    "completed_steps": COUNT,
    "failed_step": COUNT,
    "canceled_steps": COUNT,
    "total_duration_seconds": AMOUNT,
    **TIMES,
}
COMPARISON = {
    "run_id": TEXT,
    "prompt": TEXT,
    "backends": a_list(TEXT),
    "completed": COUNT,
    "failed": COUNT,
    "canceled": COUNT,
    "total_duration_seconds": AMOUNT,
    **TIMES,
}


def budget() -> Schema:
    """Return the schema of what a run has used of its budget (`clinvk.output.documents.budget`)."""
    parts = ("limit", "spent", "assumed", "reserved", "left")
    return an_object(
        {"stopped": FLAG},
        {
            "cost_usd": an_object(dict.fromkeys(parts, AMOUNT)),
            "total_tokens": an_object(dict.fromkeys(parts, COUNT)),
            "stopped_by": one_of(["run", "day", "unknown_cost"]),
            "queue": TEXT,
            "key": TEXT,
        },
    )


def documents(entry: Schema) -> dict[str, Schema]:
    """Return the schemas by name; `entry` is that of a result of `clinvk parallel`."""
    step = _step(entry)
    of_tasks, of_chain = an_object(STATUS_OF_TASKS, STATE), an_object(STATUS_OF_CHAIN, STATE)
    return {
        "status": {"anyOf": [of_tasks, of_chain]},
        "runs": a_list(of_tasks),
        "results": {
            "anyOf": [
                an_object({**STATUS_OF_TASKS, "results": a_list(RESULT)}, STATE | SUMS),
                an_object({**STATUS_OF_CHAIN, "results": a_list(step)}, STATE | SUMS),
            ]
        },
        "chain": an_object({**CHAIN, "results": a_list(step)}, SUMS),
        "compare": an_object(
            {**COMPARISON, "results": a_list(RESULT)}, SUMS | {"ranking": a_list(TEXT)}
        ),
        "submitted": an_object({"run_id": TEXT}),
        "joblog": RESULT,
        "dry_run": _dry_run(),
        "stats": _stats(),
        "costs": an_object(
            {
                "since": {"type": "string", "format": "date"},
                "by": TEXT,
                **SPENDING,
                "costs": a_list(
                    an_object(
                        SPENDING,
                        dict.fromkeys(("run", "backend", "model", "tag", "day", "key"), TEXT),
                    )
                ),
            }
        ),
        "queues": a_list(
            an_object(
                {
                    "queue": TEXT,
                    "max_concurrency": nullable(COUNT),
                    "rate": nullable(TEXT),
                    "paused": FLAG,
                    "running": COUNT,
                    "waiting": COUNT,
                    "slots": COUNT,
                    "limit_in_force": nullable(COUNT),
                    **CLOSING,
                    "models": a_map(an_object(CLOSING)),
                }
            )
        ),
        "workers": a_map(_worker()),
        "doctor": an_object({"ok": FLAG, "checks": a_list(_check({"worker": TEXT}))}),
        "conflicts": an_object(
            {
                "run_id": TEXT,
                "tasks": a_list(COUNT),
                "conflicts": a_list(an_object({"tasks": a_list(COUNT), "files": a_list(TEXT)})),
                "with_checkout": a_list(an_object({"task": COUNT, "files": a_list(TEXT)})),
            }
        ),
        "config_show": a_map(an_object({"value": {}, "origin": TEXT})),
    }


def _step(entry: Schema) -> Schema:
    """Return the schema of a step's result, of that of a task's: it has a number and a name."""
    own = {"step": {"type": "integer", "minimum": 1}, "name": TEXT}
    fields = {name: each for name, each in entry["properties"].items() if name != "index"}
    needed = [name for name in entry["required"] if name != "index"]
    return {"type": "object", "properties": own | fields, "required": [*own, *needed]}


def _check(more: Mapping[str, Schema]) -> Schema:
    optional = {"detail": TEXT, "hint": TEXT, **more}
    return an_object({"name": TEXT, "state": one_of(get_args(CheckState))}, optional)


def _worker() -> Schema:
    """Return the schema of what a worker announces; one of another version may say other things."""
    announced = an_object(
        {"slots": COUNT, "queues": a_list(TEXT)},
        {
            "host": TEXT,
            "pid": COUNT,
            "version": TEXT,
            "python": TEXT,
            "started_ms": COUNT,
            "owner": TEXT,
            "clis": a_map(nullable(TEXT)),
            "tags": a_list(TEXT),
            "sandbox": {"type": "object"},
            "checks": a_list(_check({})),
            "draining": FLAG,
        },
    )
    return {**announced, "additionalProperties": True}


def _dry_run() -> Schema:
    other = a_list(an_object(COMMAND))
    range_ = nullable(an_object({"p50": AMOUNT, "p90": AMOUNT}))
    counts = ("executions", "tasks", "tasks_of_unknown_cost", "tasks_of_unknown_tokens")
    estimate = an_object({"cost_usd": range_, "total_tokens": range_}, dict.fromkeys(counts, COUNT))
    task = an_object(
        {
            "index": COUNT,
            **COMMAND,
            "workdir": nullable(TEXT),
            "timeout_seconds": nullable(AMOUNT),
            "stall_timeout_seconds": nullable(AMOUNT),
            "stdin": an_object({"source": TEXT, "bytes": COUNT}, {"placeholders": a_list(TEXT)}),
            "warnings": a_list(TEXT),
        },
        {"alternatives": other, "fallback": other, "estimate": estimate},
    )
    return an_object({"tasks": a_list(task)}, {"estimate": estimate, "requires": REQUIRES})


def _stats() -> Schema:
    limit = an_object({"reason": one_of(Reason), "seconds": AMOUNT, "share": AMOUNT})
    return an_object(
        {
            "run_id": TEXT,
            "kind": one_of(get_args(RunKind)),
            "state": TEXT,
            "total_tasks": COUNT,
            "begun_tasks": COUNT,
            "max_parallel": COUNT,
            "start_time": TIME,
            "limited_by": a_list(limit),
            "backends": a_list(an_object({"backend": TEXT, "tasks": COUNT}, MEASURES)),
            "workers": a_list(an_object({"worker": TEXT, "tasks": COUNT}, MEASURES)),
        },
        {**END, "last_task_index": COUNT, **MEASURES},
    )
