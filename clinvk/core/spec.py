"""The types that client and workers exchange: tasks, their results, runs.

Each is defined here and nowhere else. The task file is validated against `TaskSpec`'s
annotations (by `clinvk.taskfile.task_validation`), workers decode the same class from Redis with
`from_wire`. The constraints are `annotated_types`, so a worker needs no pydantic.

Wire format: one JSON object with `"v": WIRE_VERSION`, without fields that have their default. A
reader accepts its own version and older ones. It refuses newer ones, because a field that it does
not know could be a limit that it would not enforce. Each value is held against its annotation
(`clinvk.core.wire_checks`), because whoever reaches Redis can write there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, MinLen, Predicate

from clinvk.core import wire_checks
from clinvk.core.changes import Changes
from clinvk.core.errors import WireError
from clinvk.core.nesting import Shallow
from clinvk.core.network import NetworkAccess
from clinvk.core.requirements import NOTHING, Requirements
from clinvk.core.schemas import DEEPEST

WIRE_VERSION = 1

ApprovalMode = Literal["default", "auto", "none", "always"]
OnWorkerLost = Literal["retry", "fail"]
SandboxMode = Literal["default", "read-only", "workspace", "full"]
Workspace = Literal["shared", "worktree"]
"""Where a task works: in its working directory, or in a worktree of its repository of its own."""
RunKind = Literal["parallel", "chain", "compare"]
RetryKind = Literal["failed", "timeout", "overloaded", "refused", "auth"]
"""The kinds of errors that another try may mend; `overloaded` is always tried again."""
StepDetail = Literal["off", "summary", "full"]
"""What is kept of the steps of a task: nothing, what each was, or the CLI's own lines as well."""
OnBudget = Literal["finish", "stop"]
"""What becomes of what runs when a budget is used up: it ends by itself, or is stopped."""
CostSource = Literal["cli", "estimated", "unknown"]
"""Who says what an execution cost: its CLI, or a price list and its tokens; or nobody."""


class TaskStatus(StrEnum):
    """How a task ended. Every task of a run ends in exactly one of these."""

    OK = "ok"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMEOUT = "timeout"
    LOST = "lost"


class ErrorKind(StrEnum):
    """Why a task is not ok: what a script would branch on."""

    FAILED = "failed"
    RATE_LIMITED = "rate_limited"
    USAGE_LIMIT = "usage_limit"
    OVERLOADED = "overloaded"
    AUTH = "auth"
    QUOTA = "quota"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    CANCELED = "canceled"
    LOST = "lost"
    NOT_INSTALLED = "not_installed"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    INVALID_ANSWER = "invalid_answer"
    VERIFY_FAILED = "verify_failed"
    BUDGET = "budget"


DEFAULT_SCHEMA_REPAIRS = 1
DEFAULT_RETRIES = 2
DEFAULT_MAX_WAIT_SECONDS = 900.0


def not_blank(text: str) -> bool:
    """Whether the text has a character that is not white space."""
    return bool(text.strip())


_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Wire:
    """JSON encoding shared by the types that cross the wire."""

    __slots__ = ()

    def to_wire(self) -> bytes:
        """Encode as one JSON object in UTF-8, fields at their default left out."""
        body: dict[str, Any] = {"v": WIRE_VERSION}
        for name, default in _defaults(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if value != default:
                body[name] = value if type(value) in _PLAIN else _plain(value)
        try:
            return _COMPACT.encode(body).encode()
        except UnicodeEncodeError:  # half a surrogate pair, which only an escape can carry
            return json.dumps(body, separators=(",", ":")).encode()

    @classmethod
    def from_wire(cls, text: str | bytes) -> Self:
        """Decode what `to_wire` of this or an older version wrote.

        Raises:
            WireError: not JSON, a newer version, or fields that do not fit.
        """
        try:
            return cls._from_fields(cls._decode(text))
        except RecursionError as error:
            raise WireError(f"cannot decode a {cls.__name__}: it is nested too deeply") from error
        except (ValueError, TypeError, KeyError, WireError) as error:
            raise WireError(f"cannot decode a {cls.__name__}: {error}") from error

    @classmethod
    def _decode(cls, text: str | bytes) -> dict[str, Any]:
        """Decode the fields of an object of a version that can be read."""
        body = json.loads(text)
        if not isinstance(body, dict):
            raise WireError("must be an object")
        version = body.pop("v", None)
        if type(version) is not int:
            raise WireError("its wire version is missing")
        if version > WIRE_VERSION:
            raise WireError(
                f"it is of wire version {version}, and this clinvk reads up to {WIRE_VERSION}: "
                "upgrade it"
            )
        return body

    @classmethod
    def _from_fields(cls, body: dict[str, Any]) -> Self:
        """Make one of decoded fields, each of which is held against its annotation."""
        for _, wrong in wire_checks.problems(cls, body):
            raise WireError(wrong)
        return cls(**body)


_PLAIN = frozenset({bool, dict, float, int, str})
"""Types of which JSON has each value as it is."""


def _plain(value: Any) -> Any:
    """Return a field's value as what JSON has for it."""
    if isinstance(value, Usage | Enforcement | Changes | Verification | Requirements):
        return value.to_dict()
    if isinstance(value, list) and value and isinstance(value[0], Try):
        return [entry.to_dict() for entry in value]
    return value


@cache
def _defaults(kind: type[Wire]) -> tuple[tuple[str, Any], ...]:
    """Return a type's fields, each with its default to compare with."""
    return tuple(
        (entry.name, entry.default if factory is dataclasses.MISSING else factory())
        for entry in dataclasses.fields(kind)  # type: ignore[arg-type]
        for factory in [entry.default_factory]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec(Wire):
    """One prompt for one backend, with everything that a worker needs to run it.

    `inputs` maps each placeholder in the prompt to the index of the task in the same run whose
    output replaces it (`clinvk.core.placeholders`). `alternatives` are backends that may run it as
    well as `backend`: whichever is free first. `fallback` are `backend` or `backend:model`, to be
    tried in this order where it cannot be had. `variants` has, for an entry of these two, the
    fields that are others there, since defaults differ by backend. `max_wait_seconds` is for how
    long limits may hold it up in all; None is for ever. `retries` counts other tries, for errors of
    `retry_on` and for what passes. `retry_after_changes` allows a new start although tools may have
    changed things. The answer must be valid by `schema`, and is asked for again up to
    `schema_repairs` times (`DEFAULT_SCHEMA_REPAIRS`). `verify` is a command that must exit with 0
    then; its failure is handed back up to `verify_retries` times. With `reuse` the answer of an
    earlier run is taken where nothing differs (`workers/execution/reuse`); `reuse_anywhere` says
    that the task itself asks for it, also where the state of its directory cannot be known.
    `shipped` names what the client has sent of the repository of `workdir`
    (`clinvk.core.shipment`), `shared_schema` the `schema` that is stored beside the tasks of its
    run. Before `Precedence.resolve`, None is what the task leaves to the
    configuration, and a wait for ever is infinite.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    backend: Annotated[str, MinLen(1)]
    prompt: Annotated[str, Predicate(not_blank)]
    model: Annotated[str, Predicate(not_blank)] | None = None
    workdir: Annotated[str, Predicate(not_blank)] | None = None
    approval_mode: ApprovalMode | None = None
    sandbox_mode: SandboxMode | None = None
    network: NetworkAccess | None = None
    output_format: str | None = None
    max_tokens: Annotated[int, Ge(1)] | None = None
    max_turns: Annotated[int, Ge(1)] | None = None
    system_prompt: str | None = None
    timeout_seconds: Annotated[float, Gt(0)] | None = None
    stall_timeout_seconds: Annotated[float, Gt(0)] | None = None
    id: Annotated[str, Predicate(not_blank)] | None = None
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    allowed_tools: list[str] | None = None
    on_worker_lost: OnWorkerLost | None = None
    max_attempts: Annotated[int, Ge(1)] | None = None
    alternatives: list[str] = field(default_factory=list)
    fallback: list[Annotated[str, Predicate(not_blank)]] | None = None
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    max_wait_seconds: Annotated[float, Ge(0)] | None = None
    retries: Annotated[int, Ge(0)] | None = None
    retry_on: list[RetryKind] | None = None
    retry_after_changes: bool | None = None
    schema: Annotated[dict[str, Any], Shallow(DEEPEST)] | None = None
    schema_repairs: Annotated[int, Ge(0)] | None = None
    verify: Annotated[list[str], MinLen(1)] | None = None
    verify_retries: Annotated[int, Ge(0)] | None = None
    verify_timeout_seconds: Annotated[float, Gt(0)] | None = None
    reuse: bool | None = None
    reuse_anywhere: bool = False
    workspace: Workspace | None = None
    repo: Annotated[str, Predicate(not_blank)] | None = None
    ref: Annotated[str, Predicate(not_blank)] | None = None
    include_changes: bool | None = None
    setup: Annotated[str, Predicate(not_blank)] | None = None
    setup_timeout_seconds: Annotated[float, Gt(0)] | None = None
    inputs: dict[str, int] = field(default_factory=dict)
    steps: StepDetail = "summary"
    shipped: Annotated[str, Predicate(not_blank)] | None = None
    shared_schema: Annotated[str, Predicate(not_blank)] | None = None

    @property
    def effective_max_attempts(self) -> int | None:
        """After how many losses this task is given up; None leaves it to the run."""
        return 1 if self.on_worker_lost == "fail" else self.max_attempts

    def with_schema(self, shared: Mapping[str, dict[str, Any]]) -> Self:
        """Return the same with the schema that it names, if it is among these."""
        schema = shared.get(self.shared_schema or "")
        return self if schema is None else replace(self, schema=schema, shared_schema=None)

    @property
    def most_repairs(self) -> int:
        """How often an answer that is not valid by its schema is asked for again."""
        if self.schema is None:
            return 0
        return DEFAULT_SCHEMA_REPAIRS if self.schema_repairs is None else self.schema_repairs

    @property
    def most_verify_retries(self) -> int:
        """How often a failure of `verify` is handed back."""
        return self.verify_retries or 0 if self.verify else 0

    @property
    def queue(self) -> str:
        """The queue that this task waits in; for several backends, one that they share."""
        return queue_of("|".join(self.choices))

    @property
    def choices(self) -> tuple[str, ...]:
        """The backends of which any may run it: its own, and its alternatives."""
        return (self.backend, *self.alternatives)

    @property
    def entries(self) -> tuple[str, ...]:
        """All that it may run as: its choices, and then its fallbacks."""
        return (*self.choices, *(self.fallback or ()))

    @property
    def knows_of_limits(self) -> bool:
        """Whether it comes from a client that says how it may be tried again.

        One of an older client, which says nothing of it, ends at once, as it did then.
        """
        return self.retries is not None

    @property
    def may_go_on(self) -> bool:
        """Whether another execution of it, or another round, may want to go on with its session."""
        if self.most_repairs or self.most_verify_retries:
            return True
        return self.knows_of_limits and (self.retries != 0 or self.max_wait_seconds != 0)

    @property
    def has_several(self) -> bool:
        """Whether it may run as more than one of them."""
        return bool(self.alternatives or self.fallback)

    @property
    def backends(self) -> tuple[str, ...]:
        """All backends that may run it, those that it falls back on included."""
        # Of a list: tuples that grow leave their spare room in Python's free list.
        return tuple([entry.partition(":")[0] for entry in self.entries])

    @property
    def max_wait_ms(self) -> int | None:
        """For how long limits may hold it up in all, in milliseconds; None is for ever."""
        return None if self.max_wait_seconds is None else int(self.max_wait_seconds * 1000)

    @property
    def other_queues(self) -> list[str]:
        """The queues that it may be moved to: those of its fallbacks, and of several backends."""
        several = self.choices if self.alternatives else ()
        fallbacks = [entry.partition(":")[0] for entry in self.fallback or ()]
        return [queue_of(name) for name in (*several, *fallbacks)]

    def variant(self, entry: str) -> Self:
        """Return the task as it is for an entry of `alternatives` or `fallback`.

        Raises:
            WireError: its variant has fields that do not fit.
        """
        backend, _, model = entry.partition(":")
        changes = {"model": model or None, **self.variants.get(entry, {}), "backend": backend}
        for _, wrong in wire_checks.problems(TaskSpec, changes):
            raise WireError(f"variant {entry}: {wrong}")
        return replace(self, **{**changes, "alternatives": [], "fallback": None, "variants": {}})

    def without_choices(self, entry: str) -> Self:
        """Return the task as it begins with a fallback, where none of its own backends is served.

        Its other fallbacks stay, in order.
        """
        changed = self.variants.get(entry, {}).keys() - {"model"}
        own = {name: getattr(self, name) for name in changed}
        others = [other for other in self.fallback or () if other != entry]
        variants = {other: {**own, **self.variants.get(other, {})} for other in others}
        return replace(self.variant(entry), fallback=others or None, variants=variants)


GIVEN_BY_RUN = frozenset(
    {
        "inputs",
        "steps",
        "alternatives",
        "variants",
        "max_wait_seconds",
        "reuse_anywhere",
        "shipped",
        "shared_schema",
    }
)
"""Fields of a `TaskSpec` that no task file sets by their names (`clinvk.taskfile.routes`)."""

QUEUE_PREFIX = "clinvk."


QUEUE_PATTERN = r"clinvk\.[A-Za-z0-9][A-Za-z0-9_.|-]*"


def queue_of(backend: str) -> str:
    """Return the Celery queue of a backend: one each, because limits are per backend."""
    return f"{QUEUE_PREFIX}{backend}"


def backend_of(queue: str) -> str:
    """Return the backend of a Celery queue."""
    return queue.removeprefix(QUEUE_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the CLI counted them.

    Cached input counts as input; `cached_input_tokens` says how much of it that is.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        """Return what was used in both."""
        counts = dataclasses.asdict(self).items()
        return Usage(**{name: count + getattr(other, name) for name, count in counts})

    def minus(self, other: Usage) -> Usage:
        """Return what was used beyond another count."""
        counts = dataclasses.asdict(self).items()
        return Usage(**{name: max(0, count - getattr(other, name)) for name, count in counts})

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name, that of cached input where there is any."""
        given = dataclasses.asdict(self)
        if not self.cached_input_tokens:
            del given["cached_input_tokens"]
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """How a task's sandbox mode was enforced: by what, and what that leaves open.

    `by` is `bwrap+landlock`, `bwrap` or `landlock`; `cli` and `none` are no sandbox of the
    operating system. docs/concepts/sandbox.md explains the gaps.
    """

    mode: str
    by: str
    gaps: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of a task's `verify`: its exit code (-1 if it was stopped), and its last lines."""

    exit_code: int
    output: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dataclasses.asdict(self)


MOST_TRIES = 20
"""A task that waits for days may be refused hundreds of times: the latest are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """An execution of a task whose end is not the task's result; fields as in `TaskResult`."""

    backend: str
    model: str | None = None
    error: str | None = None
    error_kind: ErrorKind | None = None
    retry_at: str | None = None
    duration_seconds: float = 0.0
    usage: Usage | None = None
    cost_usd: float | None = None
    cost_source: CostSource | None = None

    @classmethod
    def of(cls, result: TaskResult) -> Self:
        """Return what is kept of a result that is not the task's any more."""
        names = [entry.name for entry in dataclasses.fields(cls)]
        fields = {name: getattr(result, name) for name in names}
        return cls(**{**fields, "backend": result.backend or ""})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, without those that have nothing to say."""
        given = {**dataclasses.asdict(self), "usage": self.usage and self.usage.to_dict()}
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Self:
        """Make one of what `to_dict` returned."""
        kind, usage = body.get("error_kind"), body.get("usage")
        made = {
            "error_kind": ErrorKind(kind) if kind is not None else None,
            "usage": Usage(**usage) if usage is not None else None,
        }
        return cls(**{**body, **made})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(Wire):
    """The result of one task of a run.

    `exit_code` is the CLI's own, as the OS gave it (-N for signal N); -1 when the CLI was
    never started or when we stopped it. Times are RFC 3339 in UTC. `output_blob` names where
    an output that is too large to be kept with the rest is stored; who reads a result from the
    store finds it in `output`. `data` is the answer as the task's `schema` has it. What was wrong
    with an answer, or what `verify` said, was handed back to the CLI `repairs` times; usage, cost
    and duration are those of all its rounds. `retry_at` is when the limit that the CLI hit opens,
    where it said so. `acted` says whether the CLI called a tool that can change something; None
    where its output does not tell. `backend` is the one that answered, where the task has several.
    Limits held the task up for `waited_seconds` in all and refused it `rejections` times. `tried`
    are the executions before the one that this is the result of, oldest first; losses of workers
    are not among them. `cost_usd` has at most six digits after the point. `cost_source` is None
    where nothing was spent: no CLI ran, or one that is only for trying things out.
    `reused` names the task whose result it was, "<run>/<index>", where that was taken instead of
    running a CLI.
    """

    index: int
    status: TaskStatus
    exit_code: int
    duration_seconds: float
    output: str | None = None
    output_file: str | None = None
    output_blob: str | None = None
    data: Annotated[Any, Shallow(DEEPEST)] = None
    verify: Verification | None = None
    repairs: int = 0
    sandbox: Enforcement | None = None
    error: str | None = None
    error_kind: ErrorKind | None = None
    retry_at: str | None = None
    acted: bool | None = None
    backend: str | None = None
    waited_seconds: float | None = None
    rejections: int = 0
    tried: list[Try] = field(default_factory=list)
    attempts: int = 1
    worker: str | None = None
    model: str | None = None
    session_id: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    cost_source: CostSource | None = None
    changes: Changes | None = None
    reused: str | None = None
    warnings: list[str] = field(default_factory=list)
    start_time: str | None = None
    end_time: str | None = None

    def after(self, earlier: TaskResult | None) -> Self:
        """Return the result as it is where an earlier one of the task was before it."""
        if earlier is None:
            return self
        was_begun = earlier.attempts > 0
        before = [*earlier.tried, Try.of(earlier)] if was_begun else earlier.tried
        return replace(self, tried=[*before, *self.tried][-MOST_TRIES:])

    def backend_of(self, spec: TaskSpec) -> str:
        """Return the backend that it is of; `spec` is the task's, which may have several."""
        return self.backend or spec.backend

    @classmethod
    def never_started(cls, index: int, *, is_over_budget: bool = False) -> Self:
        """Make the result of a task whose run was canceled, or at its budget, before it started."""
        result = cls._without_cli(
            index, ErrorKind.CANCELED, "canceled before it started", attempts=0
        )
        if not is_over_budget:
            return result
        return replace(
            result, error="not started: it would go over a budget", error_kind=ErrorKind.BUDGET
        )

    def at_budget(self) -> Self:
        """Return a canceled task's result as it is where its run came to a budget."""
        if self.error_kind is not ErrorKind.CANCELED:
            return self
        error = f"{self.error} (its run came to a budget)"
        return replace(self, error=error, error_kind=ErrorKind.BUDGET)

    @classmethod
    def not_tried_again(cls, index: int, tried: list[Try], losses: int) -> Self:
        """Make the result of a task whose run was canceled before it was tried again."""
        error = "canceled before it was tried again"
        attempts = max(1, losses)
        result = cls._without_cli(index, ErrorKind.CANCELED, error, attempts, losses)
        return replace(result, tried=tried, backend=tried[-1].backend if tried else None)

    @classmethod
    def unknown(cls, index: int, why: str) -> Self:
        """Make the result of a task whose result cannot be read, for the reason `why`."""
        return cls._without_cli(index, ErrorKind.LOST, why)

    @classmethod
    def lost(cls, index: int, why: str, losses: int) -> Self:
        """Make the result of a task that lost its worker `losses` times; `why` is the last."""
        times = "" if losses <= 1 else f" {losses} times, most recently"
        return cls._without_cli(
            index, ErrorKind.LOST, f"lost{times}: {why}", attempts=max(1, losses), losses=losses
        )

    @classmethod
    def canceled_and_lost(cls, index: int, why: str, losses: int) -> Self:
        """Make the result of a task of a canceled run whose worker was lost, as `why` says."""
        return cls._without_cli(
            index, ErrorKind.CANCELED, f"canceled; {why}", attempts=max(1, losses), losses=losses
        )

    @classmethod
    def held_up(
        cls,
        index: int,
        kind: ErrorKind,
        error: str,
        retry_at: str | None,
        backend: str | None,
        tried: list[Try],
    ) -> Self:
        """Make the result of a task that a limit held up until it might wait no longer."""
        return cls(
            index=index,
            status=TaskStatus.FAILED,
            exit_code=-1,
            duration_seconds=0.0,
            error=error,
            error_kind=kind,
            retry_at=retry_at,
            backend=backend,
            tried=list(tried),
            attempts=1 if tried else 0,
        )

    @classmethod
    def _without_cli(
        cls, index: int, kind: ErrorKind, error: str, attempts: int = 1, losses: int = 0
    ) -> Self:
        """Make a result of which no CLI's end is known; of a lost one, nobody knows the cost."""
        return cls(
            index=index,
            status=TaskStatus(kind),
            exit_code=-1,
            duration_seconds=0.0,
            error=error,
            error_kind=kind,
            attempts=attempts,
            cost_source="unknown" if losses else None,
        )

    @classmethod
    def _from_fields(cls, body: dict[str, Any]) -> Self:
        """Make a result. An optional field that does not fit is left out, with a warning.

        A result has been paid for: what can be read of it is kept. Fields that are not known are
        of a newer version.
        """
        warnings = []
        for name, wrong in list(wire_checks.problems(cls, body)):
            if name in _NEEDED:
                raise WireError(wrong)
            if name in cls.__dataclass_fields__:
                warnings.append(f"a part of the result cannot be read: {wrong}")
            del body[name]
        if warnings:
            body["warnings"] = [*body.get("warnings", []), *warnings]
        for name, made in _MADE.items():
            if body.get(name) is not None:
                body[name] = made(body[name])
        return cls(**body)


_NEEDED = frozenset({"index", "status", "exit_code", "duration_seconds"})
"""Fields without which a result says nothing."""
_MADE: Mapping[str, Callable[[Any], Any]] = {
    "status": TaskStatus,
    "error_kind": ErrorKind,
    "usage": lambda body: Usage(**body),
    "sandbox": lambda body: Enforcement(**body),
    "verify": lambda body: Verification(**body),
    "changes": Changes.from_dict,
    "tried": lambda entries: [Try.from_dict(entry) for entry in entries],
}
"""What makes the value of a result's field of that on the wire, where they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(Wire):
    """What the submitter asked of a run as a whole.

    `kind` says which command made it, and so how it is shown. `max_attempts` is how many times a
    task may lose its worker before it is LOST. `keep_seconds` is how long the record stays after
    its last change. `max_micro_usd` and `max_total_tokens` are the run's budget, for all executions
    of its tasks; with `allow_unknown_cost`, executions that nobody can price count as estimated.
    `estimate_micro_usd` and `estimate_tokens` are what is taken for one of which nothing is known.
    `requires` is what the workers that run its tasks must have.
    """

    max_parallel: int = 3
    fail_fast: bool = False
    priority: int = 0
    max_attempts: int = 3
    keep_seconds: float = 7 * 86400.0
    kind: RunKind = "parallel"
    max_micro_usd: int | None = None
    max_total_tokens: int | None = None
    on_budget: OnBudget = "finish"
    allow_unknown_cost: bool = False
    estimate_micro_usd: int | None = None
    estimate_tokens: int | None = None
    requires: Requirements = NOTHING

    @property
    def has_budget(self) -> bool:
        """Whether it may use only so much."""
        return self.max_micro_usd is not None or self.max_total_tokens is not None

    @property
    def is_ordered(self) -> bool:
        """Whether each task waits for the end of the one before it."""
        return self.kind == "chain"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run's counts and times, as the run's record in Redis has them.

    `user` is the login name of who submitted it, on the machine of the client.
    `ok + failed + canceled + timeout + lost == total` once `ended_ms` is set. Times are
    milliseconds since the epoch by the Redis server's clock. The run was retried `retries` times;
    for `idle_ms` in all, it had ended before it was. It may use `max_micro_usd` and
    `max_total_tokens` in all, and has used what `spent_…` says, as far as that is known; for the
    rest, `assumed_…` counts, and `reserved_…` is held back for what runs. `budget_of` is whose
    budget ended it: `run`, or a scope of those of a day (`all`, a queue, `key NAME`); `unpriced` is
    a backend, or model, whose cost nobody knows.
    `requires` is what its workers must have, in the form of a file (`Requirements.of`).
    """

    run_id: str
    total: int
    kind: str = "parallel"
    state: str = "running"
    max_parallel: int = 3
    fail_fast: bool = False
    ok: int = 0
    failed: int = 0
    canceled: int = 0
    timeout: int = 0
    lost: int = 0
    created_ms: int = 0
    ended_ms: int | None = None
    cancel_reason: str | None = None
    in_flight: int = 0
    running: int = 0
    user: str = ""
    retries: int = 0
    idle_ms: int = 0
    max_micro_usd: int | None = None
    max_total_tokens: int | None = None
    spent_micro_usd: int = 0
    spent_tokens: int = 0
    assumed_micro_usd: int = 0
    assumed_tokens: int = 0
    reserved_micro_usd: int = 0
    reserved_tokens: int = 0
    budget_of: str | None = None
    unpriced: str | None = None
    requires: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """How many tasks have their result."""
        return self.ok + self.failed + self.canceled + self.timeout + self.lost

    @property
    def canceled_run(self) -> bool:
        """Whether the run as a whole was canceled, by a person or by fail-fast."""
        return self.cancel_reason is not None

    @property
    def has_budget(self) -> bool:
        """Whether it may use only so much, by a budget of its own."""
        return self.max_micro_usd is not None or self.max_total_tokens is not None

    @property
    def ended_by_budget(self) -> bool:
        """Whether a budget kept the tasks that have no result from starting."""
        return self.cancel_reason in BUDGET_REASONS


BUDGET_REASONS = frozenset({"budget", "unknown_cost"})
"""Why a run is canceled that came to a budget, or whose cost nobody knows."""
