"""claude: Claude Code (`claude -p`), measured with 2.1.197.

Success and failure are told by `is_error`, never by `subtype`, which says "success" in most
errors too. As root the CLI refuses to bypass permissions; that is its own to say.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from glob import escape
from types import MappingProxyType
from typing import Any

from clinvk.backends import outcomes, parsing, steps
from clinvk.backends.base import (
    NO_SESSION,
    UNCONFINED,
    Backend,
    Command,
    Confinement,
    OutputReader,
    ParsedOutput,
    ProcessResult,
    SandboxPaths,
    Session,
    SessionTraces,
    unsupported,
)
from clinvk.backends.events import EventReader
from clinvk.backends.outcomes import Outcome
from clinvk.backends.parsing import Json
from clinvk.core import schemas
from clinvk.core.spec import ErrorKind, TaskSpec
from clinvk.core.steps import Step

READ_ONLY_TOOLS = "Read,Grep,Glob"

USER_SETTINGS_ONLY = ("--setting-sources=user", "--add-dir=.")
"""Measured: without the project's sources none of its hooks, `env`, `apiKeyHelper`, `defaultMode`,
commands and `.mcp.json` counts, while the user's own MCP servers still do. The directory is named
once more because its CLAUDE.md, which is text, would go with the settings."""
PROJECT_TEXT_ONLY = MappingProxyType(
    {
        "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
        # It would run `git status` at its start, and git what `.git/config` names (fsmonitor,
        # filters), which an archive or an earlier task may have brought along.
        "CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "1",
    }
)

HARMLESS = frozenset(
    {
        "BashOutput",
        "Glob",
        "Grep",
        "LS",
        "Read",
        "StructuredOutput",
        "TaskGet",
        "TaskList",
        "TaskOutput",
        "TodoWrite",
        "ToolSearch",
        "WebFetch",
        "WebSearch",
    }
)
"""Tools that change nothing outside of the CLI."""

PATHS = ("file_path", "notebook_path", "path")
"""Arguments of tools that are paths, which it gives from the root."""

SETTINGS = (
    *("settings.json", "CLAUDE.md", "agents", "commands", "hooks", "output-styles", "plugins"),
    *("rules", "skills"),
)
"""What it reads in its own directory, and may run: never a sandboxed task's to change."""

SESSION_DIRECTORIES = ("file-history", "session-env", "tasks")

PERMISSION_MODES = {"auto": "acceptEdits", "none": "bypassPermissions", "always": "default"}

_TEXT_KINDS = (
    (r"specified API usage limits", ErrorKind.USAGE_LIMIT),
    (r"\(not your usage limit\)|request rejected \(429\)", ErrorKind.RATE_LIMITED),
    (r"credit balance is too low|out of (extra )?usage|spend limit", ErrorKind.QUOTA),
    (r"requires? usage credits|usage credits (are )?required|include usage", ErrorKind.QUOTA),
    (r"contact your admin|disabled (by your admin|for your org)|set to \$0", ErrorKind.QUOTA),
    (r"(hit|reached) your [\w' ]*limit", ErrorKind.USAGE_LIMIT),
    (r"\b529\b|overloaded|high load|request timed out", ErrorKind.OVERLOADED),
    (r"empty or malformed response", ErrorKind.OVERLOADED),
    (r"unable to connect to API( \(|\. )|connection error\.$", ErrorKind.OVERLOADED),
    (r"not logged in|please run /login|invalid api key", ErrorKind.AUTH),
    (r"exceeds 10MB|prompt is too long|output token maximum", ErrorKind.TOO_LARGE),
    (r"unknown option|argument '.*' is invalid|cannot be used with root", ErrorKind.INVALID),
    (r"input must be provided|no messages returned", ErrorKind.INVALID),
)
_ERRORS = {
    "authentication_failed": ErrorKind.AUTH,
    "oauth_org_not_allowed": ErrorKind.AUTH,
    "billing_error": ErrorKind.QUOTA,
    "rate_limit": ErrorKind.RATE_LIMITED,
    "overloaded": ErrorKind.OVERLOADED,
    "server_error": ErrorKind.OVERLOADED,
    "model_not_found": ErrorKind.INVALID,
    "max_output_tokens": ErrorKind.TOO_LARGE,
}
"""What its messages call an error, where that says more than the HTTP status."""
LEAST_USD = 0.0001
"""It refuses a budget of 0."""
MESSAGES = 64
"""How many messages can be written at a time: one by each of its agents."""
_RESET_TEXT = timedelta(minutes=1)
"""The text of a limit leaves out the seconds of its reset."""
_MODEL_LIMIT = re.compile(r"(?i:hit|reached) your [A-Z]\w+( [\d.]+)? limit\b")
"""Of its limits only those of models have names with capitals."""
_NOT_SENT = re.compile(r"Unknown command: /|/\S+ isn't available in this environment")
"""Its own answer, with exit code 0, to a prompt that begins like one of its commands."""


class Claude(Backend):
    """Anthropic's Claude Code."""

    name = "claude"
    program = "claude"
    install_hint = "npm install -g @anthropic-ai/claude-code"
    version_argv = ("claude", "--version")
    tested_version = "2.1.197"
    login_argv = ("claude", "auth", "status")
    login_hint = "claude auth login, or set ANTHROPIC_API_KEY"
    limits_turns = True
    can_resume = True
    pass_env = (
        *("ANTHROPIC_*", "CLAUDE_*", "DISABLE_*", "ENABLE_*", "API_TIMEOUT_MS", "IS_SANDBOX"),
        *("BASH_DEFAULT_TIMEOUT_MS", "BASH_MAX_*", "MAX_THINKING_TOKENS", "MAX_MCP_OUTPUT_TOKENS"),
        *("MCP_TIMEOUT", "MCP_TOOL_TIMEOUT", "USE_BUILTIN_RIPGREP"),
    )
    pass_env_if = MappingProxyType(
        {
            "CLAUDE_CODE_USE_BEDROCK": ("AWS_*",),
            # Not GOOGLE_*: the API key in it is gemini's.
            "CLAUDE_CODE_USE_VERTEX": (
                *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_*"),
                *("GCLOUD_PROJECT", "CLOUD_ML_REGION", "VERTEX_REGION_*"),
            ),
            "CLAUDE_CODE_USE_FOUNDRY": ("AZURE_*",),
        }
    )

    # One try more, and it would sleep for as long as Retry-After says, up to a minute; with the
    # watchdog it tries on whatever the other says, and sleeps a subscription's limit out.
    quiet_env = MappingProxyType(
        {"CLAUDE_CODE_MAX_RETRIES": "0", "CLAUDE_CODE_RETRY_WATCHDOG": None}
    )
    sandbox_modes = frozenset({"read-only"})

    def sandbox_paths(self, environment: Mapping[str, str]) -> SandboxPaths:
        """Return its files in CLAUDE_CONFIG_DIR, or in the home."""
        named = environment.get("CLAUDE_CONFIG_DIR")
        own = named or "~/.claude"
        return SandboxPaths(
            settings=("/etc/claude-code", *(f"{own}/{name}" for name in SETTINGS)),
            credentials=(f"{own}/.credentials.json",),
            copied=(f"{named or '~'}/.claude.json",),
            directories={"CLAUDE_CONFIG_DIR": named} if named else {},
            sessions=(f"{own}/projects",),
        )

    def session_traces(self, session_id: str, environment: Mapping[str, str]) -> SessionTraces:
        """Return its transcript, and what it keeps beside it in files of the session's name."""
        own = escape(environment.get("CLAUDE_CONFIG_DIR") or "~/.claude")
        temporary = escape(environment.get("TMPDIR") or "/tmp")  # noqa: S108
        return SessionTraces(
            files=(
                *(f"{own}/projects/*/{session_id}.jsonl", f"{own}/projects/*/{session_id}"),
                *(f"{own}/{name}/{session_id}" for name in SESSION_DIRECTORIES),
                *(f"{own}/debug/{session_id}.txt", f"{own}/todos/{session_id}-*.json"),
                f"{temporary}/claude-*/*/{session_id}",
            )
        )

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """Take one for objects: it becomes the input of a tool, which is called with the answer."""
        return schemas.is_object(schema)

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,
        session: Session = NO_SESSION,
    ) -> Command:
        """Build `claude -p … < prompt`."""
        spec = confinement.left_to_cli(spec)
        argv = ["claude", "-p", "--output-format", "stream-json", "--verbose", *_session(session)]
        env: dict[str, str] = {}
        warnings = []
        if not confinement.project_settings:
            argv += USER_SETTINGS_ONLY
            env.update(PROJECT_TEXT_ONLY)
        if spec.model:
            argv += ["--model", spec.model]
        argv += _modes(spec)
        if spec.sandbox_mode == "workspace":
            warnings.append(
                unsupported(self.name, "sandbox_mode workspace", "it has no sandbox to enforce it")
            )
        if spec.max_turns:
            argv += ["--max-turns", str(spec.max_turns)]
        if confinement.budget_usd is not None:
            argv += ["--max-budget-usd", f"{max(confinement.budget_usd, LEAST_USD):.4f}"]
        if spec.max_tokens:
            env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(spec.max_tokens)
        if spec.system_prompt:
            argv += ["--append-system-prompt", spec.system_prompt]
        if spec.schema is not None and self.takes_schema(spec.schema):
            argv += ["--json-schema", schemas.text_of(spec.schema)]
        if spec.allowed_tools:
            # With "=", as above.
            argv += [f"--allowedTools={','.join(spec.allowed_tools)}"]
        return Command(
            argv=(*argv, *spec.extra),
            stdin=spec.prompt.encode("utf-8", "replace"),
            env=env,
            warnings=tuple(warnings),
        )

    def reader(self) -> OutputReader:
        """Read the events of `stream-json`; the last one is the result."""
        return _Reader()


class _Reader(EventReader):
    def __init__(self) -> None:
        self.result: Json = {}
        self.cwd = ""
        self.error = ""
        self.resets: list[datetime] = []
        self.messages: deque[str] = deque(maxlen=MESSAGES)
        self.input_tokens = 0

    def event(self, event: Json) -> list[Step]:
        match event.get("type"):
            case "assistant":
                return self._assistant(event)
            case "user":
                blocks = parsing.items(parsing.mapping(event, "message"), "content")
                return [_tool_result(block) for block in blocks if _is(block, "tool_result")]
            case "system":
                return self._system(event)
            case "rate_limit_event":
                return self._limit(parsing.mapping(event, "rate_limit_info"))
            case "result":
                return self._result(event)
            case _:
                return []

    def _system(self, event: Json) -> list[Step]:
        match event.get("subtype"):
            case "init":
                self.session_id = parsing.text(event, "session_id")
                self.cwd = parsing.text(event, "cwd") or ""
            case "api_retry":
                return [_retry(event)]
        return []

    def _assistant(self, event: Json) -> list[Step]:
        """Read a message's next block; the CLI writes one itself to say why it ends."""
        message = parsing.mapping(event, "message")
        blocks = parsing.items(message, "content")
        if error := parsing.text(event, "error"):
            self.error = error
            texts = (parsing.text(block, "text") for block in blocks)
            said = " ".join(filter(None, texts)) or error
            return steps.error(said, self._outcome({}, said, self.at))
        self.error = ""  # it went on
        found = [step for block in blocks for step in self._block(block)]
        return [*found, *self._usage(message)]

    def _block(self, block: Json) -> list[Step]:
        match block.get("type"):
            case "text":
                return steps.message(parsing.text(block, "text") or "")
            case str(kind) if kind.endswith("tool_use"):  # or one of the API's own tools
                return [self._tool_call(block)]
            case _:
                return []

    def _tool_call(self, block: Json) -> Step:
        """Tell of a tool call; a file in the working directory is named from there."""
        given = parsing.mapping(block, "input")
        paths = {name: path for name in PATHS if (path := parsing.text(given, name))}
        if self.cwd:
            paths = {name: path.removeprefix(f"{self.cwd}/") for name, path in paths.items()}
        return steps.tool_call(parsing.text(block, "name") or "?", given | paths, HARMLESS)

    def _usage(self, message: Json) -> list[Step]:
        """Count a message's input once, though it comes in several events.

        How much it wrote is not known before the result: the event has the number at its start.
        """
        name = parsing.text(message, "id") or ""
        if name in self.messages:
            return []
        self.messages.append(name)
        self.input_tokens += _input_tokens(parsing.mapping(message, "usage"))
        return steps.usage(parsing.usage(self.input_tokens, 0))

    def _limit(self, info: Json) -> list[Step]:
        """Note when a limit opens. The event is no failure: usage credits may pay for more."""
        status = parsing.text(info, "status")
        resets = (parsing.number(info, name) for name in ("resetsAt", "overageResetsAt"))
        moments = [moment for reset in resets if (moment := parsing.moment(reset))]
        self.resets = moments if status == "rejected" else []
        if status not in {"rejected", "allowed_warning"}:
            return []
        used = parsing.number(info, "utilization")
        amount = "" if used is None else f", {used:.0%} used"
        name = f"{parsing.text(info, 'rateLimitType') or 'rate'} limit"
        state = "reached" if status == "rejected" else "near"
        return [steps.limit(f"{name} {state}{amount}", next(iter(moments), None))]

    def _result(self, event: Json) -> list[Step]:
        self.result = event
        counted = steps.usage(_known(event)["usage"])
        # An error that the API answered with was a message before.
        return counted if self.error else [*counted, *steps.error(_message(event) or "")]

    def finish(self, process: ProcessResult) -> ParsedOutput:
        result = self.result
        known = {**_known(result), "acted": self.acted}
        known["session_id"] = known["session_id"] or self.session_id
        answer = parsing.text(result, "result")
        if process.returncode == 0 and result.get("is_error") is False and answer is not None:
            if parsing.count(result, "num_turns") == 0 and _NOT_SENT.match(answer):
                return outcomes.failure(answer, ErrorKind.INVALID, **known)
            # The answer by a schema: `result` is often the same, but may be any text.
            structured = result.get("structured_output")
            text = None if structured is None else json.dumps(structured, ensure_ascii=False)
            return ParsedOutput(output=answer, structured=text, **known)
        message = _message(result) or parsing.no_answer(process)
        outcome = self._outcome(result, message, self.at or process.ended_at)
        return outcomes.failure(message, outcome, **known)

    def _outcome(self, result: Json, message: str, at: datetime | None) -> Outcome:
        """Return what an error means. Its text names the limit, the event before it the second."""
        found = outcomes.outcome(message, _kind(result, self.error, message), at)
        if found.kind is ErrorKind.USAGE_LIMIT and _MODEL_LIMIT.search(message):
            found = replace(found, limited_model=True)
        if found.kind is not ErrorKind.USAGE_LIMIT or not self.resets:
            return found
        said = found.retry_at
        exact = [r for r in self.resets if said is None or abs(r - said) <= _RESET_TEXT]
        return replace(found, retry_at=exact[0]) if exact else found


def _is(block: Json, kind: str) -> bool:
    return block.get("type") == kind


def _tool_result(block: Json) -> Step:
    return steps.tool_result(block.get("content"), ok=block.get("is_error") is not True)


def _retry(event: Json) -> Step:
    delay_ms = parsing.number(event, "retry_delay_ms")
    status = parsing.count(event, "error_status")
    error = parsing.text(event, "error") or "error"
    kind = outcomes.kind_of_status(status, "") if status else _ERRORS.get(error)
    tries = f"{parsing.count(event, 'attempt')} of {parsing.count(event, 'max_retries')}"
    text = f"retry {tries}: {error}{f' ({status})' if status else ''}"
    return steps.retry(text, kind, None if delay_ms is None else delay_ms / 1000)


def _session(session: Session) -> list[str]:
    kept = [] if session.keep else ["--no-session-persistence"]
    return [*kept, *(["--resume", session.resume] if session.resume else [])]


def _modes(spec: TaskSpec) -> list[str]:
    approval = spec.approval_mode
    if spec.sandbox_mode == "read-only":
        # Nothing may be written or run, so "never ask" can only mean "deny everything else".
        mode = "dontAsk" if approval == "none" else PERMISSION_MODES.get(approval or "")
        # With "=", because the flag would take every argument that follows.
        return [f"--tools={READ_ONLY_TOOLS}", *(["--permission-mode", mode] if mode else [])]
    mode = PERMISSION_MODES.get(approval or "")
    return ["--permission-mode", mode] if mode else []


def _known(result: Json) -> dict[str, Any]:
    counts = parsing.mapping(result, "usage")
    return {
        "model": _model(result),
        "session_id": parsing.text(result, "session_id"),
        "usage": parsing.usage(
            _input_tokens(counts),
            parsing.count(counts, "output_tokens"),
            cached_input_tokens=parsing.count(counts, "cache_read_input_tokens"),
        ),
        "cost_usd": parsing.number(result, "total_cost_usd"),
    }


def _input_tokens(counts: Json) -> int:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(parsing.count(counts, name) for name in names)


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


def _kind(result: Json, error: str, message: str) -> ErrorKind:
    if result.get("subtype") == "error_max_budget_usd":
        return ErrorKind.BUDGET
    if result.get("stop_reason") == "refusal":
        return ErrorKind.REFUSED
    if result.get("subtype") == "error_max_structured_output_retries":
        return ErrorKind.INVALID_ANSWER
    if kind := outcomes.first_kind(message, _TEXT_KINDS) or _ERRORS.get(error):
        return kind
    if status := parsing.count(result, "api_error_status"):
        return outcomes.kind_of_status(status, message)
    return outcomes.kind_of_text(message, ()) or ErrorKind.FAILED
