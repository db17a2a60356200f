"""gemini: Google's Gemini CLI, measured with 0.61.0.

`-o stream-json`, because with `-o json` errors go to stderr behind stack traces. On an API
error it exits with the HTTP status modulo 256, so 144 and up are no signals.
"""

from __future__ import annotations

from typing import Any

from workers.backends import reading
from workers.backends.base import Answer, Backend, Command, Finished, unsupported
from workers.backends.reading import Json
from workers.spec import ErrorKind, TaskSpec

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
EXIT_TURN_LIMIT = 53

_TEXT_KINDS = (
    (r"rate limit|too many requests|resource.?exhausted|\b429\b", ErrorKind.RATE_LIMITED),
    (r"api key not valid|unauthenticated|permission.?denied", ErrorKind.AUTH),
    (r"refus|safety|blocked|prohibited", ErrorKind.REFUSED),
    (r"input truncated|exceeds the maximum number of tokens", ErrorKind.TOO_LARGE),
    (r"model.?not.?found|\b404\b|unknown arguments?|no input provided", ErrorKind.INVALID),
)


class Gemini(Backend):
    """Google's Gemini CLI."""

    name = "gemini"
    install_hint = "npm install -g @google/gemini-cli"
    version_argv = ("gemini", "--version")

    def command(self, spec: TaskSpec) -> Command:
        """Build `gemini -o stream-json … < prompt`."""
        argv = ["gemini", "-o", "stream-json", "--skip-trust"]
        warnings: list[str] = []
        if spec.model:
            argv += ["-m", spec.model]
        argv += _modes(spec)
        if spec.sandbox_mode == "workspace":
            warnings.append(
                unsupported(self.name, "sandbox_mode workspace", "it has no sandbox to enforce it")
            )
        warnings += [
            unsupported(self.name, name, "it has no such option")
            for name in ("max_turns", "max_tokens", "system_prompt", "allowed_tools")
            if getattr(spec, name) is not None
        ]
        return Command(
            argv=(*argv, *spec.extra),
            stdin=spec.prompt.encode("utf-8", "replace"),
            env=ENVIRONMENT,
            warnings=tuple(warnings),
        )

    def parse(self, finished: Finished) -> Answer:
        """Read the events of `stream-json`: the assistant's deltas, and the terminal result."""
        parts: list[str] = []
        start: Json = {}
        result: Json = {}
        last_error = ""
        for event in reading.objects(finished.stdout.lines()):
            match event.get("type"):
                case "init":
                    start = event
                case "message" if event.get("role") == "assistant":
                    parts.append(reading.text(event, "content") or _blank(event))
                case "error":
                    last_error = reading.text(event, "message") or last_error
                case "result":
                    result = event
        stats = reading.mapping(result, "stats")
        known: dict[str, Any] = {
            "model": reading.text(start, "model"),
            "session_id": reading.text(start, "session_id"),
            "usage": reading.usage(
                reading.count(stats, "input_tokens"),
                reading.count(stats, "output_tokens"),
                reading.count(stats, "total_tokens"),
            ),
        }
        answer = "".join(parts)
        if finished.returncode == 0 and result.get("status") == "success" and answer.strip():
            return Answer(output=answer, **known)
        message = reading.text(reading.mapping(result, "error"), "message") or last_error
        message = message or _truncated(finished) or reading.no_answer(finished)
        return reading.failure(
            reading.api_message(message), _kind(finished, result, message), **known
        )


def _blank(event: Json) -> str:
    """Keep a delta of white space: it belongs to the answer."""
    content = event.get("content")
    return content if isinstance(content, str) else ""


def _modes(spec: TaskSpec) -> list[str]:
    if spec.sandbox_mode == "read-only":
        return ["--approval-mode", "plan"]
    mode = APPROVAL_MODES.get(spec.approval_mode or "")
    argv = ["--approval-mode", mode] if mode else []
    return [*argv, "--no-sandbox"] if spec.sandbox_mode == "full" else argv


def _truncated(finished: Finished) -> str | None:
    """Find the note that the prompt was cut off, among those that mean nothing."""
    return next((line for line in finished.stderr.lines() if "input truncated" in line), None)


def _kind(finished: Finished, result: Json, message: str) -> ErrorKind:
    status = EXIT_STATUSES.get(finished.returncode)
    if status is not None:
        return reading.kind_of_status(status, message)
    if finished.returncode == EXIT_NO_AUTH:
        return ErrorKind.AUTH
    if finished.returncode == EXIT_BAD_INPUT:
        return ErrorKind.INVALID
    return reading.kind_of_text(message, _TEXT_KINDS) or (
        ErrorKind.REFUSED if _ended_empty(finished, result) else ErrorKind.FAILED
    )


def _ended_empty(finished: Finished, result: Json) -> bool:
    """Whether the CLI calls the turn a success, yet the model said nothing."""
    return finished.returncode == 0 and result.get("status") == "success"
