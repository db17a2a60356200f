"""claude: every option as its command line, and what only it prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from clinvk.backends.base import Confinement, Session
from clinvk.backends.claude import Claude
from clinvk.core.spec import ErrorKind, TaskSpec
from tests.unit.backends.commands import command, confined, each_mode, parse, resumed, unsupported

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


def stream(*events: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(event)}\n" for event in events).encode()


def test_an_error_after_which_it_went_on_is_not_that_of_its_end() -> None:
    said = {"content": [{"type": "text", "text": "x"}]}
    events: list[dict[str, Any]] = [
        {"type": "assistant", "message": said, "error": "rate_limit"},
        {"type": "assistant", "message": said},
        {"type": "result", "subtype": "error_max_turns", "is_error": True, "num_turns": 2},
    ]
    assert parse("claude", 1, stream(*events)).error_kind is ErrorKind.FAILED
    assert parse("claude", 1, stream(events[0], events[2])).error_kind is ErrorKind.RATE_LIMITED


def test_a_window_that_opened_meanwhile_is_not_that_of_a_later_limit() -> None:
    def window(status: str) -> dict[str, Any]:
        info = {"status": status, "resetsAt": 1795567741, "rateLimitType": "five_hour"}
        return {"type": "rate_limit_event", "rate_limit_info": info}

    end = {"type": "result", "is_error": True, "result": "You've hit your weekly limit"}
    rejected = parse("claude", 1, stream(window("rejected"), end))
    assert rejected.retry_at == datetime.fromtimestamp(1795567741, UTC)
    allowed = parse("claude", 1, stream(window("rejected"), window("allowed"), end))
    assert (allowed.error_kind, allowed.retry_at) == (ErrorKind.USAGE_LIMIT, None)


def test_its_session_is_kept_and_gone_on_with() -> None:
    assert "--no-session-persistence" in command("claude").argv
    kept = resumed("claude", Session(keep=True)).argv
    assert "--no-session-persistence" not in kept
    assert resumed("claude", Session(keep=True, resume="id")).argv == (*kept, "--resume", "id")


def test_it_is_told_what_a_budget_leaves() -> None:
    spec = TaskSpec(backend="claude", prompt="x")
    argv = Claude().command(spec, Confinement(budget_usd=1.25)).argv
    assert argv[list(argv).index("--max-budget-usd") + 1] == "1.2500"
    assert "--max-budget-usd" not in Claude().command(spec).argv
