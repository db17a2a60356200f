"""What a kind of file has at its top, and what validating it gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from clinvk.core.spec import TaskSpec
from clinvk.taskfile.raw_tasks import RawTasks

COMMANDS = {"tasks": "clinvk parallel", "steps": "clinvk chain"}
"""The lists that a file can have at its top, and the command that runs each."""


class FileHeader(BaseModel):
    """What a file sets beside its tasks. None is what it does not set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    output_dir: Annotated[str, Field(min_length=1)] | None = None


class TaskFileHeader(FileHeader):
    """The top level of a task file, beside its tasks."""

    max_parallel: Annotated[int, Field(ge=1)] | None = None
    fail_fast: bool | None = None


Header = TypeVar("Header", bound=FileHeader)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSchema(Generic[Header]):
    """A kind of file: a list called `key`, and `header` beside it.

    No two tasks may have the same value in a field of `unique`. `check` yields what is wrong
    with the tasks beyond each one's own fields; for it, all of them are held in memory.
    """

    key: str
    header: type[Header]
    unique: Sequence[str] = ("id",)
    check: Callable[[RawTasks], Iterator[str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFile(Generic[Header]):
    """A valid file.

    `tasks` and `sources`, the place of each task, need not be in memory. `backends` are the
    names that the tasks mention.
    """

    tasks: Sequence[TaskSpec]
    sources: Sequence[str]
    backends: Collection[str]
    header: Header


TASKS = FileSchema(key="tasks", header=TaskFileHeader)
