"""What the tests of backends share: a registry, and the command of a task with given options."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from clinvk.backends import BackendRegistry, base
from clinvk.backends.base import (
    UNCONFINED,
    Captured,
    Command,
    Confinement,
    ParsedOutput,
    ProcessResult,
    Session,
)
from clinvk.core.spec import TaskSpec
from clinvk.core.steps import Step

REGISTRY = BackendRegistry.from_config(
    {"mytool": {"command": ["mytool", "--stdin"], "env": {"KEY": "secret"}}}
)
ENDED_AT = datetime(2026, 11, 24, 22, 0, tzinfo=UTC)
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


def confined(backend: str, confinement: Confinement, **fields: Any) -> Command:
    """Return the command of a task with these options, on a worker that confines it."""
    return REGISTRY.get(backend).command(
        TaskSpec(backend=backend, prompt="x", **fields), confinement
    )


def resumed(backend: str, session: Session, **fields: Any) -> Command:
    """Return the command of a task whose session may be kept, or is gone on with."""
    spec = TaskSpec(backend=backend, prompt="go on", **fields)
    return base.build_command(REGISTRY.get(backend), spec, UNCONFINED, session)


def parse(backend: str, returncode: int, stdout: bytes, stderr: bytes = b"") -> ParsedOutput:
    """Return what a backend makes of a process."""
    return base.parse(REGISTRY.get(backend), process(returncode, stdout, stderr))


def steps(backend: str, stdout: bytes) -> list[Step]:
    """Return the steps that a backend makes of an output."""
    found: list[Step] = []
    base.parse(REGISTRY.get(backend), process(0, stdout, b""), found.append)
    return found


def process(returncode: int, stdout: bytes, stderr: bytes) -> ProcessResult:
    """Return a process that ended at a fixed time."""
    return ProcessResult(
        returncode=returncode,
        stdout=Captured.of(stdout),
        stderr=Captured.of(stderr),
        ended_at=ENDED_AT,
    )


def unsupported(backend: str) -> set[str]:
    """Return the options that a backend warns of, each once."""
    start, end = f"{backend}: ", " is not supported"
    warnings = command(backend, **OPTIONS).warnings
    fields = [warning.removeprefix(start).partition(end)[0] for warning in warnings]
    assert len(fields) == len(set(fields))
    return set(fields)
