"""Which value of a setting wins: flag > environment > task file > configuration file > default.

That holds for values like `false` and `0` too. `backends.<name>` beats `unified_flags`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clinvk.config.environment import variable
from clinvk.config.models import UNSET_BACKEND, Config
from clinvk.config.places import Place, value_at
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
    "max_turns": (0, [("unified_flags", "max_turns")]),
    "max_tokens": (0, [("unified_flags", "max_tokens")]),
    "timeout_seconds": (0, [("unified_flags", "command_timeout_secs")]),
    "stall_timeout_seconds": (
        0,
        [("backends", ANY, "stall_timeout_seconds"), ("unified_flags", "stall_timeout_seconds")],
    ),
    "on_worker_lost": ("retry", [("unified_flags", "on_worker_lost")]),
    "max_attempts": (RunOptions().max_attempts, [("unified_flags", "max_attempts")]),
}
"""Fields of a task that have settings: the value that asks for nothing special, for which a
`TaskSpec` has None, and the settings, of which an earlier one beats a later one."""


@dataclass(frozen=True, slots=True)
class _FieldDefault:
    """What the configuration says of a field; with `wins`, it beats the task's own value."""

    field: str
    neutral: Any
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

    def resolve(self, spec: TaskSpec) -> TaskSpec:
        """Return a task with what the configuration says of tasks of its backend filled in."""
        changes: dict[str, Any] = {}
        for default in self._defaults(spec.backend):
            own = getattr(spec, default.field)
            value = default.value if default.wins or own is None else own
            value = None if value == default.neutral else value
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
                self._default(name, neutral, [_with_name(place, backend) for place in places])
                for name, (neutral, places) in TASK_SETTINGS.items()
            ]
        return self._of_backends[backend]

    def _default(self, name: str, neutral: Any, places: Sequence[Place]) -> _FieldDefault:
        in_environment = [place for place in places if self._from_environment(place)]
        set_places = [place for place in places if place in self.origins]
        place = (*in_environment, *set_places, places[-1])[0]
        return _FieldDefault(name, neutral, value_at(self.config, place), bool(in_environment))

    def _from_environment(self, place: Place) -> bool:
        return self.origins.get(place) == variable(place)


def _with_name(place: Place, backend: str) -> Place:
    return tuple(backend if part == ANY else part for part in place)
