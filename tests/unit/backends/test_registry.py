"""Backends by name: those of packages, those of the configuration, and those that are like one."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.backends import BackendRegistry
from clinvk.core.spec import TaskSpec

CONFIGURED: dict[str, dict[str, Any]] = {
    "loud": {"command": ["tr", "a-z", "A-Z"]},
    "claude-b": {"like": "claude"},
}


def test_a_backend_like_another_one_has_its_class_and_a_name_of_its_own() -> None:
    registry = BackendRegistry.from_config(CONFIGURED)
    original, other = registry.get("claude"), registry.get("claude-b")
    assert type(other) is type(original)
    assert (other.name, original.name) == ("claude-b", "claude")
    assert registry.get("claude-b") is other  # environments are made once for each
    assert "claude-b" in registry.names()
    assert (other.program, other.pass_env) == (original.program, original.pass_env)
    paths = other.sandbox_paths({"CLAUDE_CONFIG_DIR": "/b"})
    assert any(
        path.startswith("/b") for path in (*paths.settings, *paths.credentials, *paths.copied)
    )


def test_its_warnings_have_its_own_name() -> None:
    backend = BackendRegistry.from_config(CONFIGURED).get("claude-b")
    command = backend.command(TaskSpec(backend="claude-b", prompt="x", sandbox_mode="workspace"))
    assert [warning for warning in command.warnings if warning.startswith("claude-b: ")]


def test_an_unknown_name_is_told_with_all_that_there_are() -> None:
    with pytest.raises(KeyError, match=r"claude, claude-b, .*loud"):
        BackendRegistry.from_config(CONFIGURED).get("lout")
