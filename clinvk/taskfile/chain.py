"""From the text of a chain's file to its steps, each with what it takes from those before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from clinvk.core.placeholders import Placeholder, find
from clinvk.core.spec import TaskSpec
from clinvk.core.suggestions import did_you_mean
from clinvk.taskfile import reader


class ChainFileOptions(BaseModel):
    """The top level of a chain's file, beside its steps."""

    model_config = ConfigDict(extra="forbid", strict=True)

    stop_on_failure: bool = True
    pass_working_dir: bool = False
    output_dir: Annotated[str, Field(min_length=1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain that is in order; `sources` names each step's place, for messages."""

    steps: Sequence[TaskSpec]
    sources: Sequence[str]
    stop_on_failure: bool
    output_dir: str | None


def parse(text: str, name: str, backends: Mapping[str, bool]) -> Chain:
    """Validate a chain's file.

    Raises:
        TaskFileError: with all problems of the file.
    """
    content = reader.load(text, name, backends, SCHEMA)
    options = content.options
    return Chain(
        steps=list(_connected(content.tasks, pass_working_dir=options.pass_working_dir)),
        sources=content.sources,
        stop_on_failure=options.stop_on_failure,
        output_dir=options.output_dir,
    )


def _connected(steps: Sequence[TaskSpec], *, pass_working_dir: bool) -> Iterator[TaskSpec]:
    """Say of each step which outputs it takes, and where it runs."""
    indexes: dict[str | None, int] = {}
    workdir = None
    for index, step in enumerate(steps):
        indexes[None] = index - 1  # the previous one
        workdir = step.workdir or workdir
        yield dataclasses.replace(
            step,
            inputs={found.text: indexes[found.step] for found in find(step.prompt)},
            workdir=workdir if pass_working_dir else step.workdir,
        )
        if step.name:
            indexes[step.name] = index


def _problems(raw: reader.RawTasks) -> Iterator[str]:
    """Find placeholders that stand for nothing."""
    names = [_text(body, "name") or None for _, body in raw.tasks]
    for index, (number, body) in enumerate(raw.tasks):
        for found in dict.fromkeys(find(_text(body, "prompt"))):
            if problem := found.problem or _problem(found, index, names):
                yield f"{raw.at(number, 'prompt')}: {problem}"


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
    return value if isinstance(value, str) else ""  # what else it is, is told elsewhere


SCHEMA = reader.FileSchema(
    key="steps", options=ChainFileOptions, unique=("id", "name"), check=_problems
)
