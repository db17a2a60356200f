"""Answers that have to hold a JSON Schema (2020-12): found in a CLI's words, parsed and validated.

The JSON is the whole text, or in a Markdown code fence, or between the words, as the task file of
`--lenient` is. It is parsed strictly: no name twice, no NaN, and nothing that another reader of the
result could not take. `jsonschema-rs` validates, because it knows all of 2020-12, takes as long
with a hostile pattern as with any, and imports in some milliseconds; a client loads it for a file
with a schema only, and a worker in a process of its own (`workers/execution/answer_check.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from clinvk.core import extraction
from clinvk.core.nesting import depth
from clinvk.core.sanitize import one_line
from clinvk.core.schemas import DEEPEST, DIALECT, Schema
from clinvk.core.strict_json import parse_json

MOST_SCHEMA_BYTES = 1 << 16
"""It becomes one argument of a CLI, and Linux takes 128 KiB."""
MOST_DATA_BYTES = 1 << 20
MOST_PROBLEMS = 5
LONGEST_PROBLEM = 300


class SchemaError(ValueError):
    """What is no schema that answers can be checked against; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its value, or what is wrong with it, a line each."""

    data: Any = None
    problems: Sequence[str] = ()


def check_schema(schema: Any) -> None:
    """Check that answers can be validated against a schema; nothing is fetched.

    Raises:
        SchemaError: they cannot.
    """
    _validator(schema)


def read(text: str, schema: Schema) -> Answer:
    """Find the JSON in a text that is valid against the schema.

    Raises:
        SchemaError: there can be none.
    """
    validator = _validator(schema)
    for pieces in _pieces(text):
        answers = [_validated(value, validator) for value in _parsed(pieces)]
        valid = [answer.data for answer in answers if not answer.problems]
        if valid and all(_is_same(value, valid[0]) for value in valid):
            return Answer(valid[0])
        if valid:
            return Answer(problems=[f"has {len(valid)} different JSON values that fit: keep one"])
        if answers:  # a part of what does not fit is no answer, though it may fit
            return Answer(problems=answers[-1].problems)
    return Answer(problems=["has no JSON in it"])


# Schemas.


def _validator(schema: Any) -> Any:
    import jsonschema_rs

    _check_form(schema)
    remote: list[str] = []

    def refuse(uri: str) -> Any:
        remote.append(uri)
        raise LookupError(uri)

    try:
        return jsonschema_rs.Draft202012Validator(schema, retriever=refuse)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        if remote:
            raise SchemaError(f"$ref {remote[0]} is not in it, and is not fetched") from error
        raise SchemaError(_schema_problem(error)) from error


def _schema_problem(error: Any) -> str:
    """Return what is wrong with a schema; of a type in better words than the validator's."""
    path = list(getattr(error, "instance_path", ()))
    if path[-1:] == ["type"] and "anyOf" in error.message:
        return one_line(f"{_place(path)}: must be {TYPES}, or a list of them")
    return _problem(error)


TYPES = "array, boolean, integer, null, number, object or string"


def _check_form(schema: Any) -> None:
    if not isinstance(schema, dict):
        raise SchemaError("must be an object")
    if (dialect := schema.get("$schema", DIALECT)) != DIALECT:
        raise SchemaError(f"$schema must be {DIALECT} (got {json.dumps(dialect)[:80]})")
    if depth(schema, DEEPEST) > DEEPEST:
        raise SchemaError("is nested too deeply")
    try:
        size = len(json.dumps(schema, allow_nan=False, ensure_ascii=False).encode())
    except ValueError as error:
        raise SchemaError("has a value that JSON cannot represent") from error
    if size > MOST_SCHEMA_BYTES:
        raise SchemaError(f"is {size} bytes long, and may have {MOST_SCHEMA_BYTES}")


# Answers.


def _pieces(text: str) -> Iterator[Iterable[str]]:
    yield [text]
    yield extraction.fenced(text)
    yield extraction.bare(text)


def _parsed(pieces: Iterable[str]) -> Iterator[tuple[Any, Sequence[str]]]:
    """Yield the value of each piece that is JSON, and what is wrong with it as such."""
    for piece in pieces:
        try:
            value, problems = parse_json(piece.strip())
        except RecursionError:
            yield None, ["is nested too deeply"]
        except ValueError:
            continue
        else:
            yield value, problems or _form_problems(value)


def _form_problems(value: Any) -> Sequence[str]:
    """Return what keeps a value from being written as JSON again, and read by anyone."""
    if depth(value, DEEPEST) > DEEPEST:
        return ["is nested too deeply"]
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return ["has half of a surrogate pair"]
    except ValueError:
        return ["has a number that is too large"]
    return [f"is {size} bytes of JSON, and may have {MOST_DATA_BYTES}"] * (size > MOST_DATA_BYTES)


def _validated(parsed: tuple[Any, Sequence[str]], validator: Any) -> Answer:
    value, problems = parsed
    if not problems:
        found = islice(validator.iter_errors(value), MOST_PROBLEMS)
        problems = [_problem(error) for error in found]
    return Answer(None, problems) if problems else Answer(value)


def _is_same(value: Any, other: Any) -> bool:
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def _problem(error: Any) -> str:
    """Return one of the validator's errors with its place, on a line of limited length."""
    message = getattr(error, "message", None) or str(error).partition("\n")[0]
    place = _place(getattr(error, "instance_path", ()))
    text = one_line(f"{place}: {message}" if place else message)
    if len(text) <= LONGEST_PROBLEM:
        return text
    return f"{text[: LONGEST_PROBLEM // 2]}…{text[-LONGEST_PROBLEM // 2 :]}"


def _place(path: Iterable[int | str]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")
