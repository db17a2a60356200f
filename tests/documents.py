"""Every JSON document that a test has a command print is held against its published schema.

The published schemas let later versions add keys. Here they do not: a key that is printed and not
described is a mistake.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import jsonschema

from tools import schemas

MOST_BYTES = 100_000
"""A document that is longer is of a test about many tasks, and would take seconds to check."""
OF_RUNS = frozenset({"parallel", "chain", "compare", "attach", "resume", "retry"})


def check(arguments: Sequence[str], stdout: str) -> None:
    """Check what a command printed, if it was to print JSON and did."""
    if "--json" not in arguments or not stdout.strip() or len(stdout) > MOST_BYTES:
        return
    if arguments[0] == "logs":
        for line in stdout.splitlines():
            jsonschema_of("steps").validate(json.loads(line))
        return
    value = json.loads(stdout)
    jsonschema_of(name_of(arguments, value)).validate(value)


def name_of(arguments: Sequence[str], value: Any) -> str:
    """The name of the schema of what a command printed."""
    command = arguments[0]
    if command not in OF_RUNS:
        return {"config": "config_show"}.get(command, command)
    if "--dry-run" in arguments:
        return "dry_run"
    if "results" not in value:
        return "submitted"
    if "state" in value:
        return "results"  # of a retry that had nothing to do
    return "chain" if "total_steps" in value else "compare" if "prompt" in value else "parallel"


@cache
def jsonschema_of(name: str) -> jsonschema.Draft202012Validator:
    """The validator of a document, strict about keys."""
    of_commands = schemas.documents_of_commands()
    schema: Any = {"steps": schemas.steps, "parallel": schemas.results}.get(
        name, lambda: {**of_commands, "$ref": f"#/$defs/{name}"}
    )()
    assert name in {"steps", "parallel", *of_commands["$defs"]}, f"no schema of {name}"
    kind = jsonschema.Draft202012Validator
    return kind(strict(schema), format_checker=kind.FORMAT_CHECKER)


def strict(schema: Any) -> Any:
    """The schema without room for keys that it does not name."""
    match schema:
        case list():
            return [strict(each) for each in schema]
        case dict():
            inside = {name: strict(each) for name, each in schema.items()}
            closed = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
            return {"additionalProperties": False, **inside} if closed else inside
    return schema
