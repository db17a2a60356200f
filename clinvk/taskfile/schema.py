"""What a kind of file has at its top, and what validating it gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from clinvk.core.amounts import TOKENS_PATTERN, tokens_of
from clinvk.core.durations import FOR_EVER, PATTERN, wait_seconds
from clinvk.core.prices import MOST_USD
from clinvk.core.requirements import TAG_PATTERN, TAGS
from clinvk.core.spec import RetryKind, TaskSpec, Workspace
from clinvk.taskfile.raw_tasks import RawTasks

COMMANDS = {"tasks": "clinvk parallel", "steps": "clinvk chain"}
"""The lists that a file can have at its top, and the command that runs each."""


def _checked_wait(value: Any) -> Any:
    if value is not None:
        wait_seconds(value)
    return value


WAIT_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": f"^({PATTERN}|{FOR_EVER})$"},
    ]
}
MaxWait = Annotated[float | str, BeforeValidator(_checked_wait), WithJsonSchema(WAIT_SCHEMA)]
"""For how long limits may hold up a task: a duration, or `none` for ever; kept as it is written."""
Fallback = list[Annotated[str, Field(min_length=1)]]
Retries = Annotated[int, Field(ge=0)]


def _checked_tokens(value: Any) -> Any:
    tokens_of(value)
    return value


TokenCount = Annotated[
    int | str,
    BeforeValidator(_checked_tokens),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": f"^{TOKENS_PATTERN}$"},
            ]
        }
    ),
]
"""A number of tokens, `500k` or `2M`; kept as it is written."""


Requires = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                TAGS: {"type": "array", "items": {"type": "string", "pattern": f"^{TAG_PATTERN}$"}}
            },
            "additionalProperties": {"type": "string"},
        }
    ),
]
"""What workers must have; `requirement_problems` says what is wrong with one."""


class FileHeader(BaseModel):
    """What a file sets beside its tasks. None is what it does not set.

    The fields after `requires` are defaults of its tasks. `schema` and `verify` are as
    `answer_fields` has made them.
    """

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    output_dir: Annotated[str, Field(min_length=1)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0, le=MOST_USD, allow_inf_nan=False)] | None = None
    max_tokens_total: TokenCount | None = None
    requires: Requires | None = None
    max_wait: MaxWait | None = None
    retries: Retries | None = None
    retry_on: list[RetryKind] | None = None
    retry_after_changes: bool | None = None
    fallback: Fallback | None = None
    answer_schema: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    schema_repairs: Retries | None = None
    verify: Annotated[list[str], Field(min_length=1)] | None = None
    verify_retries: Retries | None = None
    verify_timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    reuse: bool | None = None
    workspace: Workspace | None = None
    repo: Annotated[str, Field(pattern=r"\S")] | None = None
    ref: Annotated[str, Field(pattern=r"\S")] | None = None
    include_changes: bool | None = None
    setup: Annotated[str, Field(pattern=r"\S")] | None = None
    setup_timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def task_defaults(self) -> dict[str, Any]:
        """Return what is set of the fields that are defaults of the tasks."""
        return self.model_dump(include=set(TASK_DEFAULTS), exclude_none=True, by_alias=True)


TASK_DEFAULTS = (
    *("max_wait", "retries", "retry_on", "retry_after_changes", "fallback", "reuse"),
    *("answer_schema", "schema_repairs", "verify", "verify_retries", "verify_timeout_seconds"),
    *("workspace", "repo", "ref", "include_changes", "setup", "setup_timeout_seconds"),
)


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

    `tasks` and `sources`, the place of each task, need not be in memory. `choices` are the
    backends that tasks may start with: for each task any of some (`TaskSpec.choices`). `backends`
    are the names of all that may run one; with `has_fallback` there are such that may only go on.
    """

    tasks: Sequence[TaskSpec]
    sources: Sequence[str]
    backends: Collection[str]
    choices: Collection[tuple[str, ...]]
    has_fallback: bool
    header: Header


TASKS = FileSchema(key="tasks", header=TaskFileHeader)
