"""copilot: every option as its command line, and what only its own events say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clinvk.backends.base import Confinement, Session
from clinvk.core.spec import ErrorKind
from clinvk.core.steps import StepKind
from tests.unit.backends.commands import (
    REGISTRY,
    command,
    confined,
    each_mode,
    parse,
    resumed,
    steps,
    unsupported,
)

START = ("copilot", "--output-format", "json", "--no-ask-user", "--no-auto-update")
APPROVAL = {"auto": ["--allow-tool=write"], "none": ["--allow-all"]}


@each_mode
def test_modes(approval: Any, sandbox: Any) -> None:
    built = command("copilot", approval_mode=approval, sandbox_mode=sandbox)
    expected = APPROVAL.get(approval, [])
    if sandbox == "read-only":
        expected = ["--deny-tool=shell", "--deny-tool=write"]
    assert built.argv == (*START, *expected)
    assert bool(built.warnings) == (sandbox == "workspace")


def test_options() -> None:
    built = command("copilot", model="m", allowed_tools=["shell(git:*)"], extra=["--no-color"])
    assert built.argv == (*START, "--model", "m", "--allow-tool=shell(git:*)", "--no-color")
    assert unsupported("copilot") == {"max_turns", "max_tokens", "system_prompt"}


def test_allowed_tools_never_open_what_a_read_only_sandbox_closes() -> None:
    built = command("copilot", sandbox_mode="read-only", allowed_tools=["shell"])
    assert built.argv == (*START, "--deny-tool=shell", "--deny-tool=write")
    (warning,) = built.warnings
    assert warning.startswith("copilot: allowed_tools is not supported")


def test_without_project_settings_no_variable_switches_them_on() -> None:
    assert command("copilot").env == {}
    env = confined("copilot", Confinement(project_settings=False)).env
    assert env["COPILOT_ALLOW_ALL"] == env["GITHUB_COPILOT_PROMPT_MODE_REPO_HOOKS"] == ""


def test_its_session_is_gone_on_with() -> None:
    assert resumed("copilot", Session(keep=True)).argv == START
    assert resumed("copilot", Session(resume="id")).argv == (*START, "--resume=id")


def test_in_a_sandbox_it_has_no_list_of_trusted_directories() -> None:
    paths = REGISTRY.get("copilot").sandbox_paths({"COPILOT_HOME": "/own"})
    assert "/own/settings.json" in paths.settings
    assert "/own/config.json" not in (*paths.settings, *paths.credentials, *paths.copied)
    assert paths.directories == {"COPILOT_HOME": "/own"}


@pytest.mark.parametrize(
    ("environment", "known", "expected"),
    [
        ({"COPILOT_GITHUB_TOKEN": "t"}, None, True),
        ({}, '{"loggedInUsers": [{"login": "me"}]}', True),
        ({}, '{"firstLaunchAt": "x"}', None),
    ],
)
def test_it_is_logged_in_by_a_token_or_its_file(
    environment: dict[str, str], known: str | None, expected: bool | None
) -> None:
    backend = REGISTRY.get("copilot")
    assert backend.is_logged_in(environment, lambda _: known, has_login=None) is expected


def lines(*events: dict[str, Any]) -> bytes:
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def said(content: str, *tools: dict[str, Any]) -> dict[str, Any]:
    data = {"content": content, "model": "m", "toolRequests": list(tools)}
    return {"type": "assistant.message", "data": data}


END = {"type": "result", "sessionId": "s-1", "exitCode": 0}


def test_a_message_that_calls_a_tool_is_not_the_answer() -> None:
    parsed = parse("copilot", 0, lines(said("I look", {"name": "view"}), said("done"), END))
    assert (parsed.output, parsed.model, parsed.session_id) == ("done", "m", "s-1")
    halfway = parse("copilot", 0, lines(said("I look", {"name": "view"}), END))
    assert (halfway.output, halfway.error_kind) == (None, ErrorKind.REFUSED)


def test_a_tool_is_told_when_it_starts_and_when_it_has_ended() -> None:
    start = {"toolName": "bash", "arguments": {"command": "ls"}}
    ended = {"success": False, "error": {"message": "Permission denied"}}
    events = lines(
        {"type": "tool.execution_start", "data": start},
        {"type": "tool.execution_complete", "data": ended},
    )
    call, result = steps("copilot", events)
    assert (call.text, call.can_change, result.ok) == ("Bash ls", True, False)


def test_what_it_was_waiting_for_is_the_error_of_one_that_is_stopped() -> None:
    failed = {"type": "model.call_failure", "data": {"statusCode": 429, "retryAttempt": 0}}
    stopped = {**END, "exitCode": 0}
    parsed = parse("copilot", -15, lines(failed, stopped))
    assert (parsed.error, parsed.error_kind) == (
        "the API answered with 429",
        ErrorKind.RATE_LIMITED,
    )
    (step,) = steps("copilot", lines(failed))
    assert (step.kind, step.error_kind) == (StepKind.RETRY, ErrorKind.RATE_LIMITED)


def test_its_own_words_for_an_answer_that_was_blocked_are_no_answer() -> None:
    words = "The model returned no content because the response was blocked."
    blocked = parse("copilot", 0, lines(said(words), END))
    assert (blocked.error, blocked.error_kind) == (words, ErrorKind.REFUSED)
    delta = {"type": "assistant.message_delta", "data": {"deltaContent": words}}
    assert parse("copilot", 0, lines(delta, said(words), END)).output == words
