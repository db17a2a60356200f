"""From a task file's text to `TaskSpec`s, with everything that is wrong with it at once.

JSON (`{"tasks": [...]}` or a bare list), JSON Lines (one task a line, whatever the file is
called, so that `head -n 10` gives a task file again) and YAML, all through the same models. What
a file has at its top is its `FileSchema`: the tasks of `parallel` here, the steps of a chain in
`clinvk.taskfile.chain`.
"""

from __future__ import annotations

import codecs
import dataclasses
import io
import json
import math
import re
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, Annotated, Any, Generic, NoReturn, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from clinvk.core import yaml_document
from clinvk.core.errors import TaskFileError
from clinvk.core.spec import GIVEN_BY_RUN, TaskSpec
from clinvk.core.suggestions import did_you_mean
from clinvk.core.validation_errors import describe, shown
from clinvk.runs.spool import Records, Spool
from clinvk.taskfile import extract

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


class SourceLocations(Sequence[str]):
    """Where each task stands, for messages: `tasks.json: tasks[4]`. Keeps its number only."""

    def __init__(self, before: str, after: str) -> None:
        self._before = before
        self._after = after
        self._numbers = array("I")

    def add(self, number: int) -> None:
        """Add the place of the next task."""
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return f"{self._before}{self._numbers[index]}{self._after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBatch:
    """A task file that is in order.

    `tasks` and `sources`, the place of each, need not be in memory; `backends` are those that
    the tasks name. The options are None where the file does not set them.
    """

    tasks: Sequence[TaskSpec]
    sources: Sequence[str]
    backends: Collection[str]
    max_parallel: int | None = None
    fail_fast: bool | None = None
    output_dir: str | None = None


class FileOptions(BaseModel):
    """The top level of a task file, beside its tasks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_parallel: Annotated[int, Field(ge=1)] | None = None
    fail_fast: bool | None = None
    output_dir: Annotated[str, Field(min_length=1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTasks:
    """A file's tasks before they are looked at, each with its number.

    A number between `before` and `after` is a task's place in the file. The tasks may be read
    as they are asked for, and more problems be found on the way.
    """

    tasks: Iterable[tuple[int, Any]]
    before: str
    after: str
    separator: str = "."
    options: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def at(self, number: int, field_name: str = "") -> str:
        """Return the place of a task's field; of the task itself, where there is no field."""
        place = f"{self.before}{number}{self.after}"
        return f"{place}{self.separator}{field_name}" if field_name else place


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSchema(Generic[Options]):
    """What stands at the top of a file: a list called `key`, and `options` beside it.

    `unique` are fields that no two tasks may have the same; `check` finds what is wrong with
    the tasks beyond each one's own fields, and has them all in memory for it.
    """

    key: str
    options: type[Options]
    unique: Sequence[str] = ("id",)
    check: Callable[[RawTasks], Iterator[str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFile(Generic[Options]):
    """A file that is in order; `sources` names each task's place."""

    tasks: Sequence[TaskSpec]
    sources: Sequence[str]
    backends: Collection[str]
    options: Options


TASKS = FileSchema(key="tasks", options=FileOptions)

Settle = Callable[[TaskSpec], TaskSpec]


def _as_it_is(spec: TaskSpec) -> TaskSpec:
    return spec


@contextmanager
def opened(
    path: str | None, stdin: IO[bytes], what: str = "task file"
) -> Iterator[tuple[IO[bytes], str]]:
    """Give a task file, or stdin where there is none, and its name.

    Raises:
        TaskFileError: it cannot be read, at once or later on.
    """
    piped = path is None or path == "-"
    name = STDIN if path is None or piped else path
    if piped and stdin.isatty():
        _fail(f"no {what}: give one with --file, or pipe one to standard input")
    try:
        with nullcontext(stdin) if piped else Path(name).open("rb") as stream:
            yield stream, name
    except IsADirectoryError:
        _fail(f"{name}: is a directory, not a {what}")
    except FileNotFoundError:
        _fail(f"{name}: no such file")
    except OSError as error:
        _fail(f"{name}: cannot be read: {error.strerror}")


def read(path: str | None, stdin: IO[bytes], what: str = "task file") -> tuple[str, str]:
    """Read a file, or stdin where there is none; returns its text and its name.

    Raises:
        TaskFileError: it cannot be read, or is not UTF-8.
    """
    with opened(path, stdin, what) as (stream, name):
        return "".join(_decoded(stream, name)), name


def parse(
    stream: Iterable[bytes],
    name: str,
    backends: Mapping[str, bool],
    settle: Settle = _as_it_is,
    *,
    is_lenient: bool = False,
) -> TaskBatch:
    """Validate a task file, of which JSON Lines are read line by line.

    `backends` says which there are, and whether they are enabled. Each task is kept as `settle`
    gives it back. `is_lenient` lets the file stand between a model's words, or in a Markdown code
    fence.

    Raises:
        TaskFileError: with all problems of the file.
    """
    lines = _decoded(stream, name)
    with _not_too_deep(name):
        raw = _find("".join(lines), name, TASKS.key) if is_lenient else _raw(lines, name, TASKS.key)
        content = _validate(raw, name, backends, TASKS, settle)
    return TaskBatch(
        tasks=content.tasks,
        sources=content.sources,
        backends=content.backends,
        **dict(content.options),
    )


def load(
    text: str, name: str, backends: Mapping[str, bool], schema: FileSchema[Options]
) -> ParsedFile[Options]:
    """Validate a file of this schema.

    Raises:
        TaskFileError: with all problems of the file.
    """
    with _not_too_deep(name):
        raw = _raw(io.StringIO(text), name, schema.key)
        return _validate(raw, name, backends, schema, _as_it_is)


@contextmanager
def _not_too_deep(name: str) -> Iterator[None]:
    try:
        yield
    except RecursionError:
        _fail(f"{name}: is nested too deeply")


def _validate(
    raw: RawTasks,
    name: str,
    backends: Mapping[str, bool],
    schema: FileSchema[Options],
    settle: Settle,
) -> ParsedFile[Options]:
    if schema.check is not None:
        raw = dataclasses.replace(raw, tasks=list(raw.tasks))
    tasks, sources = Spool(TaskSpec), SourceLocations(f"{name}: {raw.before}", raw.after)
    named: dict[str, None] = {}
    unique = {field_name: _Values() for field_name in schema.unique}
    problems: list[str] = []
    number = None
    for number, body in raw.tasks:
        task, found = check_task(body, backends)
        problems += [f"{raw.at(number, at)}: {what}" for at, what in found]
        for field_name, values in unique.items():
            values.add(body.get(field_name) if isinstance(body, dict) else None, number)
        if task is not None:
            tasks.append(settle(task))
            sources.add(number)
            named[task.backend] = None
    options, wrong = _options(raw.options, schema)
    wrong = raw.problems + wrong
    if number is None and not wrong:
        wrong.append(f"has no {schema.key}")
    problems = wrong + problems
    for field_name, values in unique.items():
        problems += [
            f"{raw.at(number)}: {field_name} {shown(value)} is already used by {raw.at(first)}"
            for number, value, first in values.repeated()
        ]
    problems += schema.check(raw) if schema.check is not None else ()
    if problems or options is None:
        raise TaskFileError([f"{name}: {problem}" for problem in problems])
    return ParsedFile(tasks=tasks, sources=sources, backends=named, options=options)


def _options(
    given: dict[str, Any], schema: FileSchema[Options]
) -> tuple[Options | None, list[str]]:
    try:
        return schema.options.model_validate(given), []
    except ValidationError as error:
        known = (*schema.options.model_fields, schema.key)
        return None, [f"{_place(item['loc'])}: {describe(item, known)}" for item in error.errors()]


def _fail(problem: str) -> NoReturn:
    raise TaskFileError([problem])


# From bytes to plain values.


def _decoded(stream: Iterable[bytes], name: str) -> Iterator[str]:
    """Yield the lines with their ends."""
    position = 0
    for line in stream:
        if not position:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            _fail(f"{name}: is not UTF-8 text (byte {position + error.start}); save it as UTF-8")
        position += len(line)


def _find(text: str, name: str, key: str) -> RawTasks:
    """Load a file that may have something around it; what is in order as it is stays so."""
    try:
        return _load(text, name, key)
    except TaskFileError as error:
        problem = error
    for pieces in (extract.fenced(text), extract.bare(text)):
        found = []
        for piece in pieces:
            try:
                found.append(_load(piece, name, key))
            except TaskFileError as error:
                problem = error
        if len(found) > 1:
            _fail(f"{name}: has {len(found)} passages that could be the task file: keep one")
        if found:
            return found[0]
    raise problem


def _load(text: str, name: str, key: str) -> RawTasks:
    if not text.strip():
        _fail(f"{name}: is empty")
    return _whole(text, name, key)


def _raw(lines: Iterator[str], name: str, key: str) -> RawTasks:
    """Find out what a file is. It is read whole, unless it begins as JSON Lines do."""
    head = []
    for line in lines:
        head.append(line)
        if not line.isspace():
            break
    else:
        _fail(f"{name}: is empty")
    if line.startswith("{") and not _is_yaml(name):
        first = len(head), line
        rest = (pair for pair in enumerate(lines, start=len(head) + 1) if not pair[1].isspace())
        with suppress(json.JSONDecodeError):
            value, problems = _json(line)
            second = next(rest, None)
            if second is None:
                return _document(value, problems, name, key)
            return _json_lines(chain([first, second], rest), name)
    return _whole("".join(chain(head, lines)), name, key)


def _is_yaml(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _whole(text: str, name: str, key: str) -> RawTasks:
    if _is_yaml(name):
        return _document(*_yaml(text, name), name, key)
    try:
        return _document(*_json(text), name, key)
    except json.JSONDecodeError as error:
        # Not splitlines(): JSON allows U+2028 and its like inside of a string.
        lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) > 1 and all(_is_object(line) for _, line in lines):
            return _json_lines(lines, name)
        if text.lstrip()[0] in "{[":
            disconnected = " (is the file truncated?)" if _at_end(error) else ""
            _fail(_not_json(name, _what(error), error.lineno, error.colno) + disconnected)
    return _document(*_yaml(text, name), name, key)


def _is_object(line: str) -> bool:
    """Whether a line looks like an object of its own; it may be broken."""
    return line.startswith("{") and line.rstrip() != "{"


def _not_json(name: str, what: str, line: int, column: int) -> str:
    return f"{name}: is not valid JSON: {what} at line {line}, column {column}"


def _what(error: json.JSONDecodeError) -> str:
    """Return json's message without its last word, where that expects a place to follow."""
    return error.msg.removesuffix(" at")


def _at_end(error: json.JSONDecodeError) -> bool:
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")


class _Json:
    """Parses JSON, and notes what the parser itself would let pass."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._decode = json.JSONDecoder(
            object_pairs_hook=self._mapping, parse_constant=self._constant, parse_int=_integer
        ).decode

    def __call__(self, text: str) -> tuple[Any, list[str]]:
        self._problems = []
        return self._decode(text), self._problems

    def _mapping(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [key for key, _ in pairs]
            twice = sorted({key for key in names if names.count(key) > 1})
            self._problems.append(f"duplicate key in object: {', '.join(map(shown, twice))}")
        return result

    def _constant(self, word: str) -> None:
        self._problems.append(f"{word} is not valid in JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < MAX_DIGITS else math.inf


_json = _Json()


def _json_lines(lines: Iterable[tuple[int, str]], name: str) -> RawTasks:
    problems: list[str] = []
    return RawTasks(
        tasks=_bodies(lines, name, problems),
        before="line ",
        after="",
        separator=": ",
        problems=problems,
    )


def _bodies(
    lines: Iterable[tuple[int, str]], name: str, problems: list[str]
) -> Iterator[tuple[int, Any]]:
    second: tuple[int, str] | None = None
    for count, (number, line) in enumerate(lines):
        if count == 1:
            second = (number, line)
        if second is not None and not _is_object(line):
            # So it is a document that should have ended before its second line.
            at, text = second
            column = len(text) - len(text.lstrip(" \t\r")) + 1
            _fail(_not_json(name, "Extra data", at, column))
        try:
            body, found = _json(line.removesuffix("\n"))
        except json.JSONDecodeError as error:
            problems.append(
                f"line {number}: is not valid JSON: {_what(error)} at column {error.colno}"
            )
        else:
            problems += [f"line {number}: {problem}" for problem in found]
            yield number, body


def _yaml(text: str, name: str) -> tuple[Any, list[str]]:
    try:
        return yaml_document.load(text), []
    except ValueError as error:
        _fail(f"{name}: {error}")


def _document(value: Any, problems: list[str], name: str, key: str) -> RawTasks:
    match value:
        case dict() if key in value:
            tasks = value[key]
            if not isinstance(tasks, list):
                _fail(f"{name}: {key}: must be a list (got {shown(tasks)})")
            options = {str(option): set_ for option, set_ in value.items() if option != key}
            return RawTasks(
                tasks=enumerate(tasks),
                before=f"{key}[",
                after="]",
                options=options,
                problems=problems,
            )
        case dict() if other := next((other for other in COMMANDS if other in value), None):
            _fail(f"{name}: has {other}, not {key}: run it with {COMMANDS[other]}")
        case {"backend": _} | {"prompt": _}:  # JSON Lines of one line
            line = [(1, value)]
            return RawTasks(tasks=line, before="line ", after="", separator=": ", problems=problems)
        case list():
            return RawTasks(tasks=enumerate(value), before="[", after="]", problems=problems)
        case _:
            _fail(f'{name}: must be an object with a list of "{key}" (got {shown(value)})')


# From plain values to tasks.


def check_task(
    body: Any, backends: Mapping[str, bool]
) -> tuple[TaskSpec | None, list[tuple[str, str]]]:
    """Validate one task; returns it, or pairs of a field's place in it and what is wrong."""
    if not isinstance(body, dict):
        return None, [("", f"must be an object (got {shown(body)})")]
    text = _plain_json(body)
    problems = [] if text else list(_value_problems(body))
    said = {at for at, _ in problems}
    task = None
    try:
        if text is None:
            fit = {name: None if str(name) in said else value for name, value in body.items()}
            text = _ENCODER.encode(fit)
        task = _TASK.validate_json(text)
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
    raise TypeError(f"has a value that JSON cannot represent: {shown(value)}")


_ENCODER = json.JSONEncoder(default=_refuse)


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
        return f'unknown backend "{name}"{did_you_mean(name, known)} (known: {", ".join(known)})'
    if not backends[name]:
        return f'backend "{name}" is disabled in the configuration (backends.{name}.enabled)'
    return None


def _plain_json(body: Mapping[str, Any]) -> str | None:
    """Encode a task, unless it might have one of `_value_problems`: it takes time to look."""
    if not GIVEN_BY_RUN.isdisjoint(body):
        return None
    try:
        text = _ENCODER.encode(body)
    except TypeError:
        return None
    return None if any(trace in text for trace in _TRACES) else text


_TRACES = ("\\ud", "\\u0000", "Infinity", "NaN")
"""What such values leave in JSON: surrogates (of pairs, too), a NUL, numbers without an end."""


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
            return "has an unpaired surrogate"
        case str() if name in ARGUMENT_FIELDS and "\0" in leaf:
            return "must not contain a NUL character"
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


class _Values:
    """A field's value in each task, and which of them stand twice; 24 bytes of memory for each."""

    def __init__(self) -> None:
        self._texts = Records()
        self._hashes = array("q")
        self._numbers = array("I")

    def add(self, value: Any, number: int) -> None:
        """Take note of the value in one task, if it is a text."""
        if value and isinstance(value, str):
            self._texts.append(value.encode("utf-8", "surrogatepass"))
            self._hashes.append(hash(value))
            self._numbers.append(number)

    def repeated(self) -> Iterator[tuple[int, str, int]]:
        """Yield each task whose value is taken, that value, and the task that it was taken by."""
        suspects = {one for one, next_ in pairwise(sorted(self._hashes)) if one == next_}
        first: dict[bytes, int] = {}
        for place, number in enumerate(self._numbers):
            if self._hashes[place] in suspects:
                text = self._texts[place]
                taken_by = first.setdefault(text, number)
                if taken_by != number:
                    yield number, text.decode("utf-8", "surrogatepass"), taken_by
