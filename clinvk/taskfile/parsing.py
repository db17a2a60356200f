"""From a file's text to plain values: JSON, JSON Lines or YAML, or one of them in other text.

What a file is, is decided by how it begins; its name matters only for `.yaml` and `.yml`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

from clinvk.core import extraction, yaml_document
from clinvk.core.errors import TaskFileError
from clinvk.core.strict_json import parse_json
from clinvk.core.validation_errors import shown
from clinvk.taskfile.raw_tasks import LINES, RawTasks, list_numbering
from clinvk.taskfile.schema import COMMANDS
from clinvk.taskfile.sources import fail

Line = tuple[int, str]
"""A line's number, from 1, and its text."""


def parse_lines(lines: Iterator[str], name: str, key: str) -> RawTasks:
    """Parse a file whose list of tasks is called `key`.

    It is read whole, unless it begins as JSON Lines do: these are parsed line by line, as the
    tasks are iterated.

    Raises:
        TaskFileError: it cannot be parsed.
    """
    head: list[str] = []
    for line in lines:
        head.append(line)
        if not line.isspace():
            break
    else:
        fail(f"{name}: is empty")
    if line.startswith("{") and not _is_yaml(name):
        rest = (pair for pair in enumerate(lines, start=len(head) + 1) if not pair[1].isspace())
        with suppress(json.JSONDecodeError):
            value, problems = parse_json(line)
            second = next(rest, None)
            if second is None:
                return _document(value, problems, name, key)
            return _json_lines(chain([(len(head), line), second], rest), name)
    return _parse_whole("".join(chain(head, lines)), name, key)


def extract_tasks(text: str, name: str, key: str) -> RawTasks:
    """Parse a file that may be surrounded by other text, or be in a Markdown code fence.

    Raises:
        TaskFileError: there is none, or more than one.
    """
    try:
        return _parse_text(text, name, key)
    except TaskFileError as error:
        problem = error
    for pieces in (extraction.fenced(text), extraction.bare(text)):
        found = []
        for piece in pieces:
            try:
                found.append(_parse_text(piece, name, key))
            except TaskFileError as error:
                problem = error
        if len(found) > 1:
            fail(f"{name}: has {len(found)} passages that could be the task file: keep one")
        if found:
            return found[0]
    raise problem


def _parse_text(text: str, name: str, key: str) -> RawTasks:
    if not text.strip():
        fail(f"{name}: is empty")
    return _parse_whole(text, name, key)


def _is_yaml(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _parse_whole(text: str, name: str, key: str) -> RawTasks:
    if _is_yaml(name):
        return _document(_yaml(text, name), [], name, key)
    try:
        return _document(*parse_json(text), name, key)
    except json.JSONDecodeError as error:
        # Not splitlines(): JSON allows U+2028 and its like inside of a string.
        lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) > 1 and all(_is_object(line) for _, line in lines):
            return _json_lines(lines, name)
        if text.lstrip()[0] in "{[":
            hint = " (is the file truncated?)" if _is_at_end(error) else ""
            fail(_not_json(name, _what(error), error.lineno, error.colno) + hint)
    return _document(_yaml(text, name), [], name, key)


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml_document.load(text)
    except ValueError as error:
        fail(f"{name}: {error}")


def _not_json(name: str, what: str, line: int, column: int) -> str:
    return f"{name}: is not valid JSON: {what} at line {line}, column {column}"


def _what(error: json.JSONDecodeError) -> str:
    """Return json's message without its last word, where that expects a place to follow."""
    return error.msg.removesuffix(" at")


def _is_at_end(error: json.JSONDecodeError) -> bool:
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")


# JSON Lines.


def _is_object(line: str) -> bool:
    """Whether a line looks like an object of its own; it may be broken."""
    return line.startswith("{") and line.rstrip() != "{"


def _json_lines(lines: Iterable[Line], name: str) -> RawTasks:
    problems: list[str] = []
    return RawTasks(tasks=_objects(lines, name, problems), numbering=LINES, problems=problems)


def _objects(lines: Iterable[Line], name: str, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """Parse each line; what is wrong with one is added to `problems`."""
    second: Line | None = None
    for count, (number, line) in enumerate(lines):
        if count == 1:
            second = (number, line)
        if second is not None and not _is_object(line):
            _refuse_document(*second, name)
        try:
            body, found = parse_json(line.removesuffix("\n"))
        except json.JSONDecodeError as error:
            problems.append(
                f"line {number}: is not valid JSON: {_what(error)} at column {error.colno}"
            )
        else:
            problems += [f"line {number}: {problem}" for problem in found]
            yield number, body


def _refuse_document(number: int, line: str, name: str) -> None:
    """Refuse a file that is one JSON document, and goes on after its end in its second line."""
    column = len(line) - len(line.lstrip(" \t\r")) + 1
    fail(_not_json(name, "Extra data", number, column))


# Documents.


def _document(value: Any, problems: list[str], name: str, key: str) -> RawTasks:
    match value:
        case dict() if key in value:
            return _keyed_list(value, problems, name, key)
        case dict() if other := next((other for other in COMMANDS if other in value), None):
            problem = f"has {other}, not {key}: run it with {COMMANDS[other]}"
        case {"backend": _} | {"prompt": _}:  # JSON Lines of one line
            return RawTasks(tasks=[(1, value)], numbering=LINES, problems=problems)
        case list():
            return RawTasks(tasks=enumerate(value), numbering=list_numbering(), problems=problems)
        case _:
            problem = f'must be an object with a list of "{key}" (got {shown(value)})'
    raise TaskFileError([f"{name}: {problem}"])


def _keyed_list(value: dict[Any, Any], problems: list[str], name: str, key: str) -> RawTasks:
    tasks = value[key]
    if not isinstance(tasks, list):
        fail(f"{name}: {key}: must be a list (got {shown(tasks)})")
    return RawTasks(
        tasks=enumerate(tasks),
        numbering=list_numbering(key),
        header={str(name): setting for name, setting in value.items() if name != key},
        problems=problems,
    )
