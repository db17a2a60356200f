"""What the tests of backends share: a registry, and the command of a task with given options."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from clinvk.backends import BackendRegistry
from clinvk.backends.base import Captured, Command, ParsedOutput, ProcessResult
from clinvk.core.spec import TaskSpec

REGISTRY = BackendRegistry.from_config(
    {"mytool": {"command": ["mytool", "--stdin"], "env": {"KEY": "secret"}}}
)
APPROVALS = (None, "default", "auto", "none", "always")
SANDBOXES = (None, "default", "read-only", "workspace", "full")

each_mode = pytest.mark.parametrize(
    ("approval", "sandbox"), list(itertools.product(APPROVALS, SANDBOXES))
)

OPTIONS: dict[str, Any] = {
    "max_turns": 3,
    "max_tokens": 9,
    "allowed_tools": ["Read"],
    "system_prompt": "x",
    "model": "m",
}


def command(backend: str, **fields: Any) -> Command:
    """Return the command of a task with these options."""
    return REGISTRY.get(backend).command(TaskSpec(backend=backend, prompt="-p é", **fields))


def parse(backend: str, returncode: int, stdout: bytes, stderr: bytes = b"") -> ParsedOutput:
    """Return what a backend makes of a process."""
    return REGISTRY.get(backend).parse(
        ProcessResult(returncode=returncode, stdout=Captured.of(stdout), stderr=Captured.of(stderr))
    )


def unsupported(backend: str) -> set[str]:
    """Return the options that a backend warns of, each once."""
    start, end = f"{backend}: ", " is not supported"
    warnings = command(backend, **OPTIONS).warnings
    fields = [warning.removeprefix(start).partition(end)[0] for warning in warnings]
    assert len(fields) == len(set(fields))
    return set(fields)
