"""All settings, where each comes from, and which of two wins.

Precedence for every setting, values like `false` and `0` included:
flag > environment (`CLINVK_…`) > task file > configuration file > default.

A variable's name is its place in the configuration file in capitals:
`unified_flags.max_turns` is `CLINVK_UNIFIED_FLAGS_MAX_TURNS`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from clinvk.backends import BackendRegistry, packaged_names
from clinvk.backends.base import NAME_PATTERN
from clinvk.config import paths
from clinvk.core import yaml_document
from clinvk.core.errors import ConfigError
from clinvk.core.spec import ApprovalMode, OnWorkerLost, RunOptions, SandboxMode, TaskSpec
from clinvk.core.validation_errors import describe, nearest
from clinvk.core.worker_config import WorkerConfig

PREFIX = "CLINVK_"
DEFAULT = "default"
"""Both the origin of what nobody set, and the mode that leaves a CLI to its own default."""
RESERVED = frozenset({paths.VARIABLE, "CLINVK_DEBUG", "CLINVK_TASK", "CLINVK_CLI_CACHE"})
"""Variables that are ours, and not settings; those of workers beside."""
FILE_ONLY = frozenset({"command", "env"})
"""Settings that have no variable."""
NEAR = 0.85
"""A variable this close to a setting's is taken for a slip."""
NAMED_SECTIONS = frozenset({"backends", "queues"})
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "unix", "socket")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ParallelSection(_Section):
    """`parallel`: how runs are run."""

    max_workers: Annotated[int, Field(ge=1)] = 3
    fail_fast: bool = False
    aggregate_output: bool = True


class UnifiedSection(_Section):
    """`unified_flags`: what holds for the tasks of all backends; 0 is none."""

    approval_mode: ApprovalMode = "default"
    sandbox_mode: SandboxMode = "default"
    max_turns: Annotated[int, Field(ge=0)] = 0
    max_tokens: Annotated[int, Field(ge=0)] = 0
    command_timeout_secs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    on_worker_lost: OnWorkerLost = "retry"
    max_attempts: Annotated[int, Field(ge=1)] = RunOptions().max_attempts


class BackendSection(_Section):
    """`backends.<name>`: one backend; with a `command`, one that is defined here."""

    model: str | None = None
    approval_mode: ApprovalMode | None = None
    sandbox_mode: SandboxMode | None = None
    system_prompt: str | None = None
    extra_flags: list[str] = []
    allowed_tools: Literal["all"] | list[str] = "all"
    enabled: bool = True
    command: Annotated[list[str], Field(min_length=1)] | None = None
    env: dict[str, str] = {}


_UNSET = BackendSection()


class QueueSection(_Section):
    """`queues.<name>`: limits of a backend's queue over the whole fleet."""

    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    rate: str | None = None

    @field_validator("rate")
    @classmethod
    def _rate(cls, value: str | None) -> str | None:
        if value is not None:
            rate_limits(value)
        return value


PERIODS_MS = {"s": 1000, "min": 60_000, "h": 3_600_000}


def rate_limits(rate: str) -> dict[str, Any]:
    """Return a rate as the store takes it.

    Raises:
        ValueError: it is not like "50/min".
    """
    match = re.fullmatch(r"([1-9]\d{0,8})/(s|min|h)", rate)
    if match is None:
        raise ValueError('must be like "50/min" (a number per s, min or h)')
    return {"rate": rate, "interval_ms": PERIODS_MS[match[2]] / int(match[1])}


class RunsSection(_Section):
    """`runs`: the records of runs on a fleet."""

    keep_days: Annotated[float, Field(gt=0, le=366)] = 7


class WorkerSection(_Section):
    """`worker`: what this machine does for others."""

    policy: str | None = None


class LocalSection(_Section):
    """`local`: local mode."""

    server: str | None = None


class LimitsSection(_Section):
    """`limits`: how much of a task's output is kept."""

    output_bytes: Annotated[int, Field(ge=1024)] = WorkerConfig().output_bytes
    spill_bytes: Annotated[int, Field(ge=0)] = WorkerConfig().spill_bytes
    spill_dir: str = WorkerConfig().spill_dir


def _broker_url(url: str) -> str:
    if url and (problem := broker_problem(url)):
        raise ValueError(problem)
    return url


def broker_problem(url: str) -> str | None:
    """Say what is wrong with a broker's URL, if anything. It may hold a password: not shown."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in BROKER_SCHEMES:
        return "must be a URL like redis://host:6379/0, rediss://… or redis+socket:///path"
    if scheme in {"redis", "rediss"}:
        try:
            _ = urlsplit(url).port
        except ValueError:
            return "must have a number as its port (percent-encode / : @ in a password)"
    elif not rest.startswith("/"):
        return "must have an absolute path to a socket"
    return None


class Config(_Section):
    """The whole configuration file."""

    broker_url: Annotated[str, AfterValidator(_broker_url)] | None = None
    output_dir: str | None = None
    parallel: ParallelSection = ParallelSection()
    unified_flags: UnifiedSection = UnifiedSection()
    backends: dict[Annotated[str, Field(pattern=NAME_PATTERN)], BackendSection] = {}
    queues: dict[str, QueueSection] = {}
    runs: RunsSection = RunsSection()
    worker: WorkerSection = WorkerSection()
    local: LocalSection = LocalSection()
    limits: LimitsSection = LimitsSection()


Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """The effective configuration. `origins` has the places that were set: file or variable."""

    config: Config
    path: Path
    origins: Mapping[Path_, str]

    @cached_property
    def backends(self) -> dict[str, bool]:
        """All backends by name, and whether each is enabled."""
        names = [*packaged_names(), *self._configured]
        return {name: self._section(name).enabled for name in names}

    @property
    def _configured(self) -> list[str]:
        return [name for name, entry in self.config.backends.items() if entry.command is not None]

    @property
    def worker(self) -> WorkerConfig:
        """What a worker on this machine is told."""
        backends = {
            name: {"command": entry.command, "env": entry.env}
            for name, entry in self.config.backends.items()
            if entry.command is not None
        }
        queues = {
            name: {"max_concurrency": entry.max_concurrency}
            | (rate_limits(entry.rate) if entry.rate else {})
            for name, entry in self.config.queues.items()
        }
        return WorkerConfig(
            backends=backends,
            queues=queues,
            policy_file=self.config.worker.policy,
            **self.config.limits.model_dump(),
        )

    def installed(self) -> list[str]:
        """Return the enabled backends whose programs are on this machine."""
        registry = BackendRegistry.from_config(self.worker.backends)
        return [
            name
            for name, enabled in self.backends.items()
            if enabled and shutil.which(registry.get(name).program) is not None
        ]

    def pick(self, flag: Any, file_value: Any, *place: str) -> Any:
        """Decide one run-level setting: flag, environment, task file, configuration, default."""
        configured = self._value(place)
        if flag is not None:
            return flag
        if file_value is None or self._from_environment(place):
            return configured
        return file_value

    def resolve(self, spec: TaskSpec) -> TaskSpec:
        """Fill in what the environment and the configuration say of a task of this backend."""
        section = self._section(spec.backend)
        own = ("backends", spec.backend)
        pick = self._pick_field
        allowed = pick(spec.allowed_tools, (*own, "allowed_tools"))
        timeout = pick(spec.timeout_seconds, ("unified_flags", "command_timeout_secs"))
        lost = pick(spec.on_worker_lost, ("unified_flags", "on_worker_lost"))
        attempts = pick(spec.max_attempts, ("unified_flags", "max_attempts"))
        settled = {
            "model": pick(spec.model, (*own, "model")) or None,
            "approval_mode": self._mode(spec, "approval_mode"),
            "sandbox_mode": self._mode(spec, "sandbox_mode"),
            "system_prompt": pick(spec.system_prompt, (*own, "system_prompt")) or None,
            "max_turns": pick(spec.max_turns, ("unified_flags", "max_turns")) or None,
            "max_tokens": pick(spec.max_tokens, ("unified_flags", "max_tokens")) or None,
            "timeout_seconds": timeout or None,
            "on_worker_lost": None if lost == "retry" else lost,
            "max_attempts": None if attempts == RunOptions().max_attempts else attempts,
            "extra": [*section.extra_flags, *spec.extra],
            "allowed_tools": None if allowed == "all" else allowed,
        }
        changes = {key: value for key, value in settled.items() if value != getattr(spec, key)}
        return dataclasses.replace(spec, **changes) if changes else spec

    def _mode(self, spec: TaskSpec, field_name: str) -> Any:
        places = (("backends", spec.backend, field_name), ("unified_flags", field_name))
        mode = self._pick_field(getattr(spec, field_name), *places)
        return None if mode == DEFAULT else mode

    def _pick_field(self, own: Any, *places: Path_) -> Any:
        """Decide one field of a task; of `places`, an earlier one beats a later one."""
        if places not in self._choices:
            self._choices[places] = self._choose(places)
        wins, value = self._choices[places]
        return value if wins or own is None else own

    @cached_property
    def _choices(self) -> dict[tuple[Path_, ...], tuple[bool, Any]]:
        """What was chosen before: the same for each task of a backend."""
        return {}

    def _choose(self, places: Sequence[Path_]) -> tuple[bool, Any]:
        """Return what is set at these places, and whether it beats the task's own."""
        for place in places:
            if self._from_environment(place):
                return True, self._value(place)
        set_places = [place for place in places if place in self.origins]
        return False, self._value((*set_places, places[-1])[0])

    def _from_environment(self, place: Path_) -> bool:
        return self.origins.get(place) == variable(place)

    def _section(self, backend: str) -> BackendSection:
        return self.config.backends.get(backend, _UNSET)

    def _value(self, place: Path_) -> Any:
        value: Any = self.config
        for part in place:
            value = value.get(part, _UNSET) if isinstance(value, dict) else getattr(value, part)
        return value

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """Yield every setting: its place, its effective value, and where that comes from."""
        backends = {name: self._section(name) for name in {**self.backends, **self.config.backends}}
        shown = self.config.model_copy(update={"backends": backends})
        for place, value in _leaves(shown):
            yield ".".join(place), value, self.origins.get(place, DEFAULT)


def load(path: str | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration: the file at `path`, CLINVK_CONFIG or the default place.

    Raises:
        ConfigError: with all that is wrong, each with its file or variable and place.
    """
    name = paths.name(path, environment)
    location = paths.locate(path, environment)
    values = _read(location, name, required=name != paths.DEFAULT_PATH)
    origins = {place: str(location) for place, _ in _set_leaves(values)}
    problems = _overlay(values, origins, environment)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        # A value may fit none of several types; once is enough.
        problems += dict.fromkeys(_problem(item, origins, name) for item in error.errors())
    if problems:
        raise ConfigError(problems)
    settings = Settings(config, location, origins)
    if unknown := _unknown_backends(settings, name):
        raise ConfigError(unknown)
    return settings


def _read(location: Path, name: str, *, required: bool) -> dict[str, Any]:
    try:
        text = location.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if required:
            raise ConfigError([f"{name}: no such file"]) from None
        return {}
    except UnicodeDecodeError as error:
        raise ConfigError([f"{name}: is not UTF-8 text (byte {error.start})"]) from error
    except OSError as error:
        raise ConfigError([f"{name}: cannot be read: {error.strerror}"]) from error
    try:
        values = yaml_document.load(text)
    except ValueError as error:
        raise ConfigError([f"{name}: {error}"]) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError([f"{name}: must be a mapping of settings"])
    values = _without_empty(values, tuple(Config.model_fields))
    for section in NAMED_SECTIONS & values.keys():
        if isinstance(values[section], dict):
            values[section] = _without_empty(values[section], tuple(values[section]))
    return values


def _without_empty(values: Mapping[Any, Any], sections: Sequence[str]) -> dict[str, Any]:
    """Read a section with everything in it commented out as what it is: there, and empty."""
    scalars = {"broker_url", "output_dir"}
    return {
        str(key): {} if value is None and key in sections and key not in scalars else value
        for key, value in values.items()
    }


def _unknown_backends(settings: Settings, name: str) -> list[str]:
    known = settings.backends
    problems = [
        f"{name}: backends.{backend}: unknown backend{nearest(backend, known)}; "
        "one that is defined here needs a command"
        for backend in settings.config.backends
        if backend not in known
    ]
    return problems + [
        f"{name}: queues.{queue}: there is no such backend{nearest(queue, known)}"
        for queue in settings.config.queues
        if queue not in known and queue not in settings.config.backends
    ]


def _problem(error: Mapping[str, Any], origins: Mapping[Path_, str], name: str) -> str:
    location = [part for part in error["loc"] if not _is_noise(part)]
    place = ""
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    text = describe(error, _section_type(tuple(map(str, location[:-1]))).model_fields)
    text = text.replace("unknown field", "unknown setting")
    if location[0] == "broker_url" or "env" in location:
        text = text.partition(" (got ")[0]  # it may be a secret
    if error["type"] == "string_pattern_mismatch":
        text = "a name may have letters, digits, and . _ - between them"
    if "allowed_tools" in location:
        text = 'must be "all" or a list of strings'
        place = place.partition("allowed_tools")[0] + "allowed_tools"
    setting = tuple(str(part) for part in location if not isinstance(part, int))
    if origins.get(setting) == variable(setting):
        return f"{variable(setting)}: {text}"
    return f"{name}: {place.removeprefix('.')}: {text}"


def _is_noise(part: object) -> bool:
    """Whether a part of pydantic's location names a type, not a place."""
    return isinstance(part, str) and (part == "[key]" or part.startswith(("literal[", "list[")))


def _section_type(place: Path_) -> type[BaseModel]:
    """Find the model of the section at a place; the nearest one above, if there is none."""
    section: type[BaseModel] = Config
    for part in place:
        if part in section.model_fields:
            annotation = section.model_fields[part].annotation
            candidates = (annotation, *get_args(annotation))
            models = [a for a in candidates if isinstance(a, type) and issubclass(a, BaseModel)]
            section = models[0] if models else section
    return section


def _set_leaves(values: Mapping[str, Any], *prefix: str) -> Iterator[tuple[Path_, Any]]:
    for key, value in values.items():
        place = (*prefix, str(key))
        if isinstance(value, dict) and place[-1] != "env":
            yield from _set_leaves(value, *place)
        else:
            yield place, value


def _leaves(section: BaseModel, *prefix: str) -> Iterator[tuple[Path_, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, *prefix, name)
        elif name in {"backends", "queues"}:
            for key, entry in value.items():
                yield from _leaves(entry, *prefix, name, key)
        else:
            yield (*prefix, name), value


# The environment.


@cache
def variable(place: Path_) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", "_".join(place).upper())


def _overlay(
    values: dict[str, Any], origins: dict[Path_, str], environment: Mapping[str, str]
) -> list[str]:
    """Lay the environment over the file's values; returns what is wrong with it."""
    backends = {name: BackendSection() for name in (*packaged_names(), *_names(values, "backends"))}
    queues = {name: QueueSection() for name in (*backends, *_names(values, "queues"))}
    template = Config.model_construct(backends=backends, queues=queues)
    places = {variable(place): (place, default) for place, default in _leaves(template)}
    for name, (place, _) in places.items():
        if name in environment and place[-1] not in FILE_ONLY:
            section = values
            for part in place[:-1]:
                section = section.setdefault(part, {}) if isinstance(section, dict) else {}
            if isinstance(section, dict):
                section[place[-1]] = _from_text(environment[name], place)
                origins[place] = name
    return [problem for name in environment if (problem := _variable_problem(name, places))]


def _variable_problem(name: str, places: Mapping[str, tuple[Path_, Any]]) -> str | None:
    """Say what is wrong with a variable's name, if it looks like one of ours."""
    if name in places:
        place = places[name][0]
        if place[-1] in FILE_ONLY:
            return f"{name}: set {'.'.join(place)} in the configuration file instead"
        return None
    if name in RESERVED or name.startswith(f"{PREFIX}WORKER_"):
        return None
    sections = tuple(f"{PREFIX}{section.upper()}_" for section in Config.model_fields)
    close = difflib.get_close_matches(name, places, n=1, cutoff=NEAR)
    if name.startswith(sections) or (name.startswith(PREFIX) and close):
        return f"{name}: unknown setting{nearest(name, places)}"
    return None


def _names(values: Mapping[str, Any], section: str) -> list[str]:
    entries = values.get(section)
    return [str(name) for name in entries] if isinstance(entries, dict) else []


def _from_text(text: str, place: Path_) -> Any:
    """Read a variable's text as its setting's type; where it does not fit, it stays text."""
    annotation: Any = _section_type(place[:-1]).model_fields[place[-1]].annotation
    if "list" in str(annotation):
        return _list_from_text(text, place)
    try:
        return TypeAdapter(annotation).validate_python(text)
    except ValidationError:
        return text


def _list_from_text(text: str, place: Path_) -> Any:
    if text == "all" and place[-1] == "allowed_tools":
        return text
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return [part.strip() for part in text.split(",") if part.strip()]
