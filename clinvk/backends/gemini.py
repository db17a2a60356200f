"""gemini: Google's Gemini CLI, measured with 0.61.0.

`-o stream-json`, because with `-o json` errors go to stderr behind stack traces. On an API
error it exits with the HTTP status modulo 256, so 144 and up are no signals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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

ENVIRONMENT = {
    # Without this it starts itself again, and the first process ignores SIGTERM.
    "GEMINI_CLI_NO_RELAUNCH": "true",
    # It complains about terminals that it does not know.
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
}

APPROVAL_MODES = {"auto": "auto_edit", "none": "yolo", "always": "default"}

_STATUSES = (400, 401, 403, 404, 429, 500, 503, 529)
EXIT_STATUSES = {status % 256: status for status in _STATUSES}
EXIT_NO_AUTH = 41
EXIT_BAD_INPUT = 42

_TEXT_KINDS = (
    (r"rate limit|too many requests|resource.?exhausted|\b429\b", ErrorKind.RATE_LIMITED),
    (r"api key not valid|unauthenticated|permission.?denied", ErrorKind.AUTH),
    (r"response was blocked|due to (safety|recitation|other) settings", ErrorKind.REFUSED),
    (
        r"input truncated|exceeds the maximum number of tokens|token limit exhaustion",
        ErrorKind.TOO_LARGE,
    ),
    (r"model.?not.?found|\b404\b|no input provided", ErrorKind.INVALID),
)
_NOISE = re.compile(
    r"^\[STARTUP\]|^Ripgrep is not available|^YOLO mode is|^Loaded cached|color support|^\s+at "
)
_USAGE = "Usage: gemini "
"""What it prints after a complaint about its command line."""


class Gemini(Backend):
    """Google's Gemini CLI."""

    name = "gemini"
    program = "gemini"
    install_hint = "npm install -g @google/gemini-cli"
    version_argv = ("gemini", "--version")

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,  # noqa: ARG002
    ) -> Command:
        """Build `gemini -o stream-json … < prompt`."""
        argv = ["gemini", "-o", "stream-json", "--skip-trust"]
        if spec.model:
            argv += ["-m", spec.model]
        argv += _modes(spec)
        if spec.allowed_tools and spec.sandbox_mode != "read-only":
            argv += [f"--allowed-tools={','.join(spec.allowed_tools)}"]
        return Command(
            argv=(*argv, *spec.extra),
            stdin=spec.prompt.encode("utf-8", "replace"),
            env=ENVIRONMENT,
            warnings=tuple(unsupported(self.name, option, why) for option, why in _gaps(spec)),
        )

    def parse(self, finished: ProcessResult) -> ParsedOutput:
        """Read the events of `stream-json`: the assistant's deltas, and the terminal result."""
        events = _Events.read(finished.stdout.lines())
        known = events.known()
        if truncated := _truncated(finished):  # the answer is to another prompt
            return parsing.failure(truncated, ErrorKind.TOO_LARGE, **known)
        succeeded = finished.returncode == 0 and events.result.get("status") == "success"
        if succeeded and events.answer.strip():
            return ParsedOutput(output=events.answer, **known)
        if complaint := _usage_error(finished):
            return parsing.failure(complaint, ErrorKind.INVALID, **known)
        message = events.error or parsing.no_answer(finished, _NOISE)
        kind = _kind(finished, events.result, message)
        return parsing.failure(parsing.api_message(message), kind, **known)


@dataclass(slots=True)
class _Events:
    """What its events said."""

    answer: str = ""
    start: Json = field(default_factory=dict)
    result: Json = field(default_factory=dict)
    last_error: str = ""

    @classmethod
    def read(cls, lines: Iterable[str]) -> Self:
        found = cls()
        parts: list[str] = []
        for event in parsing.objects(lines):
            match event.get("type"):
                case "init":
                    found.start = event
                case "message" if event.get("role") == "assistant":
                    parts.append(_content(event))
                case "error":
                    found.last_error = parsing.text(event, "message") or found.last_error
                case "result":
                    found.result = event
        found.answer = parsing.whole("".join(parts))  # a character may be cut between two deltas
        return found

    @property
    def error(self) -> str:
        """The error of the result, or else the last one before it."""
        return parsing.text(parsing.mapping(self.result, "error"), "message") or self.last_error

    def known(self) -> dict[str, Any]:
        """Return what is known of the attempt, whether it succeeded or not."""
        stats = parsing.mapping(self.result, "stats")
        names = ("input_tokens", "output_tokens", "total_tokens")
        return {
            "model": parsing.text(self.start, "model"),
            "session_id": parsing.text(self.start, "session_id"),
            "usage": parsing.usage(*(parsing.count(stats, name) for name in names)),
        }


def _gaps(spec: TaskSpec) -> Iterator[tuple[str, str]]:
    """Yield the options of a task that it cannot honour, each with the reason."""
    if spec.sandbox_mode == "workspace":
        yield "sandbox_mode workspace", "it has no sandbox to enforce it"
    if spec.allowed_tools and spec.sandbox_mode == "read-only":
        # Measured: the shell, allowed like this, runs in "plan" mode too.
        yield "allowed_tools", "with sandbox_mode read-only it would allow what the sandbox forbids"
    for name in ("max_turns", "max_tokens", "system_prompt"):
        if getattr(spec, name) is not None:
            yield name, "it has no such option"


def _content(event: Json) -> str:
    """Return a delta as it is, white space included: it belongs to the answer."""
    content = event.get("content")
    return content if isinstance(content, str) else ""


def _modes(spec: TaskSpec) -> list[str]:
    if spec.sandbox_mode == "read-only":
        return ["--approval-mode", "plan"]
    mode = APPROVAL_MODES.get(spec.approval_mode or "")
    argv = ["--approval-mode", mode] if mode else []
    return [*argv, "--no-sandbox"] if spec.sandbox_mode == "full" else argv


def _truncated(finished: ProcessResult) -> str | None:
    """Find the note that the prompt was cut off, among those that mean nothing."""
    return next((line for line in finished.stderr.lines() if "input truncated" in line), None)


def _usage_error(finished: ProcessResult) -> str | None:
    """Return what it says about its command line, which stands before its long usage."""
    said: list[str] = []
    for line in finished.stderr.lines():
        if line.startswith(_USAGE):
            return parsing.excerpt(" ".join(said)) or None
        if not _NOISE.search(line):
            said.append(line)
    return None


def _kind(finished: ProcessResult, result: Json, message: str) -> ErrorKind:
    status = EXIT_STATUSES.get(finished.returncode)
    if status is not None:
        return parsing.kind_of_status(status, message)
    if finished.returncode == EXIT_NO_AUTH:
        return ErrorKind.AUTH
    if finished.returncode == EXIT_BAD_INPUT:
        return ErrorKind.INVALID
    return parsing.kind_of_text(message, _TEXT_KINDS) or (
        ErrorKind.REFUSED if _ended_empty(finished, result) else ErrorKind.FAILED
    )


def _ended_empty(finished: ProcessResult, result: Json) -> bool:
    """Whether the CLI calls the turn a success, yet the model said nothing."""
    return finished.returncode == 0 and result.get("status") == "success"
