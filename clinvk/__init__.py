"""clinvk: run many prompts through AI coding CLIs at once and bring back ordered results.

    import clinvk

    run = clinvk.run([clinvk.Task(backend="claude", prompt="…")], max_parallel=4)

docs/guides/python.md explains the names below; everything else may change in any version. Each is
loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clinvk.core.version import __version__

if TYPE_CHECKING:
    from clinvk.api import Options, Results, Run, Stream, Task, run, run_async, stream
    from clinvk.core.errors import BrokerError, ClinvkError, ConfigError, TaskFileError, UsageError
    from clinvk.core.spec import ErrorKind, TaskResult, TaskStatus, Usage
    from clinvk.core.steps import Step, StepKind
    from clinvk.runs.client import Event

__all__ = [
    "BrokerError",
    "ClinvkError",
    "ConfigError",
    "ErrorKind",
    "Event",
    "Options",
    "Results",
    "Run",
    "Step",
    "StepKind",
    "Stream",
    "Task",
    "TaskFileError",
    "TaskResult",
    "TaskStatus",
    "Usage",
    "UsageError",
    "__version__",
    "run",
    "run_async",
    "stream",
]

_PLACES = {
    "clinvk.api": ("Options", "Results", "Run", "Stream", "Task", "run", "run_async", "stream"),
    "clinvk.core.errors": (
        *("BrokerError", "ClinvkError", "ConfigError", "TaskFileError", "UsageError"),
    ),
    "clinvk.core.spec": ("ErrorKind", "TaskResult", "TaskStatus", "Usage"),
    "clinvk.core.steps": ("Step", "StepKind"),
    "clinvk.runs.client": ("Event",),
}


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(place), name)
            return found
    raise AttributeError(f"module 'clinvk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
