"""Tool calls that a prompt asks the fake model for, in the words of each CLI's own tools.

    prompt("x", shell("touch a"), write("b.txt", "text"), HANG)

The model calls these tools one after the other, each once it has the last one's result, and then
answers the question. `HANG` is a model that says nothing more. Paths are relative to the task's
working directory, or absolute.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

Json = dict[str, Any]

_IN_PROMPT = re.compile(r"calls:([\w=-]+)")


@dataclass(frozen=True)
class Call:
    """What the model is to do: `verb` is `shell`, `read`, `write`, `edit`, `tool` or `hang`."""

    verb: str
    arguments: Json = field(default_factory=dict)


def shell(command: str) -> Call:
    """Run a command in a shell."""
    return Call("shell", {"command": command})


def read(path: str) -> Call:
    """Read a file; claude edits only what it has read."""
    return Call("read", {"path": path})


def write(path: str, text: str) -> Call:
    """Make a file; `text` is whole lines."""
    return Call("write", {"path": path, "text": text})


def edit(path: str, old: str, new: str) -> Call:
    """Replace a line of a file."""
    return Call("edit", {"path": path, "old": old, "new": new})


def tool(name: str, **arguments: Any) -> Call:
    """Call any tool as it is called by its CLI, such as one of an MCP server."""
    return Call("tool", {"name": name, "arguments": arguments})


HANG = Call("hang")


def prompt(question: str, *calls: Call) -> str:
    """Return a prompt that makes the model call these tools and then answer the question."""
    script = json.dumps([asdict(call) for call in calls]).encode()
    return f"question:{question} calls:{base64.urlsafe_b64encode(script).decode()}"


def next_call(body: Json) -> Call | None:
    """Return what the model is to do next in a conversation; None where it is to answer.

    A request without tools is one that the CLI makes for itself, such as for a title.
    """
    scripts = _IN_PROMPT.findall(json.dumps(body, ensure_ascii=False))
    if not scripts or not body.get("tools"):
        return None
    calls = [Call(**call) for call in json.loads(base64.urlsafe_b64decode(scripts[-1]))]
    done = len(results(body))
    return calls[done] if done < len(calls) else None


def results(body: Json) -> list[str]:
    """Return what the tools of a conversation have returned so far, in any of the APIs."""
    return [text if isinstance(text, str) else json.dumps(text) for text in _results(body)]


def _results(body: Json) -> Iterator[Any]:
    for message in body.get("messages") or []:
        content = message.get("content")
        if message.get("role") == "tool":
            yield content
        for block in content if isinstance(content, list) else []:
            if block.get("type") == "tool_result":
                yield block.get("content")
    for item in body.get("input") or []:
        if item.get("type") in {"function_call_output", "custom_tool_call_output"}:
            yield item.get("output")
    for turn in body.get("contents") or []:
        for part in turn.get("parts") or []:
            if "functionResponse" in part:
                yield part["functionResponse"].get("response")


def native(call: Call, api: str) -> tuple[str, Json]:
    """Return a call as a CLI knows it: name, arguments. `api` is its API, or the CLI's own name."""
    given = call.arguments
    if call.verb == "tool":
        return given["name"], given["arguments"]
    as_known_to = {
        "anthropic": _claude,
        "openai": _codex,
        "gemini": _gemini,
        "copilot": _copilot,
        "opencode": _opencode,
    }
    return as_known_to[api](call.verb, given)


def _claude(verb: str, given: Json) -> tuple[str, Json]:
    match verb:
        case "shell":
            return "Bash", {"command": given["command"], "description": "a command"}
        case "read":
            return "Read", {"file_path": given["path"]}
        case "write":
            return "Write", {"file_path": given["path"], "content": given["text"]}
        case _:
            old, new = given["old"], given["new"]
            return "Edit", {"file_path": given["path"], "old_string": old, "new_string": new}


def _codex(verb: str, given: Json) -> tuple[str, Json]:
    """Return a command: this CLI has one tool, and knows its own patches in what it runs."""
    match verb:
        case "shell":
            command = given["command"]
        case "read":
            command = f"cat '{given['path']}'"
        case "write":
            lines = "".join(f"+{line}\n" for line in given["text"].splitlines())
            command = _patch(f"*** Add File: {given['path']}\n{lines}")
        case _:
            change = f"@@\n-{given['old']}\n+{given['new']}\n"
            command = _patch(f"*** Update File: {given['path']}\n{change}")
    # It waits for a command as long as it may, so that one that hangs is seen to hang.
    return "exec_command", {"cmd": command, "login": False, "yield_time_ms": 30_000}


def _patch(change: str) -> str:
    return f"apply_patch <<'EOF'\n*** Begin Patch\n{change}*** End Patch\nEOF"


def _gemini(verb: str, given: Json) -> tuple[str, Json]:
    match verb:
        case "shell":
            return "run_shell_command", {"command": given["command"], "description": "a command"}
        case "read":
            return "read_file", {"file_path": given["path"]}
        case "write":
            return "write_file", {"file_path": given["path"], "content": given["text"]}
        case _:
            change = {"old_string": given["old"], "new_string": given["new"]}
            return "replace", {"file_path": given["path"], "instruction": "change it", **change}


def _copilot(verb: str, given: Json) -> tuple[str, Json]:
    match verb:
        case "shell":
            return "bash", {"command": given["command"], "description": "a command"}
        case "read":
            return "view", {"path": given["path"]}
        case "write":
            return "create", {"path": given["path"], "file_text": given["text"]}
        case _:
            return "edit", {"path": given["path"], "old_str": given["old"], "new_str": given["new"]}


def _opencode(verb: str, given: Json) -> tuple[str, Json]:
    match verb:
        case "shell":
            return "bash", {"command": given["command"], "description": "a command"}
        case "read":
            return "read", {"filePath": given["path"]}
        case "write":
            return "write", {"filePath": given["path"], "content": given["text"]}
        case _:
            change = {"oldString": given["old"], "newString": given["new"]}
            return "edit", {"filePath": given["path"], **change}
