"""Read a chain's file: its steps, and which outputs of earlier steps each of them takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from clinvk.core.placeholders import Placeholder, find
from clinvk.core.spec import TaskSpec
from clinvk.core.suggestions import did_you_mean
from clinvk.taskfile import reader
from clinvk.taskfile.raw_tasks import RawTasks
from clinvk.taskfile.schema import FileHeader, FileSchema, ParsedFile


class ChainFileHeader(FileHeader):
    """The top level of a chain's file, beside its steps."""

    stop_on_failure: bool = True
    pass_working_dir: bool = False


def parse(
    stream: Iterable[bytes],
    name: str,
    backends: Mapping[str, bool],
    resolve: reader.Resolve = reader.unchanged,
) -> ParsedFile[ChainFileHeader]:
    """Parse and validate a chain's file; its tasks are the steps, in order and in memory.

    The arguments are those of `reader.parse`.

    Raises:
        TaskFileError: with all problems of the file.
    """
    parsed = reader.parse(stream, name, backends, STEPS, resolve)
    steps = _connected(parsed.tasks, pass_working_dir=parsed.header.pass_working_dir)
    return dataclasses.replace(parsed, tasks=list(steps))


def _connected(steps: Sequence[TaskSpec], *, pass_working_dir: bool) -> Iterator[TaskSpec]:
    """Yield each step with the indexes of the steps whose outputs it takes."""
    names = [step.name for step in steps]
    workdir = None
    for index, step in enumerate(steps):
        workdir = step.workdir or workdir
        yield dataclasses.replace(
            step,
            inputs=inputs_of(step.prompt, index, names),
            workdir=workdir if pass_working_dir else step.workdir,
        )


def inputs_of(prompt: str, index: int, names: Sequence[str | None]) -> dict[str, int]:
    """Return the placeholders of a step's prompt, each with the index of the step it stands for."""
    return {
        found.text: index - 1 if found.step is None else names.index(found.step)
        for found in find(prompt)
    }


def problems_of(
    prompt: str, index: int, names: Sequence[str | None], have_schema: Sequence[bool]
) -> Iterator[str]:
    """Yield a message for each placeholder of a step's prompt that has nothing to stand for.

    `names` and `have_schema` are those of all steps.
    """
    for found in dict.fromkeys(find(prompt)):
        if problem := found.problem or _problem(found, index, names):
            yield problem
        elif found.path is not None and not have_schema[names.index(found.step)]:
            yield f'{found.text}: "{found.step}" has no schema, and so no data'


def _problems(raw: RawTasks) -> Iterator[str]:
    """Yield a message for each placeholder that has no output to stand for."""
    names = [_text(body, "name") or None for _, body in raw.tasks]
    default = raw.header.get("schema")
    have_schema = [
        isinstance(body, dict) and body.get("schema", default) is not None for _, body in raw.tasks
    ]
    for index, (number, body) in enumerate(raw.tasks):
        for problem in problems_of(_text(body, "prompt"), index, names, have_schema):
            yield f"{raw.numbering.place(number, 'prompt')}: {problem}"


def _problem(found: Placeholder, index: int, names: Sequence[str | None]) -> str | None:
    before = names[:index]
    if index == 0:
        return f"{found.text} cannot be used in the first step: no step comes before it"
    if found.step is None or found.step in before:
        return None
    if found.step not in names:
        hint = did_you_mean(found.step, filter(None, before))
        return f'{found.text}: there is no step "{found.step}"{hint}'
    which = "this step" if found.step == names[index] else "a later step"
    return f'{found.text}: "{found.step}" is {which}, and has no output yet'


def _text(body: Any, field: str) -> str:
    value = body.get(field) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""  # anything else is reported as a wrong type


STEPS = FileSchema(key="steps", header=ChainFileHeader, unique=("id", "name"), check=_problems)
EDITED_STEPS = dataclasses.replace(STEPS, check=None)
"""Some steps of a chain, whose placeholders stand for outputs of others as well."""
