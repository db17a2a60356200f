"""Which value of a setting wins: flag > environment > task file > configuration file > default.

That holds for values like `false` and `0` too. `backends.<name>` beats `unified_flags`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clinvk.config.environment import variable
from clinvk.config.models import UNSET_BACKEND, Config
from clinvk.config.places import Place, value_at
from clinvk.core.durations import wait_seconds
from clinvk.core.spec import RunOptions, TaskSpec

ANY = "*"
"""Stands for the name of a task's backend in TASK_SETTINGS."""

TASK_SETTINGS: Mapping[str, tuple[Any, Sequence[Place]]] = {
    "model": ("", [("backends", ANY, "model")]),
    "system_prompt": ("", [("backends", ANY, "system_prompt")]),
    "allowed_tools": ("all", [("backends", ANY, "allowed_tools")]),
    "approval_mode": (
        "default",
        [("backends", ANY, "approval_mode"), ("unified_flags", "approval_mode")],
    ),
    "sandbox_mode": (
        "default",
        [("backends", ANY, "sandbox_mode"), ("unified_flags", "sandbox_mode")],
    ),
    "workspace": ("shared", [("backends", ANY, "workspace"), ("unified_flags", "workspace")]),
    "max_turns": (0, [("unified_flags", "max_turns")]),
    "max_tokens": (0, [("unified_flags", "max_tokens")]),
    "timeout_seconds": (0, [("unified_flags", "command_timeout_secs")]),
    "stall_timeout_seconds": (
        0,
        [("backends", ANY, "stall_timeout_seconds"), ("unified_flags", "stall_timeout_seconds")],
    ),
    "on_worker_lost": ("retry", [("unified_flags", "on_worker_lost")]),
    "max_attempts": (RunOptions().max_attempts, [("unified_flags", "max_attempts")]),
    "fallback": ([], [("backends", ANY, "fallback")]),
    "max_wait_seconds": (math.inf, [("limits", "max_wait")]),
    "retries": (None, [("unified_flags", "retries")]),
    "retry_on": ([], [("unified_flags", "retry_on")]),
    "retry_after_changes": (False, [("unified_flags", "retry_after_changes")]),
    "reuse": (False, [("unified_flags", "reuse")]),
}
"""Fields of a task that have settings: the value that asks for nothing special, for which a
`TaskSpec` has None, and the settings, of which an earlier one beats a later one."""

CONVERTED: Mapping[str, Callable[[Any], Any]] = {"max_wait_seconds": wait_seconds}
"""What makes the value of a field of a setting's value, where they differ."""

VARYING = (
    *(
        name
        for name, (_, places) in TASK_SETTINGS.items()
        if any(ANY in place for place in places) and name not in {"model", "fallback"}
    ),
    "extra",
)
"""Fields of a task whose defaults differ by backend, beside its model."""


Fields = dict[str, Any]
NO_FLAGS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class _FieldDefault:
    """What the configuration says of a field; with `wins`, it beats the task's own value."""

    field: str
    value: Any
    wins: bool


@dataclass(frozen=True, slots=True)
class Precedence:
    """The rules, over one configuration; `origins` has the file or variable of each set place."""

    config: Config
    origins: Mapping[Place, str]
    _of_backends: dict[str, list[_FieldDefault]] = field(default_factory=dict)

    def pick(self, flag: Any, file_value: Any, place: Place) -> Any:
        """Decide one setting of a run; None is what the command line or the file does not set."""
        configured = value_at(self.config, place)
        if flag is not None:
            return flag
        if file_value is None or self._from_environment(place):
            return configured
        return file_value

    def resolve(self, spec: TaskSpec, flags: Mapping[str, Any] = NO_FLAGS) -> TaskSpec:
        """Return a task with what the configuration says of tasks of its backend filled in.

        `flags` are fields that the command line sets. For each other backend that may run the task,
        `variants` gets the fields that are others there.
        """
        resolved = self._resolved(spec)
        if flags:
            given = {name: _or_none(name, value) for name, value in flags.items()}
            resolved = dataclasses.replace(resolved, **given)
        if resolved.reuse and spec.reuse:
            resolved = dataclasses.replace(resolved, reuse_anywhere=True)
        if not resolved.has_several:
            return resolved
        alternatives = {name: self._variant(spec, name, resolved) for name in spec.alternatives}
        fallback = dict(self._fallbacks(spec, resolved))
        variants = {**alternatives, **fallback}
        return dataclasses.replace(
            resolved,
            fallback=list(fallback) or None,
            variants={entry: fields for entry, fields in variants.items() if fields},
        )

    def _fallbacks(self, spec: TaskSpec, resolved: TaskSpec) -> Iterator[tuple[str, Fields]]:
        """Yield each fallback of a task with its variant, but not what the task itself is."""
        seen = {(resolved.backend, resolved.model)}
        for entry in resolved.fallback or ():
            fields = self._variant(spec, entry, resolved)
            backend, _, model = entry.partition(":")
            route = (backend, fields.get("model", model or None))
            if route not in seen and entry not in spec.alternatives:
                seen.add(route)
                yield entry, fields

    def _variant(self, spec: TaskSpec, entry: str, resolved: TaskSpec) -> Fields:
        """Return the fields of a task that are others where it runs as `entry`."""
        backend, _, named = entry.partition(":")
        model = named or spec.variants.get(entry, {}).get("model")
        other = self._resolved(dataclasses.replace(spec, backend=backend, model=model or None))
        fields = {name: getattr(other, name) for name in VARYING}
        changes = {
            name: value for name, value in fields.items() if value != getattr(resolved, name)
        }
        return changes if other.model == (named or None) else {**changes, "model": other.model}

    def _resolved(self, spec: TaskSpec) -> TaskSpec:
        changes: dict[str, Any] = {}
        for default in self._defaults(spec.backend):
            own = getattr(spec, default.field)
            is_given = own is not None and not default.wins
            value = _or_none(default.field, own) if is_given else default.value
            if value != own:
                changes[default.field] = value
        backend = self.config.backends.get(spec.backend, UNSET_BACKEND)
        if backend.extra_flags:
            changes["extra"] = [*backend.extra_flags, *spec.extra]
        return dataclasses.replace(spec, **changes) if changes else spec

    def _defaults(self, backend: str) -> list[_FieldDefault]:
        """Return what holds for all tasks of a backend: worked out once, used for each task."""
        if backend not in self._of_backends:
            self._of_backends[backend] = [
                self._default(name, [_with_name(place, backend) for place in places])
                for name, (_, places) in TASK_SETTINGS.items()
            ]
        return self._of_backends[backend]

    def _default(self, name: str, places: Sequence[Place]) -> _FieldDefault:
        in_environment = [place for place in places if self._from_environment(place)]
        set_places = [place for place in places if place in self.origins]
        place = (*in_environment, *set_places, places[-1])[0]
        value = CONVERTED.get(name, _same)(value_at(self.config, place))
        if name == "fallback":
            value = [entry for entry in value if self._is_enabled(entry.partition(":")[0])]
        return _FieldDefault(name, _or_none(name, value), bool(in_environment))

    def _is_enabled(self, backend: str) -> bool:
        return self.config.backends.get(backend, UNSET_BACKEND).enabled

    def _from_environment(self, place: Place) -> bool:
        return self.origins.get(place) == variable(place)


def _or_none(name: str, value: Any) -> Any:
    """Return a field's value as a `TaskSpec` has it: None for one that asks for nothing special."""
    return None if value == TASK_SETTINGS[name][0] else value


def _same(value: Any) -> Any:
    return value


def _with_name(place: Place, backend: str) -> Place:
    return tuple(backend if part == ANY else part for part in place)
