"""codex: OpenAI's Codex CLI (`codex exec`), measured with 0.169.0.

It emits `error` events at each reconnect and `error` items for mere warnings, in runs that
succeed; only `turn.failed`, or no `turn.completed`, is failure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from clinvk.backends import parsing
from clinvk.backends.base import (
    UNCONFINED,
    Backend,
    Command,
    Confinement,
    ParsedOutput,
    ProcessResult,
    unsupported,
)
from clinvk.backends.parsing import Json
from clinvk.core.spec import ErrorKind, TaskSpec

SANDBOXES = {
    "read-only": "read-only",
    "workspace": "workspace-write",
    "full": "danger-full-access",
}

_STATUS = re.compile(r"(?:unexpected|last) status:? (\d{3})\b")
_TEXT_KINDS = (
    (r"rate.?limit|too many requests", ErrorKind.RATE_LIMITED),
    (r"missing environment variable|unauthorized|forbidden|not logged in", ErrorKind.AUTH),
    (r"exceeds the maximum length|context.?(length|window)|max_output_tokens", ErrorKind.TOO_LARGE),
    (r"no prompt provided|not valid UTF-8|unexpected argument|invalid value", ErrorKind.INVALID),
    (r"^error (parsing -c|loading config)", ErrorKind.INVALID),
    (r"^model: |model.*not (found|exist|supported)", ErrorKind.INVALID),
)

_NOISE = re.compile(r"^Reading (additional input|prompt) from stdin|^WARNING: ")


class Codex(Backend):
    """OpenAI's Codex CLI."""

    name = "codex"
    program = "codex"
    install_hint = "npm install -g @openai/codex"
    version_argv = ("codex", "--version")

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,  # noqa: ARG002
    ) -> Command:
        """Build `codex exec … - < prompt`."""
        argv = ["codex", "exec", "--json", "--skip-git-repo-check", "--ephemeral"]
        if spec.model:
            argv += ["--model", spec.model]
        argv += _modes(spec)
        if spec.system_prompt:
            argv += ["-c", f"developer_instructions={_toml(spec.system_prompt)}"]
        warnings = [
            unsupported(self.name, name, "it has no such option")
            for name in ("max_turns", "max_tokens", "allowed_tools")
            if getattr(spec, name) is not None
        ]
        return Command(
            argv=(*argv, *spec.extra, "-"),
            stdin=spec.prompt.encode("utf-8", "replace"),
            warnings=tuple(warnings),
        )

    def parse(self, finished: ProcessResult) -> ParsedOutput:
        """Read the events of `--json`: the last agent message of a completed turn."""
        events = _Events.read(finished.stdout.lines())
        known = events.known()
        if finished.returncode == 0 and events.completed and not events.failed:
            if events.answer is not None:
                return ParsedOutput(output=events.answer, **known)
            return parsing.failure("the model gave no answer (refused)", ErrorKind.REFUSED, **known)
        failed = parsing.mapping(events.failed, "error")
        message = parsing.text(failed, "message") or events.last_error
        message = message or parsing.no_answer(finished, _NOISE)
        return parsing.failure(parsing.api_message(message), _kind(message), **known)


@dataclass(slots=True)
class _Events:
    """What its events said."""

    answer: str | None = None
    session_id: str | None = None
    failed: Json = field(default_factory=dict)
    completed: Json = field(default_factory=dict)
    last_error: str = ""

    @classmethod
    def read(cls, lines: Iterable[str]) -> Self:
        found = cls()
        for event in parsing.objects(lines):
            match event.get("type"):
                case "thread.started":
                    found.session_id = parsing.text(event, "thread_id")
                case "item.completed":
                    found.answer = _agent_message(event) or found.answer
                case "turn.completed":
                    found.completed = event
                case "turn.failed":
                    found.failed = event
                case "error":
                    found.last_error = parsing.text(event, "message") or found.last_error
        return found

    def known(self) -> dict[str, Any]:
        """Return what is known of the attempt, whether it succeeded or not."""
        counts = parsing.mapping(self.completed, "usage")
        tokens = (parsing.count(counts, name) for name in ("input_tokens", "output_tokens"))
        return {"session_id": self.session_id, "usage": parsing.usage(*tokens)}


def _toml(text: str) -> str:
    """Quote text as TOML, which is JSON but for two things.

    TOML knows no surrogate pairs, and no DEL as it is. What is not TOML would be taken as it
    stands, with its quotes and backslashes.
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _modes(spec: TaskSpec) -> list[str]:
    sandbox = SANDBOXES.get(spec.sandbox_mode or "")
    argv: list[str] = []
    if spec.approval_mode == "none":
        argv = ["-c", 'approval_policy="never"']
    elif sandbox is None:
        sandbox = {"auto": "workspace-write", "always": "read-only"}.get(spec.approval_mode or "")
    return [*argv, *(["--sandbox", sandbox] if sandbox else [])]


def _agent_message(event: Json) -> str | None:
    item = parsing.mapping(event, "item")
    return parsing.text(item, "text") if item.get("type") == "agent_message" else None


def _kind(message: str) -> ErrorKind:
    if status := _STATUS.search(message):
        return parsing.kind_of_status(int(status[1]), message)
    # The bare JSON body of a 400 comes without its status.
    otherwise = ErrorKind.INVALID if message.startswith("{") else ErrorKind.FAILED
    return parsing.kind_of_text(message, _TEXT_KINDS) or otherwise
