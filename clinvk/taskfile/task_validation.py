"""From one task's plain values to its `TaskSpec`, with everything that is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from clinvk.core.spec import GIVEN_BY_RUN, TaskSpec
from clinvk.core.validation_errors import describe, shown
from clinvk.taskfile import answer_fields, routes
from clinvk.taskfile.answer_fields import Schemas
from clinvk.taskfile.routes import Problem

TASK_FIELDS = (
    *(
        spec_field.name
        for spec_field in dataclasses.fields(TaskSpec)
        if spec_field.name not in GIVEN_BY_RUN
    ),
    "max_wait",
)
ARGUMENT_FIELDS = (
    "backend",
    "model",
    "fallback",
    "workdir",
    "repo",
    "ref",
    "system_prompt",
    "extra",
    "allowed_tools",
    "verify",
)
"""Fields that become part of a command line, which cannot hold a NUL."""

_TASK = TypeAdapter(TaskSpec)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SUSPICIOUS = ("\\ud", "\\u0000", "Infinity", "NaN")
"""What surrogates (also of pairs), a NUL, and numbers that are not finite become in JSON."""


NO_DEFAULTS: Mapping[str, Any] = {}


def check_task(
    body: Any,
    backends: Mapping[str, bool],
    defaults: Mapping[str, Any] = NO_DEFAULTS,
    schemas: Schemas | None = None,
) -> tuple[TaskSpec | None, list[Problem]]:
    """Validate one task: returns it, or None and all that is wrong with it.

    `backends` has the name of each backend, and whether it is enabled. `defaults` are valid values
    for fields that the task does not have; a field that is null is one that it has. `schemas` are
    those that the task may name by their paths.
    """
    if not isinstance(body, dict):
        return None, [("", f"must be an object (got {shown(body)})")]
    if isinstance(body.get("network"), bool):  # what YAML makes of on and off
        body = {**body, "network": "on" if body["network"] else "off"}
    own, problems = answer_fields.plain(body, schemas or Schemas())
    whole = {**defaults, **own} if defaults else own
    text = _encode_unsuspicious(whole) if not problems else None
    problems += [] if text else list(_value_problems(whole))
    problems += _repository_problems(whole) if "repo" in whole else []
    route = routes.read(whole, backends, has_own_fallback="fallback" in body)
    fields = whole if route is None else route.fields
    task, more = _validate(fields, text if route is None else None, {at for at, _ in problems})
    problems += more
    if route is None:
        problem = routes.backend_problem(body.get("backend"), backends)
        problems += [("backend", problem)] if problem else []
        return (None, problems) if problems else (task, [])
    problems += route.problems
    if problems or task is None:
        return None, problems
    return dataclasses.replace(task, max_wait_seconds=route.max_wait_seconds), []


def place_of(location: Sequence[int | str]) -> str:
    """Return a place as it is shown, such as `tags[1]`, from one of pydantic's locations."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location
    ).removeprefix(".")


def _validate(
    body: Mapping[str, Any], text: str | None, reported: set[str]
) -> tuple[TaskSpec | None, list[Problem]]:
    """Validate by the types; fields that are `reported` already are passed over."""
    try:
        if text is None:
            text = _ENCODER.encode(
                {name: None if str(name) in reported else value for name, value in body.items()}
            )
        return _TASK.validate_json(text), []
    except ValidationError as error:
        return None, [
            (place_of(item["loc"]), _message(item))
            for item in error.errors()
            if not reported.intersection(item["loc"][:1])
        ]
    except TypeError as error:
        return None, [("", str(error))]


def _message(item: Mapping[str, Any]) -> str:
    # The one way in which JSON that was encoded a moment ago can be invalid.
    return "is nested too deeply" if item["type"] == "json_invalid" else describe(item, TASK_FIELDS)


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"has a value that JSON cannot represent: {shown(value)}")


_ENCODER = json.JSONEncoder(default=_refuse)


# Values that fit the types, but that nothing behind them could use.


def _encode_unsuspicious(body: Mapping[str, Any]) -> str | None:
    """Encode a task as JSON; None where it might have one of `_value_problems`.

    Nearly all tasks have none, and finding that out in the text is fast.
    """
    if not GIVEN_BY_RUN.isdisjoint(body):
        return None
    try:
        text = _ENCODER.encode(body)
    except TypeError:
        return None
    return None if any(trace in text for trace in _SUSPICIOUS) else text


def _value_problems(body: Mapping[str, Any]) -> Iterator[Problem]:
    for name in body.keys() & GIVEN_BY_RUN:
        yield name, "unknown field"
    for name, value in body.items():
        found = {_leaf_problem(name, leaf) for leaf in _leaves(value)}
        for problem in sorted(found - {""}):
            yield str(name), problem


def _repository_problems(body: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the repository of a task, without showing an address."""
    from clinvk.core import repo_urls  # loads what few task files need

    url, workdir = body["repo"], body.get("workdir")
    if not isinstance(url, str) or not url.strip():
        return
    if wrong := repo_urls.problem(url):
        yield "repo", wrong
    if body.get("include_changes") is True:
        yield "include_changes", "must not be true with a repo: there are no changes of yours"
    if isinstance(workdir, str) and (workdir.startswith(("/", "~")) or ".." in workdir.split("/")):
        yield "workdir", "must be a directory in the repo, relative to its top"


def _leaf_problem(name: object, leaf: object) -> str:
    match leaf:
        case str() if _SURROGATE.search(leaf):
            return "has an unpaired surrogate"
        case str() if name in ARGUMENT_FIELDS and "\0" in leaf:
            return "must not contain a NUL character"
        case float() if not math.isfinite(leaf):
            return "must be a finite number"
        case _:
            return ""


def _leaves(value: Any) -> Iterator[Any]:
    match value:
        case list():
            for item in value:
                yield from _leaves(item)
        case dict():
            for key, item in value.items():
                yield from _leaves(key)
                yield from _leaves(item)
        case _:
            yield value
