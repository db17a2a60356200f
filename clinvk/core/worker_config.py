"""The configuration of one worker, as JSON.

Written by whoever starts the worker (local mode, `clinvk worker`), so that a worker neither
parses the user's configuration again nor needs the packages for it. `workers/handover.py` says how
it gets there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from clinvk.core.errors import ConfigError

BROKER_URL = "CLINVK_BROKER_URL"
WORKER_CONFIG = "CLINVK_WORKER_CONFIG"

RESUME_PROMPT = (
    "You were interrupted by an error of the service, not by anybody's decision. Look at what you "
    "have done already, then go on where you were, and finish the task."
)

SandboxChoice = Literal["auto", "bwrap", "landlock", "off"]
"""What may enforce sandbox modes on a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Backends defined in configuration, limits of queues, limits of output.

    `backends` is `{name: {command, env}}`, or `{name: {like}}` for one that runs another's CLI;
    `pass_env` and `environments`, `{name: {env, pass_env}}` of any backend, say what else commands
    get of the worker's environment, or beside it. `queues`
    is `{name: {max_concurrency, rate, interval_ms}}`. `has_supervisor` is off where the worker's
    parent does what a supervisor would, `checks_server` where it has started the server itself.
    `remote_control` allows Celery's orders to workers. `task_limits` are `{name: {memory_bytes,
    processes}}`, what one task may use, by backend, where `*` is all of them.
    `paths` are files and directories that sandboxed CLIs may read, by backend; `network` is
    `"on"`, `"off"` or `{"ports": [...]}`. With `sandbox_require` a task whose mode cannot be
    enforced is refused. `resume_prompt` is what a CLI is told that goes on with its session.
    With `cli_retries` CLIs try again and wait by themselves, as they do without clinvk.
    `state_dir` is for what a worker keeps of its tasks while they are not over. `local_run` is the
    run that the worker is for, if it is for one that can be resumed on this machine.
    `worktrees_dir` has at most `worktrees_count` worktrees of tasks, of `worktrees_bytes` in all;
    one that has what no result has is kept for `worktrees_keep_days`. `changes_bytes` is how large
    the patch of a task may be, `ship_bytes` how much a client sends of a checkout.
    `tags` are announced, and `clis`, the versions of CLIs, by a worker that does not look itself.
    `prices` are `{backend or backend:model: {input, output, cached_input}}`. `budgets` are the
    limits of a day by scope and unit (`Queues.set_budgets`); None leaves those that there are.
    Results of tasks are taken again for `reuse_keep_days`. They are kept on the broker, or with
    `reuse_dir` in this directory, `reuse_bytes` of them at most; what is in `reuse_ignores` does
    not count as a part of a checkout.
    """

    backends: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pass_env: Sequence[str] = ()
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sandbox: SandboxChoice = "auto"
    sandbox_require: bool = False
    network: str | Mapping[Literal["ports"], Sequence[int]] = "on"
    paths: Mapping[str, Sequence[str]] = field(default_factory=dict)
    task_limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    budgets: Mapping[str, int] | None = None
    tags: Sequence[str] = ()
    clis: Mapping[str, str | None] = field(default_factory=dict)
    reports_versions: bool = True
    has_supervisor: bool = True
    checks_server: bool = True
    remote_control: bool = False
    policy_file: str | None = None
    cli_retries: bool = False
    state_dir: str = "~/.clinvk/state"
    local_run: str = ""
    output_bytes: int = 10 << 20
    spill_bytes: int = 1 << 30
    spill_dir: str = "~/.clinvk/outputs"
    spill_quota_bytes: int = 10 << 30
    spill_keep_days: float = 7
    spill_reserve_bytes: int = 256 << 20
    worktrees_dir: str = "~/.clinvk/worktrees"
    worktrees_count: int = 200
    worktrees_bytes: int = 50 << 30
    worktrees_keep_days: float = 7
    changes_bytes: int = 64 << 20
    ship_bytes: int = 64 << 20
    resume_prompt: str = RESUME_PROMPT
    reuse_keep_days: float = 7
    reuse_dir: str = ""
    reuse_bytes: int = 1 << 30
    reuse_ignores: Sequence[str] = ()

    @classmethod
    def load(cls, text: str) -> Self:
        """Read what `dump` wrote.

        Raises:
            ConfigError: it does not fit.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ConfigError([f"{WORKER_CONFIG}: {error}"]) from error

    def dump(self) -> str:
        """Write what `load` reads."""
        return json.dumps(asdict(self))
