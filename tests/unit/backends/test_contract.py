"""What every backend keeps, whatever its CLI."""

from __future__ import annotations

import pytest

from clinvk.backends import BackendRegistry, packaged_names
from clinvk.backends.base import Confinement, Session
from tests.unit.backends.commands import (
    ENDED_AT,
    REGISTRY,
    command,
    confined,
    process,
    resumed,
)


@pytest.mark.parametrize("backend", [*packaged_names(), "mytool"])
def test_the_prompt_is_on_stdin_and_nowhere_else(backend: str) -> None:
    built = command(backend)
    assert built.stdin == "-p é".encode()
    assert not [part for part in built.argv if "é" in part]


def test_an_unknown_backend_is_a_key_error() -> None:
    with pytest.raises(KeyError, match='no backend "nope"'):
        REGISTRY.get("nope")


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
@pytest.mark.parametrize("approval", ["auto", "none", "always"])
@pytest.mark.parametrize("mode", ["read-only", "workspace"])
def test_in_a_sandbox_a_cli_restricts_itself_no_more_than_the_approval_mode_says(
    backend: str, approval: str, mode: str
) -> None:
    inside = confined(
        backend, Confinement(sandboxed=True), sandbox_mode=mode, approval_mode=approval
    )
    full = command(backend, sandbox_mode="full", approval_mode=approval)
    assert inside.argv == full.argv
    assert inside.warnings == ()


@pytest.mark.parametrize("mode", ["read-only", "workspace"])
def test_any_command_line_has_modes_in_a_sandbox(mode: str) -> None:
    assert confined("mytool", Confinement(sandboxed=True), sandbox_mode=mode).warnings == ()
    assert "sandbox_mode is not supported" in command("mytool", sandbox_mode=mode).warnings[0]


@pytest.mark.parametrize(
    ("backend", "variable", "settings", "credentials"),
    [
        ("claude", "CLAUDE_CONFIG_DIR", "settings.json", ".credentials.json"),
        ("codex", "CODEX_HOME", "config.toml", "auth.json"),
        ("gemini", "GEMINI_CLI_HOME", ".gemini/settings.json", ".gemini/oauth_creds.json"),
    ],
)
def test_where_a_clis_own_files_are(
    backend: str, variable: str, settings: str, credentials: str
) -> None:
    moved = REGISTRY.get(backend).sandbox_paths({variable: "/srv/own"})
    assert f"/srv/own/{settings}" in moved.settings
    assert f"/srv/own/{credentials}" in moved.credentials
    assert moved.directories == {variable: "/srv/own"}
    at_home = REGISTRY.get(backend).sandbox_paths({})
    own = "~" if backend == "gemini" else f"~/.{backend}"
    assert f"{own}/{settings}" in at_home.settings
    assert f"{own}/{credentials}" in at_home.credentials
    assert at_home.directories == {}


@pytest.mark.parametrize("backend", [*packaged_names(), "mytool"])
def test_a_session_changes_nothing_of_a_cli_that_cannot_resume(backend: str) -> None:
    session = Session(keep=True, resume="some-id")
    is_other = resumed(backend, session).argv != resumed(backend, Session()).argv
    assert is_other == REGISTRY.get(backend).can_resume


def test_scripts_of_a_configured_command_line_are_its_programs() -> None:
    registry = BackendRegistry.from_config({"x": {"command": ["python3", "/a/b.py", "--c", "~/d"]}})
    assert registry.get("x").sandbox_paths({}).programs == ("/a/b.py", "~/d")


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
def test_what_a_session_leaves_is_named_by_its_id_alone(backend: str) -> None:
    session_id = "0a1b2c3d-1111-2222-3333-444444444444"
    environment = {"CLAUDE_CONFIG_DIR": "/o[1]", "CODEX_HOME": "/o", "GEMINI_CLI_HOME": "/o"}
    traces = REGISTRY.get(backend).session_traces(session_id, environment)
    assert traces.files or traces.command
    assert all(session_id[:8] in pattern for pattern in (*traces.files, *traces.command[-1:]))
    if backend == "claude":
        assert traces.files[0] == f"/o[[]1]/projects/*/{session_id}.jsonl"


@pytest.mark.parametrize(
    ("backend", "line"),
    [
        ("claude", '{"type":"system","subtype":"init","session_id":"some-session"}'),
        ("codex", '{"type":"thread.started","thread_id":"some-session"}'),
        ("gemini", '{"type":"init","session_id":"some-session"}'),
    ],
)
def test_a_session_is_known_from_the_first_event_on(backend: str, line: str) -> None:
    reader = REGISTRY.get(backend).reader()
    assert reader.session_id is None
    reader.read(line, ENDED_AT)
    assert reader.session_id == "some-session"
    assert reader.finish(process(-9, b"", b"")).session_id == "some-session"
