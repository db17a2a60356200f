"""claude: Claude Code (`claude -p`), measured with 2.1.197.

Success and failure are told by `is_error`, never by `subtype`, which says "success" in most
errors too. As root the CLI refuses to bypass permissions; that is its own to say.
"""

from __future__ import annotations

import re
from typing import Any

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

READ_ONLY_TOOLS = "Read,Grep,Glob"

PERMISSION_MODES = {"auto": "acceptEdits", "none": "bypassPermissions", "always": "default"}

_TEXT_KINDS = (
    (r"\b529\b|overloaded", ErrorKind.RATE_LIMITED),
    (r"not logged in|please run /login|invalid api key", ErrorKind.AUTH),
    (r"exceeds 10MB|prompt is too long|output token maximum", ErrorKind.TOO_LARGE),
    (r"unknown option|argument '.*' is invalid|cannot be used with root", ErrorKind.INVALID),
    (r"input must be provided|no messages returned", ErrorKind.INVALID),
)
_NOT_SENT = re.compile(r"Unknown command: /|/\S+ isn't available in this environment")
"""Its own answer, with exit code 0, to a prompt that begins like one of its commands."""


class Claude(Backend):
    """Anthropic's Claude Code."""

    name = "claude"
    program = "claude"
    install_hint = "npm install -g @anthropic-ai/claude-code"
    version_argv = ("claude", "--version")

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,  # noqa: ARG002
    ) -> Command:
        """Build `claude -p … < prompt`."""
        argv = ["claude", "-p", "--output-format", "json", "--no-session-persistence"]
        env: dict[str, str] = {}
        warnings = []
        if spec.model:
            argv += ["--model", spec.model]
        argv += _modes(spec)
        if spec.sandbox_mode == "workspace":
            warnings.append(
                unsupported(self.name, "sandbox_mode workspace", "it has no sandbox to enforce it")
            )
        if spec.max_turns:
            argv += ["--max-turns", str(spec.max_turns)]
        if spec.max_tokens:
            env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(spec.max_tokens)
        if spec.system_prompt:
            argv += ["--append-system-prompt", spec.system_prompt]
        if spec.allowed_tools:
            # With "=", because the flag would take every argument that follows.
            argv += [f"--allowedTools={','.join(spec.allowed_tools)}"]
        return Command(
            argv=(*argv, *spec.extra),
            stdin=spec.prompt.encode("utf-8", "replace"),
            env=env,
            warnings=tuple(warnings),
        )

    def parse(self, finished: ProcessResult) -> ParsedOutput:
        """Read the one JSON object of `--output-format json`."""
        result: Json = {}
        for event in parsing.objects(finished.stdout.lines()):
            if event.get("type") == "result":
                result = event
        known = _known(result)
        answer = parsing.text(result, "result")
        if finished.returncode == 0 and result.get("is_error") is False and answer is not None:
            if parsing.count(result, "num_turns") == 0 and _NOT_SENT.match(answer):
                return parsing.failure(answer, ErrorKind.INVALID, **known)
            return ParsedOutput(output=answer, **known)
        message = _message(result) or parsing.no_answer(finished)
        return parsing.failure(message, _kind(result, message), **known)


def _modes(spec: TaskSpec) -> list[str]:
    approval = spec.approval_mode
    if spec.sandbox_mode == "read-only":
        # Nothing may be written or run, so "never ask" can only mean "deny everything else".
        mode = "dontAsk" if approval == "none" else PERMISSION_MODES.get(approval or "")
        return ["--tools", READ_ONLY_TOOLS, *(["--permission-mode", mode] if mode else [])]
    mode = PERMISSION_MODES.get(approval or "")
    return ["--permission-mode", mode] if mode else []


def _known(result: Json) -> dict[str, Any]:
    counts = parsing.mapping(result, "usage")
    input_tokens = sum(
        parsing.count(counts, name)
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    return {
        "model": _model(result),
        "session_id": parsing.text(result, "session_id"),
        "usage": parsing.usage(input_tokens, parsing.count(counts, "output_tokens")),
        "cost_usd": parsing.number(result, "total_cost_usd"),
    }


def _model(result: Json) -> str | None:
    """Return the model that wrote the most: small ones help with side jobs."""
    models = parsing.mapping(result, "modelUsage")

    def written(name: str) -> int:
        return parsing.count(parsing.mapping(models, name), "outputTokens")

    return parsing.whole(max(models, key=written)) if models else None


def _message(result: Json) -> str | None:
    if result.get("is_error") is False:  # `result` is the answer, not an error
        return None
    errors = result.get("errors")
    lines = [item for item in errors if isinstance(item, str)] if isinstance(errors, list) else []
    subtype = parsing.text(result, "subtype") or ""
    if subtype == "error_max_turns":
        return f"stopped at max_turns ({parsing.count(result, 'num_turns')} turns)"
    if subtype == "error_max_budget_usd":
        return "stopped at the budget (--max-budget-usd)"
    return parsing.text(result, "result") or "; ".join(lines) or None


def _kind(result: Json, message: str) -> ErrorKind:
    status = parsing.count(result, "api_error_status")
    if result.get("stop_reason") == "refusal":
        return ErrorKind.REFUSED
    if status:
        return parsing.kind_of_status(status, message)
    return parsing.kind_of_text(message, _TEXT_KINDS) or ErrorKind.FAILED
