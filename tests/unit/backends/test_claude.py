"""claude: every option as its command line, and what only it prints."""

from __future__ import annotations

import json
from typing import Any

from clinvk.backends.base import Confinement
from tests.unit.backends.commands import command, confined, each_mode, parse, unsupported

START = (
    *("claude", "-p", "--output-format", "stream-json", "--verbose"),
    "--no-session-persistence",
)
APPROVAL: dict[str | None, list[str]] = {
    None: [],
    "default": [],
    "auto": ["--permission-mode", "acceptEdits"],
    "none": ["--permission-mode", "bypassPermissions"],
    "always": ["--permission-mode", "default"],
}
READ_ONLY = ["--tools=Read,Grep,Glob"]


@each_mode
def test_modes(approval: Any, sandbox: Any) -> None:
    built = command("claude", approval_mode=approval, sandbox_mode=sandbox)
    if sandbox == "read-only":
        denied = ["--permission-mode", "dontAsk"]
        expected = READ_ONLY + (denied if approval == "none" else APPROVAL[approval])
    else:
        expected = APPROVAL[approval]
    assert built.argv == (*START, *expected)
    assert bool(built.warnings) == (sandbox == "workspace")


def test_options() -> None:
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
        *START,
        *("--model", "opus", "--max-turns", "3", "--append-system-prompt", "be brief"),
        *("--allowedTools=Read,Bash(git:*)", "--effort", "low"),
    )
    assert built.env == {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "100"}
    assert built.warnings == ()
    assert unsupported("claude") == set()


def test_without_project_settings_its_instructions_stay() -> None:
    built = confined("claude", Confinement(project_settings=False), extra=["--effort", "low"])
    assert built.argv == (*START, "--setting-sources=user", "--add-dir=.", "--effort", "low")
    assert built.env == {
        "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
        "CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "1",
    }


def test_the_limit_of_turns_is_the_error() -> None:
    result = {
        "type": "result",
        "subtype": "error_max_turns",
        "is_error": True,
        "num_turns": 3,
        "session_id": "s",
        "total_cost_usd": 0.5,
        "errors": ["Reached maximum number of turns (2)"],
    }
    answer = parse("claude", 1, json.dumps(result).encode(), b"")
    assert answer.error == "stopped at max_turns (3 turns)"
    assert answer.cost_usd == 0.5
