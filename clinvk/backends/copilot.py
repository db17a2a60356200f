"""copilot: GitHub's Copilot CLI, measured with 1.0.102, with a model provider of one's own.

It has not been tried with a login at GitHub, which nothing here can have: what it says of GitHub's
own limits is known from its documentation alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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
from clinvk.backends.parsing import Json
from clinvk.core.spec import ErrorKind, TaskSpec
from clinvk.core.steps import Step

SETTINGS = (
    *("settings.json", "mcp-config.json", "lsp-config.json", "copilot-instructions.md"),
    *("agents", "extensions", "hooks", "installed-plugins", "instructions", "skills"),
)
"""What it reads in its own directory, and may run. Not `config.json`, in which are the directories
that its user trusts: in a sandbox it trusts none, and takes its token from a variable."""

UNTRUSTED = MappingProxyType(
    {
        # "true" would trust the directory as well.
        "COPILOT_ALLOW_ALL": "",
        "GITHUB_COPILOT_PROMPT_MODE_EXTENSIONS": "",
        "GITHUB_COPILOT_PROMPT_MODE_REPO_HOOKS": "",
        "GITHUB_COPILOT_PROMPT_MODE_WORKSPACE_MCP": "",
    }
)
"""Measured: without these no hook, MCP server or extension of the working directory counts, unless
the user has trusted the directory. AGENTS.md, which is text, still does."""

READ_ONLY = ("--deny-tool=shell", "--deny-tool=write")
"""What is denied here, nothing allows."""
APPROVALS = {"auto": ("--allow-tool=write",), "none": ("--allow-all",)}

HARMLESS = frozenset(
    {
        *("ask_user", "fetch_copilot_cli_documentation", "glob", "grep", "list_agents"),
        *("list_bash", "read_agent", "read_bash", "report_intent", "skill", "update_todo", "view"),
        *("web_fetch", "web_search"),
    }
)
"""Tools that change nothing outside of the CLI."""
NAMES = {
    "apply_patch": "Edit",
    "bash": "Bash",
    "create": "Write",
    "edit": "Edit",
    "glob": "Glob",
    "grep": "Grep",
    "task": "Task",
    "view": "Read",
    "web_fetch": "WebFetch",
    "web_search": "WebSearch",
}
"""What people read for them."""

_ERRORS = {
    "authentication": ErrorKind.AUTH,
    "authorization": ErrorKind.AUTH,
    "context_limit": ErrorKind.TOO_LARGE,
    "quota": ErrorKind.QUOTA,
    "rate_limit": ErrorKind.RATE_LIMITED,
}
"""What it calls an error, where that says more than the HTTP status."""
_LIMIT_KINDS = (
    (
        r"(premium|monthly|weekly|session|usage).{0,40}(limit|quota|allowance)",
        ErrorKind.USAGE_LIMIT,
    ),
)
_TEXT_KINDS = (
    (r"no authentication information|not (logged in|authorized)", ErrorKind.AUTH),
    (
        r"context.?(length|window|limit)|(prompt is|prompt as) too long|token limit",
        ErrorKind.TOO_LARGE,
    ),
    (r"content.?filter|blocked by", ErrorKind.REFUSED),
    (r"model .*(not available|not found|not supported|does not exist)", ErrorKind.INVALID),
    (r"unknown option|unexpected argument|invalid (value|option)", ErrorKind.INVALID),
    (
        r"connection error|fetch failed|(unable to|could not) connect|econn|network",
        ErrorKind.OVERLOADED,
    ),
    (r"no response was returned|failed to finalize|stream (ended|closed)", ErrorKind.OVERLOADED),
)
_BLOCKED = re.compile(r"The model returned no content because ")
"""Its own words in the place of an answer, which come in one piece."""


class Copilot(Backend):
    """GitHub's Copilot CLI."""

    name = "copilot"
    program = "copilot"
    install_hint = "npm install -g @github/copilot"
    version_argv = ("copilot", "--version")
    tested_version = "1.0.102"
    login_hint = "copilot login, or set COPILOT_GITHUB_TOKEN"
    only_named = True
    # Not GH_TOKEN or GITHUB_TOKEN, which open more than a model.
    pass_env = ("COPILOT_*", "GITHUB_COPILOT_*", "GH_HOST")

    can_resume = True
    sandbox_modes = frozenset({"read-only"})

    def sandbox_paths(self, environment: Mapping[str, str]) -> SandboxPaths:
        """Return its files in COPILOT_HOME, or in the home, and what it has unpacked of itself."""
        named = environment.get("COPILOT_HOME")
        own = named or "~/.copilot"
        cache = environment.get("COPILOT_CACHE_HOME")
        cache = cache or f"{environment.get('XDG_CACHE_HOME') or '~/.cache'}/copilot"
        return SandboxPaths(
            settings=(*(f"{own}/{name}" for name in SETTINGS), f"{cache}/pkg"),
            directories={"COPILOT_HOME": named} if named else {},
            sessions=(f"{own}/session-state",),
        )

    def session_traces(self, session_id: str, environment: Mapping[str, str]) -> SessionTraces:
        """Return the directory of a session, and its lock."""
        own = f"{escape(environment.get('COPILOT_HOME') or '~/.copilot')}/session-state"
        return SessionTraces(
            files=(f"{own}/{session_id}", f"{own}/.session-operation-locks/{session_id}.lock")
        )

    def is_logged_in(
        self,
        environment: Mapping[str, str],
        read: Callable[[str], str | None],
        *,
        has_login: bool | None,
    ) -> bool | None:
        """Look at variables and its file; a login may also be in a keychain, or gh's."""
        del has_login
        if any(map(environment.get, ("COPILOT_GITHUB_TOKEN", "COPILOT_PROVIDER_BASE_URL"))):
            return True
        known = read(f"{environment.get('COPILOT_HOME') or '~/.copilot'}/config.json") or ""
        return True if re.search(r'logged_?in_?users?"', known, re.IGNORECASE) else None

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,
        session: Session = NO_SESSION,
    ) -> Command:
        """Build `copilot --output-format json … < prompt`. It keeps each session, asked or not."""
        spec = confinement.left_to_cli(spec)
        argv = ["copilot", "--output-format", "json", "--no-ask-user", "--no-auto-update"]
        argv += [f"--resume={session.resume}"] if session.resume else []
        if spec.model:
            argv += ["--model", spec.model]
        argv += _modes(spec)
        return Command(
            argv=(*argv, *spec.extra),
            stdin=spec.prompt.encode("utf-8", "replace"),
            env={} if confinement.project_settings else UNTRUSTED,
            warnings=tuple(unsupported(self.name, option, why) for option, why in _gaps(spec)),
        )

    def reader(self) -> OutputReader:
        """Read the events of `--output-format json`; the last message is the answer."""
        return _Reader()


class _Reader(EventReader):
    def __init__(self) -> None:
        self.answer: str | None = None
        self.is_said = False
        self.is_blocked = False
        self.model: str | None = None
        self.failure: Json = {}
        self.error: Json = {}
        self.result: Json = {}

    def event(self, event: Json) -> list[Step]:
        data = parsing.mapping(event, "data")
        match event.get("type"):
            case "assistant.message_delta":
                self.is_said = True
            case "assistant.message":
                return self._message(data)
            case "tool.execution_start":
                name = parsing.text(data, "toolName") or "?"
                given = parsing.mapping(data, "arguments")
                return [steps.tool_call(name, given, HARMLESS, NAMES)]
            case "tool.execution_complete":
                return [_tool_result(data)]
            case "model.call_failure":
                self.failure = data
                kind = outcomes.kind_of_text(_said(data), _TEXT_KINDS) or _kind(data)
                return [steps.retry(_said(data), kind, None)]
            case "session.error":
                self.error = data
                message = parsing.api_message(_said(data))
                return steps.error(message, outcomes.outcome(message, _kind(data), self.at))
            case "result":
                self.result = event
                self.session_id = parsing.text(event, "sessionId")
        return []

    def _message(self, data: Json) -> list[Step]:
        """Take a message: one that calls a tool is not the answer."""
        self.failure = {}  # it went on
        self.model = parsing.text(data, "model") or self.model
        said = parsing.text(data, "content")
        self.answer = None if parsing.items(data, "toolRequests") else said
        self.is_blocked = not self.is_said and _BLOCKED.match(said or "") is not None
        self.is_said = False
        return steps.message(said or "")

    def finish(self, process: ProcessResult) -> ParsedOutput:
        known: dict[str, Any] = {
            "model": self.model,
            "session_id": self.session_id,
            "acted": self.acted,
        }
        # Stopped by a signal it may say that all went well.
        succeeded = process.returncode == 0 and self.result.get("exitCode") == 0
        if succeeded and self.answer and self.is_blocked:
            return outcomes.failure(self.answer, ErrorKind.REFUSED, **known)
        if succeeded and not self.error:
            if self.answer:
                return ParsedOutput(output=self.answer, **known)
            return outcomes.failure(
                "the model gave no answer (refused)", ErrorKind.REFUSED, **known
            )
        at = self.at or process.ended_at
        if told := self.error or self.failure:
            message = parsing.api_message(_said(told))
            return outcomes.failure(message, outcomes.outcome(message, _kind(told), at), **known)
        message = parsing.no_answer(process)
        kind = outcomes.kind_of_text(message, _TEXT_KINDS) or ErrorKind.FAILED
        return outcomes.failure(message, outcomes.outcome(message, kind, at), **known)


def _said(data: Json) -> str:
    """Return what an error says, or else its HTTP status."""
    said = parsing.text(data, "message") or parsing.text(data, "errorMessage")
    status = parsing.count(data, "statusCode")
    return said or (f"the API answered with {status}" if status else "the API cannot be reached")


def _kind(data: Json) -> ErrorKind:
    message = _said(data)
    status = parsing.count(data, "statusCode")
    if kind := outcomes.first_kind(message, _LIMIT_KINDS):
        return kind
    found = _ERRORS.get(parsing.text(data, "errorType") or "")
    if found is ErrorKind.RATE_LIMITED or (found is None and status):
        found = outcomes.kind_of_status(status or 429, message)
    if found is None or found is ErrorKind.INVALID:
        return outcomes.kind_of_text(message, _TEXT_KINDS) or found or ErrorKind.FAILED
    return found


def _tool_result(data: Json) -> Step:
    ok = data.get("success") is True
    content = parsing.mapping(data, "result").get("content")
    error = parsing.mapping(data, "error").get("message")
    return steps.tool_result(content if ok else error, ok=ok)


def _modes(spec: TaskSpec) -> list[str]:
    if spec.sandbox_mode == "read-only":
        return [*READ_ONLY]
    # With "=", because the flag would take every argument that follows.
    allowed = (f"--allow-tool={tool}" for tool in spec.allowed_tools or ())
    return [*APPROVALS.get(spec.approval_mode or "", ()), *allowed]


def _gaps(spec: TaskSpec) -> Iterator[tuple[str, str]]:
    """Yield the options of a task that it cannot honour, each with the reason."""
    if spec.sandbox_mode == "workspace":
        yield "sandbox_mode workspace", "its own sandbox is not for unattended runs"
    if spec.allowed_tools and spec.sandbox_mode == "read-only":
        yield "allowed_tools", "with sandbox_mode read-only it would allow what the sandbox forbids"
    for name in ("max_turns", "max_tokens", "system_prompt"):
        if getattr(spec, name) is not None:
            yield name, "it has no such option"
