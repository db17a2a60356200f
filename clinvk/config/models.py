"""The configuration file as models: each section, its fields, their types and defaults."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from clinvk.backends.base import NAME_PATTERN
from clinvk.config.paths import RUNS_DIR
from clinvk.core.amounts import micro_usd_of, tokens_of
from clinvk.core.broker_url import broker_problem
from clinvk.core.network import NetworkAccess
from clinvk.core.requirements import tags_of
from clinvk.core.spec import (
    DEFAULT_MAX_WAIT_SECONDS,
    DEFAULT_RETRIES,
    ApprovalMode,
    OnBudget,
    OnWorkerLost,
    RetryKind,
    RunOptions,
    SandboxMode,
    StepDetail,
    Workspace,
    queue_of,
)
from clinvk.core.user_paths import expanded
from clinvk.core.worker_config import SandboxChoice, WorkerConfig
from clinvk.taskfile.schema import Fallback, MaxWait, Retries, TokenCount

PERIODS_MS = {"s": 1000, "min": 60_000, "h": 3_600_000}
"""The units of a rate, each with its length in milliseconds."""


Port = Annotated[int, Field(ge=1, le=65535)]


def _off(value: Any) -> Any:
    """Take the `off` of YAML, which reads it as false."""
    return "off" if value is False else value


def _on_off(value: Any) -> Any:
    """Take the `on` and `off` of YAML."""
    return "on" if value is True else _off(value)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class ParallelSection(_Section):
    """`parallel`: how tasks of a run are started and shown."""

    max_workers: Annotated[int, Field(ge=1)] = 3
    fail_fast: bool = False
    aggregate_output: bool = True


class UnifiedSection(_Section):
    """`unified_flags`: defaults for the tasks of all backends. A 0 sets no limit."""

    approval_mode: ApprovalMode = "default"
    sandbox_mode: SandboxMode = "default"
    workspace: Workspace = "shared"
    max_turns: Annotated[int, Field(ge=0)] = 0
    max_tokens: Annotated[int, Field(ge=0)] = 0
    command_timeout_secs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    stall_timeout_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    on_worker_lost: OnWorkerLost = "retry"
    max_attempts: Annotated[int, Field(ge=1)] = RunOptions().max_attempts
    retries: Retries = DEFAULT_RETRIES
    retry_on: list[RetryKind] = []
    retry_after_changes: bool = False
    reuse: bool = False


TaskMemory = Annotated[int, Field(ge=1 << 20)] | None
TaskProcesses = Annotated[int, Field(ge=1)] | None
"""What one task may use."""


class BackendSection(_Section):
    """`backends.<name>`: one backend's defaults. With `command` or `like`, it defines a new one.

    `like` is the backend whose CLI it runs, with settings, a queue and limits of its own.
    `pass_env` are patterns of variables that its CLI gets of the worker's environment.
    """

    model: str | None = None
    approval_mode: ApprovalMode | None = None
    sandbox_mode: SandboxMode | None = None
    workspace: Workspace | None = None
    system_prompt: str | None = None
    stall_timeout_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    extra_flags: list[str] = []
    allowed_tools: Literal["all"] | list[str] = "all"
    fallback: Fallback = []
    enabled: bool = True
    like: str | None = None
    command: Annotated[list[str], Field(min_length=1)] | None = None
    env: dict[str, str] = {}
    pass_env: list[str] = []
    memory_bytes: TaskMemory = None
    processes: TaskProcesses = None
    paths: list[str] = []


class QueueSection(_Section):
    """`queues.<name>`: limits of a backend's queue, over the whole fleet."""

    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    rate: str | None = None

    @field_validator("rate")
    @classmethod
    def _rate(cls, value: str | None) -> str | None:
        if value is not None:
            rate_limits(value)
        return value


class DayBudget(_Section):
    """What may be used on a day (UTC): USD, and tokens."""

    day: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    day_tokens: TokenCount | None = None


class BudgetsSection(DayBudget):
    """`budgets`: what a fleet may use on a day, in all, by queue and by who submits.

    `*` among the keys is each submitter that is not named. `estimate_usd` and `estimate_tokens` are
    what an execution is taken to use of which nothing is known.
    """

    queues: dict[str, DayBudget] = {}
    keys: dict[str, DayBudget] = {}
    on_budget: OnBudget = "finish"
    estimate_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    estimate_tokens: TokenCount = 500_000

    def limits(self) -> dict[str, int]:
        """Return the limits as the store takes them: by scope and unit."""
        scopes: dict[str, DayBudget] = {"all": self}
        scopes |= {queue_of(name): entry for name, entry in self.queues.items()}
        scopes |= {f"key {name}": entry for name, entry in self.keys.items()}
        found = {}
        for scope, entry in scopes.items():
            if entry.day is not None:
                found[f"{scope} cost"] = micro_usd_of(entry.day)
            if entry.day_tokens is not None:
                found[f"{scope} tokens"] = tokens_of(entry.day_tokens)
        return found and found | self.estimates()

    def estimates(self) -> dict[str, int]:
        """Return what an execution is taken to use of which nothing is known."""
        return {
            "estimate cost": micro_usd_of(self.estimate_usd),
            "estimate tokens": tokens_of(self.estimate_tokens),
        }


PRICED_PATTERN = NAME_PATTERN.removesuffix("$") + r"(:\S+)?$"


class PriceSection(_Section):
    """`prices.<backend>` or `prices.<backend>:<model>`: USD per million tokens."""

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cached_input: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


def _user_path(path: str) -> str:
    expanded(path)
    return path


UserPath = Annotated[str, AfterValidator(_user_path)]
"""A path that may begin with `~`, for a home that there is."""


class RunsSection(_Section):
    """`runs`: how long the records of runs are kept, and where those of local runs are.

    `dir` and `keep_bytes`, how much all of them may take together, are of local runs.
    """

    keep_days: Annotated[float, Field(gt=0, le=366)] = 7
    dir: UserPath = RUNS_DIR
    keep_bytes: Annotated[int, Field(ge=0)] = 1 << 30


class ReuseSection(_Section):
    """`reuse`: for how long the results of tasks that ask for it are taken again."""

    keep_days: Annotated[float, Field(gt=0, le=366)] = WorkerConfig().reuse_keep_days


class WorkerSection(_Section):
    """`worker`: what this machine accepts from others."""

    policy: UserPath | None = None
    pass_env: list[str] = []
    memory_bytes: TaskMemory = None
    processes: TaskProcesses = None
    remote_control: bool = False
    state_dir: UserPath = WorkerConfig().state_dir
    sandbox: Annotated[SandboxChoice | Literal["require"], BeforeValidator(_off)] = "auto"
    tags: Annotated[list[str], AfterValidator(tags_of)] = []


class SandboxSection(_Section):
    """`sandbox`: what holds for all sandboxed tasks of this machine."""

    require: bool = False
    network: Annotated[
        NetworkAccess | dict[Literal["ports"], Annotated[list[Port], Field(min_length=1)]],
        BeforeValidator(_on_off),
    ] = "on"


class LocalSection(_Section):
    """`local`: the private server of local mode."""

    server: UserPath | None = None


class WorktreesSection(_Section):
    """`worktrees`: of tasks with `workspace: worktree` on this machine."""

    dir: UserPath = WorkerConfig().worktrees_dir
    max_count: Annotated[int, Field(ge=1)] = WorkerConfig().worktrees_count
    max_bytes: Annotated[int, Field(ge=1)] = WorkerConfig().worktrees_bytes
    keep_days: Annotated[float, Field(gt=0)] = WorkerConfig().worktrees_keep_days
    patch_bytes: Annotated[int, Field(ge=1, le=1 << 28)] = WorkerConfig().changes_bytes
    ship_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = WorkerConfig().ship_bytes


class LimitsSection(_Section):
    """`limits`: of tasks' outputs on this machine; and for how long other limits hold up a task."""

    max_wait: MaxWait = DEFAULT_MAX_WAIT_SECONDS
    output_bytes: Annotated[int, Field(ge=1024)] = WorkerConfig().output_bytes
    spill_bytes: Annotated[int, Field(ge=0)] = WorkerConfig().spill_bytes
    spill_dir: UserPath = WorkerConfig().spill_dir
    spill_quota_bytes: Annotated[int, Field(ge=0)] = WorkerConfig().spill_quota_bytes
    spill_keep_days: Annotated[float, Field(gt=0)] = WorkerConfig().spill_keep_days
    spill_reserve_bytes: Annotated[int, Field(ge=0)] = WorkerConfig().spill_reserve_bytes
    cli_retries: bool = WorkerConfig().cli_retries
    resume_prompt: Annotated[str, Field(pattern=r"\S")] = WorkerConfig().resume_prompt


def _broker_url(url: str) -> str:
    if url and (problem := broker_problem(url)):
        raise ValueError(problem)
    return url


class Config(_Section):
    """The whole configuration file."""

    broker_url: Annotated[str, AfterValidator(_broker_url)] | None = None
    output_dir: UserPath | None = None
    steps: Annotated[StepDetail, BeforeValidator(_off)] = "summary"
    parallel: ParallelSection = ParallelSection.model_construct()
    unified_flags: UnifiedSection = UnifiedSection.model_construct()
    backends: dict[Annotated[str, Field(pattern=NAME_PATTERN)], BackendSection] = {}
    queues: dict[str, QueueSection] = {}
    prices: dict[Annotated[str, Field(pattern=PRICED_PATTERN)], PriceSection] = {}
    budgets: BudgetsSection = BudgetsSection.model_construct()
    runs: RunsSection = RunsSection.model_construct()
    reuse: ReuseSection = ReuseSection.model_construct()
    worker: WorkerSection = WorkerSection.model_construct()
    sandbox: SandboxSection = SandboxSection.model_construct()
    local: LocalSection = LocalSection.model_construct()
    limits: LimitsSection = LimitsSection.model_construct()
    worktrees: WorktreesSection = WorktreesSection.model_construct()


UNSET_BACKEND = BackendSection.model_construct()
"""The section of a backend that the configuration does not mention."""


def rate_limits(rate: str) -> dict[str, Any]:
    """Return a rate such as `50/min` as the store takes it: `rate` and `interval_ms`.

    Raises:
        ValueError: it is not a number per s, min or h.
    """
    match = re.fullmatch(r"([1-9]\d{0,8})/(s|min|h)", rate)
    if match is None:
        raise ValueError('must be like "50/min" (a number per s, min or h)')
    return {"rate": rate, "interval_ms": PERIODS_MS[match[2]] / int(match[1])}
