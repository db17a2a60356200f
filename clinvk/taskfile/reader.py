"""Read a task file: from its bytes to `TaskSpec`s, with everything that is wrong with it at once.

JSON (`{"tasks": [...]}` or a bare list), JSON Lines (one task a line, so that `head -n 10` of a
file is a file again) and YAML, all through the same models. The steps of a chain are read in the
same way (`clinvk.taskfile.chain`): a kind of file is a `FileSchema`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from clinvk.core.errors import TaskFileError
from clinvk.core.spec import TaskSpec
from clinvk.core.validation_errors import describe, shown
from clinvk.runs.spool import Spool
from clinvk.taskfile import answer_fields, parsing
from clinvk.taskfile.answer_fields import Schemas
from clinvk.taskfile.raw_tasks import RawTasks, SourceLocations
from clinvk.taskfile.routes import fallback_problems, requirement_problems
from clinvk.taskfile.schema import FileSchema, Header, ParsedFile
from clinvk.taskfile.sources import decode_lines, fail
from clinvk.taskfile.task_validation import check_task, place_of
from clinvk.taskfile.unique import UniqueValues

Resolve = Callable[[TaskSpec], TaskSpec]


def unchanged(spec: TaskSpec) -> TaskSpec:
    """Resolve nothing."""
    return spec


def parse(
    stream: Iterable[bytes],
    name: str,
    backends: Mapping[str, bool],
    schema: FileSchema[Header],
    resolve: Resolve = unchanged,
    *,
    is_lenient: bool = False,
) -> ParsedFile[Header]:
    """Parse and validate a file, of which JSON Lines are read line by line.

    `name` is what messages call the file. `backends` has the name of each backend, and whether
    it is enabled. Each task is kept as `resolve` returns it. With `is_lenient` the file may be
    surrounded by other text, or be in a Markdown code fence.

    Raises:
        TaskFileError: with all problems of the file.
    """
    lines = decode_lines(stream, name)
    with _not_too_deep(name):
        if is_lenient:
            raw = parsing.extract_tasks("".join(lines), name, schema.key)
        else:
            raw = parsing.parse_lines(lines, name, schema.key)
        return _validated(raw, name, backends, schema, resolve)


@contextmanager
def _not_too_deep(name: str) -> Iterator[None]:
    try:
        yield
    except RecursionError:
        fail(f"{name}: is nested too deeply")


def validate(
    raw: RawTasks,
    name: str,
    backends: Mapping[str, bool],
    schema: FileSchema[Header],
    resolve: Resolve = unchanged,
) -> ParsedFile[Header]:
    """Validate tasks that are in no file; the arguments are those of `parse`.

    Raises:
        TaskFileError: with all problems of the tasks.
    """
    with _not_too_deep(name):
        return _validated(raw, name, backends, schema, resolve)


def _validated(
    raw: RawTasks,
    name: str,
    backends: Mapping[str, bool],
    schema: FileSchema[Header],
    resolve: Resolve,
) -> ParsedFile[Header]:
    if schema.check is not None:
        raw = dataclasses.replace(raw, tasks=list(raw.tasks))
    schemas = Schemas.beside(name)
    locations = SourceLocations(name, raw.numbering)
    tasks = _ValidTasks(locations, backends, resolve, schema.unique, schemas)
    header, problems = _header(raw.header, schema, backends, schemas)
    defaults = header.task_defaults() if header is not None else {}
    for number, body in raw.tasks:
        tasks.add(number, body, defaults)
    problems = [*raw.problems, *problems]  # only now are all of the file's own known
    if not tasks.count and not problems:
        problems.append(f"has no {schema.key}")
    problems += tasks.problems
    problems += tasks.repeated()
    problems += schema.check(raw) if schema.check is not None else ()
    if problems or header is None:
        raise TaskFileError([f"{name}: {problem}" for problem in problems])
    return ParsedFile(
        tasks=tasks.specs,
        sources=tasks.sources,
        backends=dict.fromkeys(name for names in tasks.backends for name in names),
        choices=tasks.choices,
        has_fallback=tasks.has_fallback,
        header=header,
    )


class _ValidTasks:
    """The valid tasks of a file, and the problems of the others; little memory for each."""

    def __init__(
        self,
        sources: SourceLocations,
        backends: Mapping[str, bool],
        resolve: Resolve,
        unique: Iterable[str],
        schemas: Schemas,
    ) -> None:
        self.count = 0
        self.specs = Spool(TaskSpec)
        self.sources = sources
        self.backends: dict[tuple[str, ...], None] = {}
        self.choices: dict[tuple[str, ...], None] = {}
        self.has_fallback = False
        self.problems: list[str] = []
        self._place = sources.numbering.place
        self._known_backends = backends
        self._resolve = resolve
        self._schemas = schemas
        self._unique = {field_name: UniqueValues() for field_name in unique}

    def add(self, number: int, body: Any, defaults: Mapping[str, Any]) -> None:
        """Validate a task, whose file has these defaults, and keep it or its problems."""
        self.count += 1
        task, problems = check_task(body, self._known_backends, defaults, self._schemas)
        self.problems += [f"{self._place(number, at)}: {what}" for at, what in problems]
        for field_name, values in self._unique.items():
            values.add(body.get(field_name) if isinstance(body, dict) else None, number)
        if task is not None:
            task = self._resolve(task)
            self.specs.append(task)
            self.sources.add(number)
            self.backends[task.backends] = self.choices[task.choices] = None
            self.has_fallback = self.has_fallback or bool(task.fallback)

    def repeated(self) -> Iterator[str]:
        """Yield the problems of fields that must be unique in the file."""
        for field_name, values in self._unique.items():
            for number, value, first in values.repeated():
                yield (
                    f"{self._place(number)}: {field_name} {shown(value)} "
                    f"is already used by {self._place(first)}"
                )


def _header(
    given: dict[str, Any],
    schema: FileSchema[Header],
    backends: Mapping[str, bool],
    schemas: Schemas,
) -> tuple[Header | None, list[str]]:
    fields, found = answer_fields.plain(given, schemas)
    fields = {**fields, **dict.fromkeys(at for at, _ in found)}
    found += fallback_problems(given.get("fallback"), backends)
    found += requirement_problems(given.get("requires"), backends)
    problems = [f"{at}: {what}" for at, what in found]
    try:
        header = schema.header.model_validate(fields)
    except ValidationError as error:
        names = (entry.alias or name for name, entry in schema.header.model_fields.items())
        known = (*names, schema.key)
        wrong = {
            f"{place_of(item['loc'])}: {describe(item, known)}": None for item in error.errors()
        }
        return None, [*wrong, *problems]
    return None if problems else header, problems
