"""Every option of a task as each CLI's command line."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from clinvk.backends import BackendRegistry, packaged_names
from clinvk.backends.base import Backend, Captured, Command, ProcessResult
from clinvk.core.spec import ErrorKind, TaskSpec

REGISTRY = BackendRegistry.from_config(
    {"mytool": {"command": ["mytool", "--stdin"], "env": {"KEY": "secret"}}}
)
CLAUDE = ["claude", "-p", "--output-format", "json", "--no-session-persistence"]
CODEX = ["codex", "exec", "--json", "--skip-git-repo-check", "--ephemeral"]
GEMINI = ["gemini", "-o", "stream-json", "--skip-trust"]


def command(backend: str, **fields: Any) -> Command:
    return REGISTRY.get(backend).command(TaskSpec(backend=backend, prompt="-p é", **fields))


APPROVALS = (None, "default", "auto", "none", "always")
SANDBOXES = (None, "default", "read-only", "workspace", "full")

# What each combination of modes must add to the command line: approval, then sandbox.
CLAUDE_APPROVAL = {
    None: [],
    "default": [],
    "auto": ["--permission-mode", "acceptEdits"],
    "none": ["--permission-mode", "bypassPermissions"],
    "always": ["--permission-mode", "default"],
}
CLAUDE_READ_ONLY = ["--tools", "Read,Grep,Glob"]
CODEX_NONE = ["-c", 'approval_policy="never"']
CODEX_SANDBOX = {
    "read-only": ["--sandbox", "read-only"],
    "workspace": ["--sandbox", "workspace-write"],
    "full": ["--sandbox", "danger-full-access"],
}
CODEX_APPROVAL = {
    "auto": ["--sandbox", "workspace-write"],
    "always": ["--sandbox", "read-only"],
    "none": CODEX_NONE,
}
GEMINI_APPROVAL = {
    "auto": ["--approval-mode", "auto_edit"],
    "none": ["--approval-mode", "yolo"],
    "always": ["--approval-mode", "default"],
}


def expected_claude(approval: str | None, sandbox: str | None) -> list[str]:
    if sandbox == "read-only":
        mode = ["--permission-mode", "dontAsk"] if approval == "none" else CLAUDE_APPROVAL[approval]
        return CLAUDE_READ_ONLY + mode
    return CLAUDE_APPROVAL[approval]


def expected_codex(approval: str | None, sandbox: str | None) -> list[str]:
    own = CODEX_SANDBOX.get(sandbox or "")
    if approval == "none":
        return CODEX_NONE + (own or [])
    return own or CODEX_APPROVAL.get(approval or "", [])


def expected_gemini(approval: str | None, sandbox: str | None) -> list[str]:
    if sandbox == "read-only":
        return ["--approval-mode", "plan"]
    mode = GEMINI_APPROVAL.get(approval or "", [])
    return [*mode, "--no-sandbox"] if sandbox == "full" else mode


@pytest.mark.parametrize(("approval", "sandbox"), list(itertools.product(APPROVALS, SANDBOXES)))
def test_modes(approval: Any, sandbox: Any) -> None:
    modes = {"approval_mode": approval, "sandbox_mode": sandbox}
    claude, codex, gemini = (command(name, **modes) for name in ("claude", "codex", "gemini"))
    assert claude.argv == (*CLAUDE, *expected_claude(approval, sandbox))
    assert codex.argv == (*CODEX, *expected_codex(approval, sandbox), "-")
    assert gemini.argv == (*GEMINI, *expected_gemini(approval, sandbox))
    unenforced = sandbox == "workspace"
    assert [bool(c.warnings) for c in (claude, codex, gemini)] == [unenforced, False, unenforced]


@pytest.mark.parametrize("backend", [*packaged_names(), "mytool"])
def test_the_prompt_is_on_stdin_and_nowhere_else(backend: str) -> None:
    built = command(backend)
    assert built.stdin == "-p é".encode()
    assert not [part for part in built.argv if "é" in part]


def test_claude_options() -> None:
    built = command(
        "claude",
        model="opus",
        max_turns=3,
        max_tokens=100,
        system_prompt="be brief",
        allowed_tools=["Read", "Bash(git:*)"],
        extra=["--effort", "low"],
    )
    assert built.argv == (
        *CLAUDE,
        *("--model", "opus", "--max-turns", "3", "--append-system-prompt", "be brief"),
        *("--allowedTools=Read,Bash(git:*)", "--effort", "low"),
    )
    assert built.env == {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "100"}
    assert built.warnings == ()


def test_codex_options() -> None:
    text = 'line "one"\nline two 🎉'
    built = command("codex", model="m", system_prompt=text, extra=["-c", "a=1"])
    assert built.argv[:7] == (*CODEX, "--model", "m")
    assert built.argv[7] == "-c"
    assert json.loads(built.argv[8].removeprefix("developer_instructions=")) == text
    assert built.argv[9:] == ("-c", "a=1", "-")


def test_gemini_options() -> None:
    built = command("gemini", model="m", allowed_tools=["a", "b"], extra=["--debug"])
    assert built.argv == (*GEMINI, "-m", "m", "--allowed-tools=a,b", "--debug")
    assert built.env["GEMINI_CLI_NO_RELAUNCH"] == "true"


@pytest.mark.parametrize(
    ("backend", "fields"),
    [
        ("claude", set()),
        ("codex", {"max_turns", "max_tokens", "allowed_tools"}),
        ("gemini", {"max_turns", "max_tokens", "system_prompt"}),
        ("mytool", {"max_turns", "max_tokens", "allowed_tools", "system_prompt", "model"}),
    ],
)
def test_what_cannot_be_honoured_is_said(backend: str, fields: set[str]) -> None:
    options: dict[str, Any] = {
        "max_turns": 3,
        "max_tokens": 9,
        "allowed_tools": ["Read"],
        "system_prompt": "x",
        "model": "m",
    }
    warnings = command(backend, **options).warnings
    assert len(warnings) == len(fields)
    for field in fields:
        assert any(w.startswith(f"{backend}: {field} is not supported") for w in warnings)


def test_allowed_tools_never_open_what_a_read_only_sandbox_closes() -> None:
    built = command("gemini", sandbox_mode="read-only", allowed_tools=["run_shell_command"])
    assert built.argv == (*GEMINI, "--approval-mode", "plan")
    assert [w.startswith("gemini: allowed_tools is not supported") for w in built.warnings] == [
        True
    ]


def test_a_configured_backend() -> None:
    built = command("mytool", extra=["--fast"])
    assert built.argv == ("mytool", "--stdin", "--fast")
    assert built.env == {"KEY": "secret"}
    assert built.secret_env == {"KEY"}
    backend = REGISTRY.get("mytool")
    assert _parse(backend, 0, b"answer\n\n").output == "answer"
    assert _parse(backend, 0, b"").error_kind is None
    failed = _parse(backend, 3, b"half", b"note\nTraceback\nValueError: no\n")
    assert (failed.error, failed.error_kind) == ("ValueError: no", ErrorKind.FAILED)
    assert _parse(backend, -9, b"").error == "ended by signal 9 without an answer"
    assert _parse(backend, 4, b"").error == "exited with code 4 without an answer"


def _parse(backend: Backend, returncode: int, stdout: bytes, stderr: bytes = b""):  # type: ignore[no-untyped-def]
    return backend.parse(
        ProcessResult(returncode=returncode, stdout=Captured.of(stdout), stderr=Captured.of(stderr))
    )


def test_an_unknown_backend_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        REGISTRY.get("nope")
