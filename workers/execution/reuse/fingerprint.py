"""What has to be the same for a result to be taken again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import clinvk.core
from clinvk.backends.base import Command, Confinement, build_command
from clinvk.core.child_environment import COMMON, matches
from clinvk.core.spec import TaskSpec
from workers.execution.masking import is_secret
from workers.execution.preparation import AcceptedTask
from workers.execution.reuse.directory_state import DirectoryState

FORMAT = 1
"""Of what a fingerprint is made: another format finds nothing of an older one."""
SAME_RESULT = frozenset(
    {
        *("id", "name", "tags", "meta", "output_format", "steps", "inputs"),
        *("timeout_seconds", "stall_timeout_seconds", "setup_timeout_seconds"),
        *("schema_repairs", "verify_retries", "verify_timeout_seconds"),
        *("on_worker_lost", "max_attempts", "max_wait_seconds"),
        *("retries", "retry_on", "retry_after_changes"),
        *("alternatives", "fallback", "variants", "reuse", "reuse_anywhere", "workdir"),
    }
)
"""Fields of a task that do not change what an execution answers; all others count."""
SOMEWHERE = "/workdir"
"""Stands for the task's directory in its command."""
OWN_DIRECTORY = str(Path(clinvk.__file__).parent)


def fingerprint(
    task: AcceptedTask,
    version: str,
    state: DirectoryState | str,
    variables: Mapping[str, str],
    content: Callable[[str], str | None],
) -> str:
    """Return the fingerprint of a task.

    `state` is that of its directory, or the directory itself. `variables` is the environment of its
    commands. `content` tells a file by what is in it.
    """
    confinement = Confinement(
        sandboxed=task.decision.is_enforced,
        project_settings=task.allows_project_settings,
        directory=SOMEWHERE,
    )
    command = build_command(task.backend, task.spec, confinement)
    parts = {
        "format": FORMAT,
        "version": version,
        "task": _task(task.spec),
        "command": _command(command, task.backend.program, content),
        "variables": _counting({**variables, **command.env}),
        "is_enforced": task.decision.is_enforced,
        "project_settings": task.allows_project_settings,
        "state": state if isinstance(state, str) else [state.tree, state.path, state.base],
    }
    text = json.dumps(parts, sort_keys=True).replace(OWN_DIRECTORY, "clinvk")
    return hashlib.sha256(text.encode()).hexdigest()


def _task(spec: TaskSpec) -> dict[str, Any]:
    fields = json.loads(spec.to_wire())
    return {name: value for name, value in fields.items() if name not in SAME_RESULT}


def _command(command: Command, program: str, content: Callable[[str], str | None]) -> list[str]:
    """Return a command line; a program, or a file, is what is in it, wherever it is."""
    first, *rest = command.argv
    named = "program" if first == program else first
    return [named, *(_argument(each, content) for each in rest)]


def _argument(argument: str, content: Callable[[str], str | None]) -> str:
    found = content(argument) if argument.startswith("/") else None
    return argument if found is None else f"sha256:{found}"


def _counting(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that say what a CLI does: no secrets, and not what every program has."""
    return {
        name: value
        for name, value in variables.items()
        if not is_secret(name) and not matches(name, COMMON)
    }
