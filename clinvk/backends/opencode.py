"""opencode: the open source agent for models of any provider, measured with 1.18.33.

It has no event for its end: a run succeeded if it exited with 0 and its last step ended with
`stop`. An API's error is an event of its own, with the HTTP status and the headers.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from clinvk.backends import outcomes, parsing, steps
from clinvk.backends.base import (
    NO_SESSION,
    UNCONFINED,
    Backend,
    Captured,
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
from clinvk.core.spec import ErrorKind, TaskSpec, Usage
from clinvk.core.steps import Step

SETTINGS = (
    *("opencode.json", "opencode.jsonc", "config.json", "AGENTS.md", "agent", "agents"),
    *("command", "commands", "mode", "modes", "plugin", "plugins", "skill", "skills"),
    *("tool", "tools", "package.json", "node_modules"),
)
"""What it reads beside its configuration, and may run: never a sandboxed task's to change."""
CACHED = ("models.json", "version", "packages", "node_modules")
CREDENTIALS = ("auth.json", "mcp-auth.json", "account.json")

READING = {
    "*": "deny",
    **dict.fromkeys(("read", "glob", "grep", "list", "lsp", "skill", "todowrite", "task"), "allow"),
}
"""Permissions with which nothing changes; what a sub-agent may do is asked for anew."""
EDITING = {**READING, "edit": "allow", "external_directory": "deny"}

_TRY_ONCE = """
import fs from 'node:fs';
const { fetch } = globalThis;
const { parse } = JSON;
let failed = {};
let calling;
const end = (sessionID, data) => {
  const error = { name: 'APIError', data };
  const said = JSON.stringify({ type: 'error', timestamp: Date.now(), sessionID, error });
  fs.writeSync(1, said + '\\n');
  process.exit(1);
};
globalThis.fetch = Object.assign(async (...request) => {
  failed = {};
  const response = await fetch(...request);
  if (!response.ok) {
    const responseHeaders = Object.fromEntries(response.headers);
    const responseBody = await response.clone().text();
    failed = { statusCode: response.status, responseHeaders, responseBody };
  }
  return response;
}, fetch);
JSON.parse = (...text) => {
  const event = parse(...text);
  const { sessionID, status, part } = event?.properties ?? {};
  if (event?.type === 'session.status' && status?.type === 'retry')
    end(sessionID, { message: status.message, ...failed });
  if (event?.type === 'message.part.updated') {
    if (part?.type === 'tool') calling = part.messageID;
    if (part?.type === 'step-finish' && part.reason === 'unknown' && part.messageID !== calling)
      end(sessionID, { message: 'The answer was cut off' });
  }
  return event;
};
"""
"""Loaded before the CLI: where it would try again, it says what went wrong, in its own form, and
ends. By itself it tries six times and says nothing, for a minute or for as long as Retry-After
says; after an answer that breaks off it asks again and again, without end. It has no setting for
either."""

_OWN_CODE = r"""
const { env } = process;
const escaped = (path) => path.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const own = ['cache', 'config', 'data'].map((kind) => {
  const home = { cache: '.cache', config: '.config', data: '.local/share' }[kind];
  return `${env[`XDG_${kind.toUpperCase()}_HOME`] || `${env.HOME}/${home}`}/opencode/`;
});
const foreign = new RegExp(`^(?!${['/$bunfs/', ...own].map(escaped).join('|')})`);
Bun.plugin({
  name: 'clinvk',
  setup: (build) =>
    build.onLoad({ filter: foreign }, () => ({ contents: 'export {}', loader: 'js' })),
});
"""
"""Loaded before the CLI: code that is not its own, and not in its own directories, is empty.

The settings of UNTRUSTED do not reach `.opencode/plugin`: 1.18.33 has a second loader of plugins
that asks none of them."""

_PRELOAD = "BUN_INSPECT_PRELOAD"

UNTRUSTED = {
    "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
    "OPENCODE_PURE": "1",
}
"""Measured: with these no MCP server, provider or permission of the working directory counts."""


def _preload(*code: str) -> str:
    """Return the module that the CLI loads first, and does not pass on to what it starts."""
    whole = "".join((f"delete process.env.{_PRELOAD};\n", *code))
    return "data:text/javascript;base64," + base64.b64encode(whole.encode()).decode()


HARMLESS = frozenset(
    {
        *("glob", "grep", "invalid", "list", "lsp", "read", "skill", "todoread", "todowrite"),
        *("webfetch", "websearch"),
    }
)
"""Tools that change nothing outside of the CLI."""
NAMES = {
    "apply_patch": "Edit",
    "bash": "Bash",
    "edit": "Edit",
    "glob": "Glob",
    "grep": "Grep",
    "list": "List",
    "patch": "Edit",
    "read": "Read",
    "task": "Task",
    "webfetch": "WebFetch",
    "websearch": "WebSearch",
    "write": "Write",
}
"""What people read for them."""

_NAMES_OF_ERRORS = {
    "ProviderAuthError": ErrorKind.AUTH,
    "MessageOutputLengthError": ErrorKind.TOO_LARGE,
    "ContextOverflowError": ErrorKind.TOO_LARGE,
    "ProviderModelNotFoundError": ErrorKind.INVALID,
    "ContentFilterError": ErrorKind.REFUSED,
}
_LIMIT_KINDS = (
    (r"FreeUsageLimitError|GoUsageLimitError|usage limit", ErrorKind.USAGE_LIMIT),
    (r"unable to connect|fetch failed|socket|econn|terminated", ErrorKind.OVERLOADED),
)
_TEXT_KINDS = (
    (r"api key is missing|unauthorized|invalid.{0,10}api key", ErrorKind.AUTH),
    (r"context.?(length|window)|prompt is too long|too many tokens", ErrorKind.TOO_LARGE),
    (r"model not found|must provide a message|agent not found", ErrorKind.INVALID),
    (r"unknown argument|invalid values|not enough", ErrorKind.INVALID),
    (r"exhausted|unavailable|cut off", ErrorKind.OVERLOADED),
    # All that start at once in a new home set up the same database; some then end before they ask.
    (r"failed query:|database is locked", ErrorKind.OVERLOADED),
)
_ENDS = {
    "length": ("stopped at the limit of output tokens", ErrorKind.TOO_LARGE),
    "content-filter": ("the model's answer was blocked (refused)", ErrorKind.REFUSED),
    "tool-calls": ("ended after a tool call, without an answer", ErrorKind.FAILED),
    "stop": ("the model gave no answer (refused)", ErrorKind.REFUSED),
}
"""What it means where its last step ended like this, and there is no answer to give."""
_NOT_FOUND = re.compile(r"Model not found: [^\s\"\\]+")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_USAGE = "opencode run ["
"""What it prints instead of a complaint about its command line."""
_UNEXPECTED = "Unexpected error"
_NOISE = re.compile(r"^timestamp=")
_SAYS_NOTHING = "Unexpected server error"


class OpenCode(Backend):
    """The opencode CLI."""

    name = "opencode"
    program = "opencode"
    install_hint = "npm install -g opencode-ai"
    version_argv = ("opencode", "--version")
    tested_version = "1.18.33"
    login_hint = "opencode auth login, or pass a provider's key: backends.opencode.pass_env"
    only_named = True
    # Each provider's key has a name of its own: see docs/guides/backends.md.
    pass_env = ("OPENCODE_*",)

    can_resume = True
    quiet_env = MappingProxyType({_PRELOAD: _preload(_TRY_ONCE)})
    sandbox_modes = frozenset({"read-only"})

    def sandbox_paths(self, environment: Mapping[str, str]) -> SandboxPaths:
        """Return its files in the directories of XDG, or in the home."""
        config, cache = _own(environment, "config"), _own(environment, "cache")
        data = _own(environment, "data")
        return SandboxPaths(
            settings=(
                *(f"{config}/{name}" for name in SETTINGS),
                *(f"{cache}/{name}" for name in CACHED),
            ),
            credentials=tuple(f"{data}/{name}" for name in CREDENTIALS),
            sessions=(data,),
        )

    def session_traces(self, session_id: str, environment: Mapping[str, str]) -> SessionTraces:
        """Return the CLI's own command: all sessions are in one database."""
        del environment
        return SessionTraces(command=("opencode", "session", "delete", session_id))

    def is_logged_in(
        self,
        environment: Mapping[str, str],
        read: Callable[[str], str | None],
        *,
        has_login: bool | None,
    ) -> bool | None:
        """Look at its file of logins; without one, a provider's settings or a free model may do."""
        del has_login
        logins = read(f"{_own(environment, 'data')}/auth.json") or "{}"
        return True if environment.get("OPENCODE_AUTH_CONTENT") or ":" in logins else None

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,
        session: Session = NO_SESSION,
    ) -> Command:
        """Build `opencode run --format json … < prompt`."""
        spec = confinement.left_to_cli(spec)
        # Without a title it asks a model for one. Its log is where it says which model is missing.
        argv = ["opencode", "run", "--format", "json", "--title", "clinvk"]
        argv += ["--print-logs", "--log-level", "ERROR"]
        argv += ["--session", session.resume] if session.resume else []
        if spec.model:
            argv += ["--model", spec.model]
        if spec.approval_mode == "none" and spec.sandbox_mode != "read-only":
            argv += ["--auto"]
        env = {"OPENCODE_DISABLE_AUTOUPDATE": "1", **_environment(spec)}
        if not session.keep and not session.resume:
            env["OPENCODE_DB"] = ":memory:"
        if not confinement.project_settings:
            quiet = [] if confinement.quiet is None else [_TRY_ONCE]
            env |= UNTRUSTED | {_PRELOAD: _preload(_OWN_CODE, *quiet)}
        return Command(
            argv=(*argv, *spec.extra),
            stdin=spec.prompt.encode("utf-8", "replace"),
            env=env,
            warnings=tuple(unsupported(self.name, option, why) for option, why in _gaps(spec)),
        )

    def reader(self) -> OutputReader:
        """Read the events of `--format json`: the texts after the last tool are the answer."""
        return _Reader()


def _own(environment: Mapping[str, str], kind: str) -> str:
    """Return one of its directories."""
    homes = {"config": "~/.config", "cache": "~/.cache", "data": "~/.local/share"}
    return f"{environment.get(f'XDG_{kind.upper()}_HOME') or homes[kind]}/opencode"


def _environment(spec: TaskSpec) -> Mapping[str, str]:
    """Return the variables that the options of a task stand for."""
    env = {}
    if permissions := _permissions(spec):
        env["OPENCODE_PERMISSION"] = json.dumps(permissions)
    if spec.max_tokens is not None:
        env["OPENCODE_EXPERIMENTAL_OUTPUT_TOKEN_MAX"] = str(spec.max_tokens)
    return env


def _permissions(spec: TaskSpec) -> Mapping[str, str]:
    """Return what is asked for on top of the user's own permissions; by default all is allowed."""
    if spec.sandbox_mode == "read-only" or spec.approval_mode == "always":
        return READING
    return EDITING if spec.approval_mode == "auto" else {}


class _Reader(EventReader):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.error: Json = {}
        self.end = ""
        self.counts = [0, 0, 0]
        self.cost_usd = 0.0

    def event(self, event: Json) -> list[Step]:
        self.session_id = self.session_id or parsing.text(event, "sessionID")
        part = parsing.mapping(event, "part")
        match event.get("type"):
            case "step_start":
                self.end = ""
            case "text":
                text = parsing.text(part, "text")
                self.texts += [text] if text else []
                return steps.message(text or "")
            case "tool_use":
                self.texts.clear()
                return _tool(part)
            case "step_finish":
                self.end = parsing.text(part, "reason") or ""
                return self._count(part)
            case "error":
                self.error = parsing.mapping(event, "error")
                return steps.error(_message(self.error), _outcome(self.error, self.at))
        return []

    def _count(self, part: Json) -> list[Step]:
        """Add what a step used: its input is told without what came from, or went to, a cache."""
        tokens = parsing.mapping(part, "tokens")
        cache = parsing.mapping(tokens, "cache")
        cached, written = parsing.count(cache, "read"), parsing.count(cache, "write")
        used = (
            parsing.count(tokens, "input") + cached + written,
            parsing.count(tokens, "output") + parsing.count(tokens, "reasoning"),
            cached,
        )
        self.counts = [sum(pair) for pair in zip(self.counts, used, strict=True)]
        self.cost_usd += parsing.number(part, "cost") or 0.0
        return steps.usage(self._usage())

    def _usage(self) -> Usage | None:
        input_tokens, output_tokens, cached = self.counts
        return parsing.usage(input_tokens, output_tokens, cached_input_tokens=cached)

    def finish(self, process: ProcessResult) -> ParsedOutput:
        known: dict[str, Any] = {
            "session_id": self.session_id,
            "usage": self._usage(),
            # A model that it knows no price of costs nothing, for all that it says.
            "cost_usd": self.cost_usd or None,
            "acted": self.acted,
        }
        if self.error:
            return self._failed(process, known)
        answer = parsing.whole("\n".join(self.texts))
        if process.returncode == 0 and self.end == "stop" and answer.strip():
            return ParsedOutput(output=answer, **known)
        if process.returncode == 0 and self.end in _ENDS:
            return outcomes.failure(*_ENDS[self.end], **known)
        if process.returncode == 0 and self.end:
            return outcomes.failure("the model's answer was cut off", ErrorKind.OVERLOADED, **known)
        said = _without_colors(process)
        if said.stderr.text().startswith(_USAGE):
            return outcomes.failure("opencode knows no such argument", ErrorKind.INVALID, **known)
        message = parsing.no_answer(said, _NOISE)
        if message.endswith(_UNEXPECTED):  # what it was comes below
            message += f": {said.stderr.text().partition(_UNEXPECTED)[2].strip()}"
        kind = outcomes.kind_of_text(message, _TEXT_KINDS) or ErrorKind.FAILED
        at = self.at or process.ended_at
        return outcomes.failure(message, outcomes.outcome(message, kind, at), **known)

    def _failed(self, process: ProcessResult, known: dict[str, Any]) -> ParsedOutput:
        message = _message(self.error)
        if message.startswith(_SAYS_NOTHING) and (
            found := _NOT_FOUND.search(process.stderr.text())
        ):
            return outcomes.failure(found[0], ErrorKind.INVALID, **known)
        return outcomes.failure(message, _outcome(self.error, self.at), **known)


def _without_colors(process: ProcessResult) -> ProcessResult:
    stderr = _COLORS.sub("", process.stderr.text()).encode("utf-8", "replace")
    return replace(process, stderr=Captured.of(stderr))


def _tool(part: Json) -> list[Step]:
    """Tell of a tool, which it does only once the tool has ended."""
    state = parsing.mapping(part, "state")
    name = parsing.text(part, "tool") or "?"
    given = parsing.mapping(state, "input")
    path = {"path": given["filePath"]} if "filePath" in given else {}
    ok = state.get("status") == "completed"
    content = state.get("output") if ok else state.get("error")
    return [
        steps.tool_call(name, given | path, HARMLESS, NAMES),
        steps.tool_result(content, ok=ok, tool=name),
    ]


def _message(error: Json) -> str:
    data = parsing.mapping(error, "data")
    said = parsing.text(data, "message") or parsing.text(error, "message")
    return parsing.api_message(said or parsing.text(error, "name") or "failed")


def _outcome(error: Json, at: datetime | None) -> Outcome:
    data = parsing.mapping(error, "data")
    body = parsing.text(data, "responseBody") or ""
    message = _message(error)
    opens_at = _opens_at(parsing.mapping(data, "responseHeaders"), at)
    return outcomes.outcome(message, _kind(error, f"{message} {body}"), at, opens_at)


def _opens_at(headers: Json, at: datetime | None) -> datetime | None:
    """Return when an API's headers say that a limit opens."""
    for name, unit_seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = parsing.text(headers, name) or ""
        if at is not None and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
            return at + timedelta(seconds=float(value) * unit_seconds)
    return None


def _kind(error: Json, said: str) -> ErrorKind:
    if kind := _NAMES_OF_ERRORS.get(parsing.text(error, "name") or ""):
        return kind
    if kind := outcomes.first_kind(said, _LIMIT_KINDS[:1]):
        return kind
    status = parsing.count(parsing.mapping(error, "data"), "statusCode")
    if status:
        kind = outcomes.kind_of_status(status, said)
        texts = outcomes.first_kind(said, _TEXT_KINDS) if kind is ErrorKind.INVALID else None
        return texts or kind
    return outcomes.kind_of_text(said, (*_LIMIT_KINDS, *_TEXT_KINDS)) or ErrorKind.FAILED


def _gaps(spec: TaskSpec) -> Iterator[tuple[str, str]]:
    """Yield the options of a task that it cannot honour, each with the reason."""
    if spec.sandbox_mode == "workspace":
        yield "sandbox_mode workspace", "it has no sandbox to enforce it"
    if spec.system_prompt is not None:
        yield "system_prompt", "it would take the place of the CLI's own"
    for name in ("max_turns", "allowed_tools"):
        if getattr(spec, name) is not None:
            yield name, "it has no such option"
