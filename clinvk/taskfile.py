"""From a task file's text to `TaskSpec`s, with everything that is wrong with it at once.

JSON (`{"tasks": [...]}` or a bare list), JSON Lines (one task a line, whatever the file is
called, so that `head -n 10` gives a task file again) and YAML, all through the same models. What
a file has at its top is its `Layout`: the tasks of `parallel` here, the steps of a chain in
`clinvk.chainfile`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Generic, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from clinvk import lenient, yamlfile
from clinvk.problems import describe, nearest, shown
from workers.errors import TaskFileError
from workers.spec import GIVEN_BY_RUN, TaskSpec

STDIN = "<stdin>"
MAX_DIGITS = 300
"""Longer integers count as infinite; Python would not read those of more than 4300 digits."""
TASK_FIELDS = tuple(
    spec_field.name
    for spec_field in dataclasses.fields(TaskSpec)
    if spec_field.name not in GIVEN_BY_RUN
)
ARGUMENT_FIELDS = ("model", "workdir", "system_prompt", "extra", "allowed_tools")
"""Fields that end up in a command line, where there can be no NUL."""

COMMANDS = {"tasks": "clinvk parallel", "steps": "clinvk chain"}
"""What a file can have at its top, and the command that runs it."""

_TASK = TypeAdapter(TaskSpec)

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBatch:
    """A task file that is in order.

    `sources` names each task's place, for messages (`tasks.json: tasks[4]`). The options are
    None where the file does not set them.
    """

    tasks: Sequence[TaskSpec]
    sources: Sequence[str]
    max_parallel: int | None = None
    fail_fast: bool | None = None
    output_dir: str | None = None


class FileOptions(BaseModel):
    """The top level of a task file, beside its tasks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_parallel: Annotated[int, Field(ge=1)] | None = None
    fail_fast: bool | None = None
    output_dir: Annotated[str, Field(min_length=1)] | None = None


@dataclass(slots=True)
class Raw:
    """A file's tasks before they are looked at, each with its place in the file."""

    tasks: list[tuple[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    separator: str = "."

    def at(self, place: str, field_name: str) -> str:
        """Return the place of a task's field; of the task itself, where there is no field."""
        return f"{place}{self.separator}{field_name}" if field_name else place


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout(Generic[Options]):
    """What stands at the top of a file: a list called `key`, and `options` beside it.

    `unique` are fields that no two tasks may have the same; `check` finds what is wrong with
    the tasks beyond each one's own fields.
    """

    key: str
    options: type[Options]
    unique: Sequence[str] = ("id",)
    check: Callable[[Raw], Iterator[str]] = lambda _: iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Content(Generic[Options]):
    """A file that is in order; `sources` names each task's place."""

    tasks: Sequence[TaskSpec]
    sources: Sequence[str]
    options: Options


TASKS = Layout(key="tasks", options=FileOptions)


def read(path: str | None, stdin: IO[bytes], what: str = "task file") -> tuple[str, str]:
    """Read a task file, or stdin where there is none; returns its text and its name.

    Raises:
        TaskFileError: it cannot be read, or is not UTF-8.
    """
    name = STDIN if path is None or path == "-" else path
    piped = path is None or path == "-"
    if piped and stdin.isatty():
        _fail(f"no {what}: give one with --file, or pipe one to standard input")
    try:
        content = stdin.read() if piped else Path(name).read_bytes()
    except IsADirectoryError:
        _fail(f"{name}: is a directory, not a {what}")
    except FileNotFoundError:
        _fail(f"{name}: no such file")
    except OSError as error:
        _fail(f"{name}: cannot be read: {error.strerror}")
    try:
        return content.decode("utf-8-sig"), name
    except UnicodeDecodeError as error:
        _fail(f"{name}: is not UTF-8 text (byte {error.start}); save it as UTF-8")


def parse(
    text: str, name: str, backends: Mapping[str, bool], *, is_lenient: bool = False
) -> TaskBatch:
    """Validate a task file. `backends` says which there are, and whether they are enabled.

    `is_lenient` lets it stand between a model's words, or in a Markdown code fence.

    Raises:
        TaskFileError: with all problems of the file.
    """
    content = load(text, name, backends, TASKS, is_lenient=is_lenient)
    return TaskBatch(tasks=content.tasks, sources=content.sources, **dict(content.options))


def load(
    text: str,
    name: str,
    backends: Mapping[str, bool],
    layout: Layout[Options],
    *,
    is_lenient: bool = False,
) -> Content[Options]:
    """Validate a file of this layout.

    Raises:
        TaskFileError: with all problems of the file.
    """
    try:
        raw = (_find if is_lenient else _load)(text, name, layout.key)
        return _validate(raw, name, backends, layout)
    except RecursionError:
        _fail(f"{name}: is nested too deeply")


def _validate(
    raw: Raw, name: str, backends: Mapping[str, bool], layout: Layout[Options]
) -> Content[Options]:
    problems = list(raw.problems)
    options = None
    try:
        options = layout.options.model_validate(raw.options)
    except ValidationError as error:
        known = (*layout.options.model_fields, layout.key)
        problems += [f"{_place(item['loc'])}: {describe(item, known)}" for item in error.errors()]
    if not raw.tasks and not problems:
        problems.append(f"has no {layout.key}")
    tasks = []
    for place, body in raw.tasks:
        task, found = check_task(body, backends)
        problems += [f"{raw.at(place, at)}: {what}" for at, what in found]
        if task is not None:
            tasks.append(task)
    for field_name in layout.unique:
        problems += _duplicates(raw.tasks, field_name)
    problems += layout.check(raw)
    if problems or options is None:
        raise TaskFileError([f"{name}: {problem}" for problem in problems])
    sources = [f"{name}: {place}" for place, _ in raw.tasks]
    return Content(tasks=tasks, sources=sources, options=options)


def _fail(problem: str) -> NoReturn:
    raise TaskFileError([problem])


# From text to plain values.


def _find(text: str, name: str, key: str) -> Raw:
    """Load a file that may have something around it; what is in order as it is stays so."""
    try:
        return _load(text, name, key)
    except TaskFileError as error:
        problem = error
    for pieces in (lenient.fenced(text), lenient.bare(text)):
        found = []
        for piece in pieces:
            try:
                found.append(_load(piece, name, key))
            except TaskFileError as error:
                problem = error
        if len(found) > 1:
            _fail(f"{name}: has {len(found)} pieces that could each be the task file")
        if found:
            return found[0]
    raise problem


def _load(text: str, name: str, key: str) -> Raw:
    if not text.strip():
        _fail(f"{name}: is empty")
    if name.endswith((".yaml", ".yml")):
        return _document(*_yaml(text, name), name, key)
    try:
        return _document(*_json(text), name, key)
    except json.JSONDecodeError as error:
        if _is_json_lines(text):
            return _json_lines(text)
        if text.lstrip()[0] in "{[":
            _fail(
                f"{name}: is not valid JSON: {error.msg} at line {error.lineno}, "
                f"column {error.colno}" + (" (is it cut off?)" if _at_end(error) else "")
            )
    return _document(*_yaml(text, name), name, key)


def _at_end(error: json.JSONDecodeError) -> bool:
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")


def _json(text: str) -> tuple[Any, list[str]]:
    """Parse JSON; the second value lists what the parser itself would let pass."""
    problems: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [key for key, _ in pairs]
            twice = sorted({key for key in names if names.count(key) > 1})
            problems.append(f"{', '.join(map(shown, twice))} stands twice in one object")
        return result

    def constant(word: str) -> None:
        problems.append(f"{word} is not a number that JSON knows")

    def integer(digits: str) -> int | float:
        return int(digits) if len(digits) < MAX_DIGITS else math.inf

    value = json.loads(text, object_pairs_hook=mapping, parse_constant=constant, parse_int=integer)
    return value, problems


def _is_json_lines(text: str) -> bool:
    """Whether each line looks like an object of its own; some of them may be broken."""
    # Not splitlines(): JSON allows U+2028 and its like inside of a string.
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    return len(lines) > 1 and all(line.startswith("{") and line != "{" for line in lines)


def _json_lines(text: str) -> Raw:
    raw = Raw(tasks=[], separator=": ")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            body, problems = _json(line)
        except json.JSONDecodeError as error:
            raw.problems.append(
                f"line {number}: is not valid JSON: {error.msg} at column {error.colno}"
            )
        else:
            raw.problems += [f"line {number}: {problem}" for problem in problems]
            raw.tasks.append((f"line {number}", body))
    return raw


def _yaml(text: str, name: str) -> tuple[Any, list[str]]:
    try:
        return yamlfile.load(text), []
    except ValueError as error:
        _fail(f"{name}: {error}")


def _document(value: Any, problems: list[str], name: str, key: str) -> Raw:
    match value:
        case dict() if key in value:
            tasks = value[key]
            if not isinstance(tasks, list):
                _fail(f"{name}: {key}: must be a list (got {shown(tasks)})")
            places = [(f"{key}[{index}]", task) for index, task in enumerate(tasks)]
            options = {str(option): set_ for option, set_ in value.items() if option != key}
            return Raw(tasks=places, options=options, problems=problems)
        case dict() if other := next((other for other in COMMANDS if other in value), None):
            _fail(f"{name}: has {other}, not {key}: run it with {COMMANDS[other]}")
        case {"backend": _} | {"prompt": _}:  # JSON Lines of one line
            return Raw(tasks=[("line 1", value)], problems=problems, separator=": ")
        case list():
            places = [(f"[{index}]", task) for index, task in enumerate(value)]
            return Raw(tasks=places, problems=problems)
        case _:
            _fail(f'{name}: must be an object with a list of "{key}" (got {shown(value)})')


# From plain values to tasks.


def check_task(
    body: Any, backends: Mapping[str, bool]
) -> tuple[TaskSpec | None, list[tuple[str, str]]]:
    """Validate one task; returns it, or pairs of a field's place in it and what is wrong."""
    if not isinstance(body, dict):
        return None, [("", f"must be an object (got {shown(body)})")]
    problems = list(_value_problems(body))
    said = {at for at, _ in problems}
    fit = {name: None if str(name) in said else value for name, value in body.items()}
    task = None
    try:
        task = _TASK.validate_json(json.dumps(fit, default=_refuse))
    except ValidationError as error:
        problems += [
            (_place(item["loc"]), _task_problem(item))
            for item in error.errors()
            if not said.intersection(item["loc"][:1])
        ]
    except TypeError as error:
        problems.append(("", str(error)))
    if problem := _backend_problem(body.get("backend"), backends):
        problems.append(("backend", problem))
    return (None, problems) if problems else (task, [])


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"has a value that JSON does not know: {shown(value)}")


def _task_problem(item: Mapping[str, Any]) -> str:
    # The one way in which JSON that was written a moment ago can be invalid.
    return "is nested too deeply" if item["type"] == "json_invalid" else describe(item, TASK_FIELDS)


def _place(location: Sequence[int | str]) -> str:
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location
    ).removeprefix(".")


def _backend_problem(name: Any, backends: Mapping[str, bool]) -> str | None:
    if not isinstance(name, str) or not name:
        return None  # said already
    if name not in backends:
        known = [known for known, enabled in backends.items() if enabled]
        return f'unknown backend "{name}"{nearest(name, known)} (known: {", ".join(known)})'
    if not backends[name]:
        return f'backend "{name}" is disabled in the configuration (backends.{name}.enabled)'
    return None


def _value_problems(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find what the types allow and nothing behind them could use."""
    for name in body.keys() & GIVEN_BY_RUN:
        yield name, "unknown field"
    for name, value in body.items():
        found = {_leaf_problem(name, leaf) for leaf in _leaves(value)}
        for problem in sorted(found - {""}):
            yield str(name), problem


def _leaf_problem(name: object, leaf: object) -> str:
    match leaf:
        case str() if _SURROGATE.search(leaf):
            return "has half of a surrogate pair"
        case str() if name in ARGUMENT_FIELDS and "\0" in leaf:
            return "must not have a NUL"
        case float() if not math.isfinite(leaf):
            return "must be a finite number"
        case _:
            return ""


_SURROGATE = re.compile("[\ud800-\udfff]")


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


def _duplicates(tasks: Sequence[tuple[str, Any]], field_name: str) -> Iterator[str]:
    first: dict[str, str] = {}
    for place, body in tasks:
        value = body.get(field_name) if isinstance(body, dict) else None
        if value and isinstance(value, str) and first.setdefault(value, place) != place:
            yield f"{place}: {field_name} {shown(value)} is taken by {first[value]}"
