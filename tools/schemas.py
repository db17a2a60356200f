"""Write the JSON schemas of the reference from the types: `python -m tools.schemas`.

`results.schema.json` is the document of `clinvk parallel --json`, `steps.schema.json` a line of
`clinvk logs --json`, `documents.schema.json` has what other commands print (`tools/documents.py`).
`task-file.schema.json` is what `clinvk parallel` reads; an editor can check a task file with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from annotated_types import Predicate
from pydantic import TypeAdapter

from clinvk.core.changes import Changes
from clinvk.core.spec import GIVEN_BY_RUN, TaskResult, TaskSpec, not_blank
from clinvk.core.steps import StepRecord
from clinvk.output.documents import ALWAYS, ENTRY_KEYS
from clinvk.output.step_lines import STEP_ALWAYS, STEP_KEYS
from clinvk.taskfile.schema import TASKS, WAIT_SCHEMA
from tools import documents

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": "string", "format": "date-time"}
HEAD = {
    "run_id": {"type": "string"},
    "total_tasks": COUNT,
    "completed": COUNT,
    "failed": COUNT,
    "canceled": COUNT,
    "total_duration_seconds": {"type": "number", "minimum": 0},
    "start_time": TIME,
    "end_time": TIME,
}
"""What the document has before its results (`clinvk.output.documents.head`)."""

SUMS = {
    "waited_seconds": {"type": "number", "minimum": 0},
    "cost_usd": {"type": "number", "minimum": 0},
    "unknown_costs": COUNT,
    "usage": {"$ref": "#/$defs/Usage"},
    "budget": documents.BUDGET,
}
"""What it has there only if it has something to say."""
ROUTE_PATTERN = r"^[^:]+(:.*\S.*)?$"
NULL = {"type": "null"}
COMMAND = {"type": "array", "items": {"type": "string"}, "minItems": 1}
ANSWER_FIELDS = {
    "schema": {"anyOf": [{"type": "string"}, {"type": "object"}, NULL]},
    "verify": {"anyOf": [{"type": "string", "pattern": r"\S"}, COMMAND, NULL]},
}
"""What a file writes otherwise than a `TaskSpec` (`clinvk.taskfile.answer_fields`)."""

Schema = dict[str, Any]


def main() -> None:
    """Write the schemas."""
    for name, schema in schemas().items():
        (REFERENCE / name).write_text(text(schema), encoding="utf-8")


def schemas() -> Mapping[str, Schema]:
    """Return each schema by the name of its file."""
    return {
        "results.schema.json": results(),
        "documents.schema.json": documents_of_commands(),
        "steps.schema.json": steps(),
        "task-file.schema.json": task_file(),
    }


def text(schema: Schema) -> str:
    """Return a schema as it is written."""
    return json.dumps(schema, indent=2) + "\n"


def results() -> Schema:
    """Return the schema of what `clinvk parallel --json` prints; later versions may add keys."""
    schemas_of = {kind: TypeAdapter(kind).json_schema() for kind in (TaskResult, TaskSpec, Changes)}
    entry = {
        key: _without_null(schemas_of[kind]["properties"][field])
        for key, (kind, field) in ENTRY_KEYS.items()
    }
    entry |= dict.fromkeys(("retry_at", "start_time", "end_time"), TIME)
    entry["data"] = {"description": "The answer by the task's schema: any JSON."}
    return _tidied(
        {
            "$schema": DIALECT,
            "title": "Results of clinvk parallel --json",
            **_object(
                HEAD | SUMS | {"results": {"type": "array", "items": {"$ref": "#/$defs/Entry"}}},
                required=[*HEAD, "results"],
            ),
            "$defs": {
                "Budget": documents.budget(),
                "Entry": _object(entry, required=sorted(ALWAYS)),
                **schemas_of[TaskResult]["$defs"],
            },
        }
    )


def documents_of_commands() -> Schema:
    """Return the schemas of the other documents, each in `$defs`; later versions may add keys."""
    defs = results()["$defs"]
    return {
        "$schema": DIALECT,
        "title": "Documents of clinvk's commands, by name in $defs",
        "$defs": documents.documents(defs["Entry"]) | defs,
    }


def steps() -> Schema:
    """Return the schema of each line of `clinvk logs --json`; later versions may add keys."""
    schema = TypeAdapter(StepRecord).json_schema()
    entry = {key: _without_null(schema["properties"][key]) for key in STEP_KEYS}
    entry |= {"time": TIME, "until": TIME}
    entry |= {"kind": _known_first(schema, "StepKind"), "error_kind": {"type": "string"}}
    return _tidied(
        {
            "$schema": DIALECT,
            "title": "A line of clinvk logs --json",
            **_object(entry, required=sorted(STEP_ALWAYS)),
            "$defs": {"Usage": schema["$defs"]["Usage"]},
        }
    )


def _known_first(schema: Schema, name: str) -> Schema:
    """Return the schema of a text whose known values are listed; later versions may add some."""
    return {"type": "string", "examples": schema["$defs"][name]["enum"]}


def task_file() -> Schema:
    """Return the schema of a task file: an object with tasks, or a list of tasks."""
    task = TypeAdapter(TaskSpec).json_schema()
    for name in GIVEN_BY_RUN:
        del task["properties"][name]
    fields = task["properties"]
    fields["backend"] = {"anyOf": [fields["backend"], _names_of_backends(1)]}
    fields["fallback"] = {"anyOf": [_names_of_backends(0), {"type": "null"}]}
    fields["max_wait"] = {"anyOf": [*WAIT_SCHEMA["anyOf"], {"type": "null"}]}
    for name in set(_never_blank()) - GIVEN_BY_RUN:
        fields[name]["pattern"] = r"\S"
    task["description"] = "One prompt for one backend."
    tasks = {"type": "array", "items": {"$ref": "#/$defs/Task"}, "minItems": 1}
    header = TASKS.header.model_json_schema()
    header["properties"] |= ANSWER_FIELDS
    fields |= ANSWER_FIELDS
    document = _object(header["properties"] | {TASKS.key: tasks}, required=[TASKS.key])
    document["additionalProperties"] = False
    return _tidied(
        {
            "$schema": DIALECT,
            "title": "Task file of clinvk parallel",
            "anyOf": [document, tasks],
            "$defs": {"Task": task},
        }
    )


def _names_of_backends(least: int) -> Schema:
    """Return the schema of a list of `backend` or `backend:model`."""
    names = {"type": "string", "pattern": ROUTE_PATTERN}
    return {"type": "array", "items": names, "minItems": least, "uniqueItems": True}


def _object(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _never_blank() -> Iterator[str]:
    """Yield the fields that must not be blank, of which pydantic's schema says nothing."""
    for name, hint in get_type_hints(TaskSpec, include_extras=True).items():
        parts = (hint, *get_args(hint))
        metadata = [item for part in parts for item in getattr(part, "__metadata__", ())]
        if Predicate(not_blank) in metadata:
            yield name


def _without_null(schema: Schema) -> Schema:
    """Return a field's schema without null: a key without a value is left out."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema


def _tidied(schema: Schema) -> Schema:
    return dict(_tidy(schema))


def _tidy(value: Any, *, is_names: bool = False) -> Any:
    """Leave out the titles that pydantic makes of names, and defaults of null."""
    match value:
        case dict() if is_names:
            return {name: _tidy(item) for name, item in value.items()}
        case dict():
            return {
                key: _tidy(item, is_names=key in {"properties", "$defs"})
                for key, item in value.items()
                if (key, item) != ("default", None) and (key != "title" or "$schema" in value)
            }
        case list():
            return [_tidy(item) for item in value]
        case _:
            return value


if __name__ == "__main__":
    main()
