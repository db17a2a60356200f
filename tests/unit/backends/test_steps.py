"""What the readers tell of events while a CLI runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clinvk.backends.steps import KEPT_CHARS, Message
from clinvk.core.spec import ErrorKind, Usage
from clinvk.core.steps import STEP_CHARS, Step, StepKind
from tests.unit.backends.commands import parse, steps


def told(backend: str, *events: dict[str, Any]) -> list[Step]:
    return steps(backend, "".join(f"{json.dumps(event)}\n" for event in events).encode())


def claude(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": {"id": "m1", "content": list(blocks)}, **more}


def tool_use(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "t", "name": name, "input": arguments}


def item(state: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"item.{state}", "item": {"id": "item_1", **fields}}


def gemini(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "tool_use", "tool_name": name, "tool_id": "1", "parameters": parameters}


@pytest.mark.parametrize(
    ("backend", "event", "text", "tool", "can_change"),
    [
        ("claude", claude(tool_use("Edit", file_path="a.py")), "Edit a.py", "Edit", True),
        ("claude", claude(tool_use("Bash", command="ls\n -l")), "Bash ls -l", "Bash", True),
        ("claude", claude(tool_use("Read", file_path="a.py")), "Read a.py", "Read", False),
        ("claude", claude(tool_use("mcp__x__y", a=1)), "mcp__x__y", "mcp__x__y", True),
        ("claude", claude(tool_use("Task", prompt="go")), "Task go", "Task", True),
        (
            "claude",
            claude({"type": "server_tool_use", "name": "code_execution", "input": {}}),
            "code_execution",
            "code_execution",
            True,
        ),
        (
            "codex",
            item("started", type="command_execution", command="/bin/bash -lc 'pytest -q'"),
            "Bash pytest -q",
            "command_execution",
            True,
        ),
        (
            "codex",
            item("started", type="command_execution", command="/bin/zsh -lc ls"),
            "Bash ls",
            "command_execution",
            True,
        ),
        (
            "codex",
            item("started", type="command_execution", command="make 'all"),
            "Bash make 'all",
            "command_execution",
            True,
        ),
        (
            "codex",
            item("started", type="file_change", changes=[{"path": "a"}, {"path": "b"}]),
            "Edit a b",
            "file_change",
            True,
        ),
        (
            "codex",
            item("started", type="mcp_tool_call", server="s", tool="t", arguments={"path": "p"}),
            "s.t p",
            "s.t",
            True,
        ),
        (
            "codex",
            item("started", type="web_search", query="q"),
            "WebSearch q",
            "web_search",
            False,
        ),
        ("codex", item("started", type="new_tool"), "new_tool", "new_tool", True),
        ("gemini", gemini("replace", file_path="a.py"), "Edit a.py", "replace", True),
        ("gemini", gemini("read_file", file_path="a.py"), "Read a.py", "read_file", False),
        ("gemini", gemini("save_memory", fact="f"), "save_memory f", "save_memory", True),
        (
            "gemini",
            gemini("run_shell_command", description="d", command="pytest -q"),
            "Bash pytest -q",
            "run_shell_command",
            True,
        ),
    ],
)
def test_a_tool_call(
    backend: str, event: dict[str, Any], text: str, tool: str, can_change: bool
) -> None:
    (step,) = [s for s in told(backend, event) if s.kind == StepKind.TOOL_CALL]
    assert (step.text, step.tool, step.can_change) == (text, tool, can_change)
    assert parse(backend, 1, json.dumps(event).encode()).acted is can_change


@pytest.mark.parametrize(
    ("backend", "event", "ok", "size_bytes"),
    [
        (
            "claude",
            {
                "type": "user",
                "message": {"content": [{"type": "tool_result", "content": "größer"}]},
            },
            True,
            8,
        ),
        (
            "claude",
            {
                "type": "user",
                "message": {
                    "content": [
                        {
                            "type": "tool_result",
                            "is_error": True,
                            "content": [{"type": "text", "text": "ab"}, {"type": "image"}],
                        }
                    ]
                },
            },
            False,
            2,
        ),
        (
            "codex",
            item("completed", type="command_execution", aggregated_output="abc", status="failed"),
            False,
            3,
        ),
        (
            "codex",
            item(
                "completed",
                type="mcp_tool_call",
                tool="t",
                result={"content": [{"type": "text", "text": "abcd"}]},
                status="completed",
            ),
            True,
            4,
        ),
        ("gemini", {"type": "tool_result", "status": "success", "output": "ab"}, True, 2),
        ("gemini", {"type": "tool_result", "status": "error"}, False, 0),
    ],
)
def test_a_tool_result(backend: str, event: dict[str, Any], ok: bool, size_bytes: int) -> None:
    step = told(backend, event)[-1]
    assert step.kind == StepKind.TOOL_RESULT
    assert (step.ok, step.size_bytes) == (ok, size_bytes)


def delta(content: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": content, "delta": True}


def test_deltas_are_one_message_that_ends_with_the_next_event() -> None:
    deltas = [delta(part) for part in ("one ", "two\n", "three")]
    assert told("gemini", *deltas) == []
    (message, call) = told("gemini", *deltas, gemini("glob"))
    assert (message.kind, message.text) == (StepKind.MESSAGE, "one two three")
    assert call.kind == StepKind.TOOL_CALL
    (again,) = told("gemini", delta("\ud83d"), delta("\ude00 x"), {"type": "init"})
    assert again.text == "😀 x"


def test_a_message_keeps_no_more_than_a_step_shows() -> None:
    message = Message()
    for _ in range(1000):
        message.add("word " * 1000)
    assert message.size_chars <= 2 * KEPT_CHARS
    (step,) = message.end()
    assert len(step.text) == STEP_CHARS
    assert message.end() == []


def test_claude_counts_the_input_of_each_message_once() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 1}
    text = {"type": "text", "text": "x"}
    first = claude(text)
    first["message"]["usage"] = usage
    second = claude(text)
    second["message"] = {**second["message"], "id": "m2", "usage": usage}
    counted = [s.usage for s in told("claude", first, first, second) if s.kind == StepKind.USAGE]
    assert counted == [
        Usage(input_tokens=7, total_tokens=7),
        Usage(input_tokens=14, total_tokens=14),
    ]


def test_claude_tells_of_its_own_retries() -> None:
    event = {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 1,
        "max_retries": 10,
        "retry_delay_ms": 624.5,
        "error_status": 529,
        "error": "overloaded",
    }
    (step,) = told("claude", event)
    assert step == Step(
        kind=StepKind.RETRY,
        text="retry 1 of 10: overloaded (529)",
        error_kind=ErrorKind.OVERLOADED,
        delay_seconds=0.6245,
    )
    (unknown,) = told("claude", event | {"error_status": None, "retry_delay_ms": "x"})
    assert (unknown.error_kind, unknown.delay_seconds) == (ErrorKind.OVERLOADED, None)


def test_a_call_that_codex_tells_only_at_its_end_is_told_then() -> None:
    done = item("completed", type="file_change", changes=[{"path": "a"}], status="completed")
    started = item("started", type="file_change", changes=[{"path": "a"}])
    kinds = [StepKind.TOOL_CALL, StepKind.TOOL_RESULT]
    assert [step.kind for step in told("codex", done)] == kinds
    assert [step.kind for step in told("codex", started, done)] == kinds
    assert [step.kind for step in told("codex", started, done, done)] == [*kinds, *kinds]
    assert parse("codex", 1, json.dumps(done).encode()).acted is True


def test_codex_tells_an_error_once() -> None:
    events: list[dict[str, Any]] = [
        {"type": "error", "message": "no"},
        {"type": "turn.failed", "error": {"message": "no"}},
    ]
    assert [(s.kind, s.text) for s in told("codex", *events)] == [(StepKind.ERROR, "no")]


def test_claude_names_files_from_its_working_directory() -> None:
    start = {"type": "system", "subtype": "init", "cwd": "/repo"}
    edit = claude(tool_use("Edit", file_path="/repo/src/a.py"))
    other = claude(tool_use("Read", file_path="/repository/a.py"))
    texts = [step.text for step in told("claude", start, edit, other)]
    assert texts == ["Edit src/a.py", "Read /repository/a.py"]


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
def test_unknown_events_are_passed_over(backend: str) -> None:
    unknown: list[dict[str, Any]] = [{"type": "new"}, {"type": None}, {}, {"subtype": "new"}]
    assert told(backend, *unknown) == []


def test_no_control_character_gets_into_a_step() -> None:
    (step,) = told("claude", claude(tool_use("\x1b[31mBash", command="a\x1b]0;t\x07b\nc\x00")))[:1]
    assert (step.tool, step.text) == ("Bash", "Bash ab c")
