"""The effective configuration: what is in force, where it is from, and what a worker is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clinvk.backends import BackendRegistry, packaged_names
from clinvk.config import file, paths
from clinvk.config.environment import overlay, variable
from clinvk.config.models import UNSET_BACKEND, BackendSection, Config, rate_limits
from clinvk.config.places import Place, set_in, settings_of
from clinvk.config.precedence import Precedence
from clinvk.config.problems import setting_problem
from clinvk.core.broker_url import broker_problem
from clinvk.core.errors import ConfigError, UsageError
from clinvk.core.spec import StepDetail, TaskSpec
from clinvk.core.suggestions import did_you_mean
from clinvk.core.user_paths import expanded_default
from clinvk.core.worker_config import WorkerConfig
from clinvk.taskfile.routes import fallback_problems

DEFAULT = "default"
"""The origin of a setting that nobody set; also the mode that leaves a CLI to its own default."""


@dataclass(frozen=True)
class Settings:
    """The effective configuration.

    Attributes:
        config: every setting's value, from the environment, the file or its default.
        path: where the configuration file is, or would be.
        origins: of each setting that was set, the name of the file or of the variable.
    """

    config: Config
    path: Path
    origins: Mapping[Place, str]

    @cached_property
    def backends(self) -> dict[str, bool]:
        """All backends by name, and whether each is enabled."""
        return {
            name: self._section(name).enabled for name in (*packaged_names(), *self.worker.backends)
        }

    @cached_property
    def worker(self) -> WorkerConfig:
        """What a worker that is started on this machine is told."""
        chosen = self.config.worker.sandbox
        return WorkerConfig(
            backends=dict(self._defined_backends()),
            queues={
                name: {"max_concurrency": entry.max_concurrency}
                | (rate_limits(entry.rate) if entry.rate else {})
                for name, entry in self.config.queues.items()
            },
            pass_env=self.config.worker.pass_env,
            remote_control=self.config.worker.remote_control,
            environments={
                name: entry.model_dump(include={"env", "pass_env"})
                for name, entry in self.config.backends.items()
                if entry.env or entry.pass_env
            },
            task_limits=self._task_limits(),
            prices={
                name: entry.model_dump(exclude_none=True)
                for name, entry in self.config.prices.items()
            },
            budgets=self.config.budgets.limits() if self.sets_budgets else None,
            policy_file=self.config.worker.policy,
            state_dir=self.config.worker.state_dir,
            tags=self.config.worker.tags,
            sandbox="auto" if chosen == "require" else chosen,
            sandbox_require=chosen == "require" or self.config.sandbox.require,
            network=self.config.sandbox.network,
            worktrees_dir=self.config.worktrees.dir,
            worktrees_count=self.config.worktrees.max_count,
            worktrees_bytes=self.config.worktrees.max_bytes,
            worktrees_keep_days=self.config.worktrees.keep_days,
            changes_bytes=self.config.worktrees.patch_bytes,
            reuse_keep_days=self.config.reuse.keep_days,
            reuse_bytes=self.config.runs.keep_bytes,
            paths={n: entry.paths for n, entry in self.config.backends.items() if entry.paths},
            **self.config.limits.model_dump(exclude={"max_wait"}),
        )

    @property
    def sets_budgets(self) -> bool:
        """Whether the configuration says what a day may have, be it that there is no limit."""
        return "budgets" in self.config.model_fields_set

    def _defined_backends(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the backends that the configuration defines, as the registry takes them."""
        for name, entry in self.config.backends.items():
            model = self._section(entry.like) if entry.like else entry
            if model.command is not None:
                yield name, {"command": model.command, "env": entry.env}
            elif entry.like:
                yield name, {"like": entry.like}

    def _task_limits(self) -> dict[str, dict[str, int]]:
        """Return what one task may use: of any backend, named `*`, and of single backends."""
        sections = {"*": self.config.worker, **self.config.backends}
        found = {
            name: section.model_dump(include={"memory_bytes", "processes"}, exclude_none=True)
            for name, section in sections.items()
        }
        return {name: limits for name, limits in found.items() if limits}

    def installed(self) -> list[str]:
        """Return the enabled backends whose programs are on this machine.

        Raises:
            ConfigError: the package of an enabled backend cannot be used.
        """
        registry = BackendRegistry.from_config(self.worker.backends)
        return [
            name
            for name, enabled in self.backends.items()
            if enabled and shutil.which(registry.get(name).program) is not None
        ]

    def missing(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the backends among these whose programs are not on this machine, and how to get it.

        Raises:
            ConfigError: the package of one of them cannot be used.
        """
        registry = BackendRegistry.from_config(self.worker.backends)
        for name in names:
            backend = registry.get(name)
            if shutil.which(backend.program) is None:
                yield name, backend.install_hint

    def load_backends(self, names: Iterable[str]) -> None:
        """Import the classes of backends, so that a broken one is reported before anything runs.

        Raises:
            ConfigError: the package of a backend cannot be used.
        """
        registry = BackendRegistry.from_config(self.worker.backends)
        for name in names:
            registry.get(name)

    def broker_url(self, flag: str | None) -> str | None:
        """Return the broker's URL, the command line's before the configured one; None if neither.

        Raises:
            UsageError: the command line's is not valid.
        """
        if flag and (problem := broker_problem(flag)):
            raise UsageError(f"--broker: {problem}")
        return self.pick(flag, None, "broker_url") or None

    @property
    def runs_dir(self) -> Path:
        """Where local runs are recorded."""
        return expanded_default(self.config.runs.dir)

    @cached_property
    def _precedence(self) -> Precedence:
        return Precedence(self.config, self.origins)

    def pick(self, flag: Any, file_value: Any, *place: str) -> Any:
        """Decide one setting of a run; `flag` and `file_value` are None where they are not set."""
        return self._precedence.pick(flag, file_value, place)

    def step_detail(self, *, with_transcripts: bool) -> StepDetail:
        """Return what is kept of the steps of tasks: with transcripts all, unless it is set."""
        is_set = ("steps",) in self.origins
        return "full" if with_transcripts and not is_set else self.config.steps

    def resolve(self, spec: TaskSpec, **flags: Any) -> TaskSpec:
        """Return a task with what the configuration says of tasks of its backend filled in.

        `flags` are fields that the command line sets, None where it does not.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        return self._precedence.resolve(spec, given)

    def _section(self, backend: str) -> BackendSection:
        return self.config.backends.get(backend, UNSET_BACKEND)

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """Yield every setting: its place, its effective value, and where that comes from."""
        backends = {name: self._section(name) for name in {**self.backends, **self.config.backends}}
        shown = self.config.model_copy(update={"backends": backends})
        for place, value in settings_of(shown):
            yield ".".join(place), value, self.origins.get(place, DEFAULT)


def load(path: str | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration: the file at `path`, CLINVK_CONFIG or the default place.

    Raises:
        ConfigError: with all that is wrong, each with its file or variable and place.
    """
    name = paths.name(path, environment)
    location = paths.locate(path, environment)
    values = file.read(location, name, required=name != paths.DEFAULT_PATH)
    origins = dict.fromkeys(set_in(values), str(location))
    problems = overlay(values, origins, environment)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        # A value that fits none of several types has an error for each.
        problems += dict.fromkeys(setting_problem(item, origins, name) for item in error.errors())
    if problems:
        raise ConfigError(problems)
    if config.sandbox.require and config.worker.sandbox == "off":
        reason = "sandbox.require: cannot be met while worker.sandbox is off"
        raise ConfigError([f"{name}: {reason}"])
    settings = Settings(config, location, origins)
    if wrong := [*_unknown_backends(settings, name), *_wrong_names(settings, name)]:
        raise ConfigError(wrong)
    return settings


def _unknown_backends(settings: Settings, name: str) -> list[str]:
    known = settings.backends
    problems = [
        f"{name}: backends.{backend}: unknown backend{did_you_mean(backend, known)} "
        "(a new backend needs a command, or like)"
        for backend in settings.config.backends
        if backend not in known
    ]
    named = [(f"queues.{queue}", queue) for queue in settings.config.queues]
    named += [(f"budgets.queues.{queue}", queue) for queue in settings.config.budgets.queues]
    named += [(f"prices.{entry}", entry.partition(":")[0]) for entry in settings.config.prices]
    return problems + [
        f"{name}: {place}: unknown backend{did_you_mean(backend, known)}"
        for place, backend in named
        if backend not in known and backend not in settings.config.backends
    ]


def _wrong_names(settings: Settings, name: str) -> Iterator[str]:
    """Yield what is wrong with the names of other backends in the sections of backends."""
    for backend, section in settings.config.backends.items():
        if problem := _like_problem(settings, backend, section):
            yield f"{name}: backends.{backend}.like: {problem}"
        place = ("backends", backend, "fallback")
        origin = settings.origins.get(place)
        where = origin if origin == variable(place) else f"{name}: backends.{backend}.fallback"
        enabled = dict.fromkeys(settings.backends, True)
        own = [(backend, section.model), (backend, None)]
        for at, what in fallback_problems(section.fallback, enabled, own):
            yield f"{where}{at.removeprefix('fallback')}: {what}"


def _like_problem(settings: Settings, backend: str, section: BackendSection) -> str | None:
    """Return why a backend cannot be like another one, if so."""
    like, sections = section.like, settings.config.backends
    if like is None:
        return None
    if like not in settings.backends and like not in sections:
        return f'unknown backend "{like}"{did_you_mean(like, settings.backends)}'
    if section.command is not None:
        return "a backend has a command, or is like another one, not both"
    if like == backend:
        return "a backend cannot be like itself"
    if (other := sections.get(like, UNSET_BACKEND).like) is not None:
        return f'"{like}" is itself like "{other}": name that one'
    return None
