"""gemini: Google's Gemini CLI, measured with 0.61.0.

`-o stream-json`, because with `-o json` errors go to stderr behind stack traces. On an API
error it exits with the HTTP status modulo 256, so 144 and up are no signals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from glob import escape
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from clinvk.backends import outcomes, parsing, steps
from clinvk.backends.base import (
    LINE_CHARS,
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
from clinvk.backends.steps import Message
from clinvk.core.spec import ErrorKind, TaskSpec, Usage
from clinvk.core.steps import Step

ENVIRONMENT = {
    # Without this it starts itself again, and the first process ignores SIGTERM.
    "GEMINI_CLI_NO_RELAUNCH": "true",
    # It complains about terminals that it does not know.
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
}

SETTINGS = (
    *("settings.json", "GEMINI.md", ".env", "trustedFolders.json", "commands", "extensions"),
    *("policies", "skills", "agents"),
)
"""What it reads in its own directory, and may run: never a sandboxed task's to change."""
KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA")
"""The variables with which it needs no login."""
LOGINS = ("oauth_creds.json", "gemini-credentials.json")
CREDENTIALS = (*LOGINS, "google_accounts.json")
_HIDE_ENV_FILES = """
import fs from 'node:fs';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { syncBuiltinESMExports } from 'node:module';
const home = process.env.GEMINI_CLI_HOME || homedir();
const own = [join(home, '.env'), join(home, '.gemini', '.env')];
const exists = fs.existsSync;
const hidden = (path) => basename(path) === '.env' && !own.includes(resolve(path));
fs.existsSync = (path) => exists(path) && !hidden(String(path));
syncBuiltinESMExports();
delete process.env.NODE_OPTIONS;
"""
"""Loaded before the CLI, and not passed on to what the CLI starts: it finds no `.env` but those of
the user. It has no option for that; from a project's `.env` it takes any variable that is not set,
the address of its API among them."""

_TRY_ONCE = """
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
const variable = 'GEMINI_CLI_SYSTEM_DEFAULTS_PATH';
const { existsSync, readFileSync, statSync } = fs;
if (!process.env[variable] && !existsSync('/etc/gemini-cli/system-defaults.json')) {
  const defaults = process.env[variable] = '/clinvk/system-defaults.json';
  const text = '{"general":{"maxAttempts":1}}';
  fs.existsSync = (path) => path === defaults || existsSync(path);
  fs.readFileSync = (path, ...options) =>
    path === defaults ? text : readFileSync(path, ...options);
  fs.statSync = (path, ...options) => {
    const found = statSync(path, ...options);
    if (path === '/') found.uid = 0;
    return found;
  };
  syncBuiltinESMExports();
}
delete process.env.NODE_OPTIONS;
"""
"""Gives it system defaults, over which the user's own settings win, unless the machine has some. It
takes only a file of root's in directories of root's, which neither a user has nor a sandbox; so the
file is in no place but this, and in a sandbox the root directory has to seem root's as well."""


def _preload(*modules: str) -> str:
    """Return NODE_OPTIONS that load these modules, of which the last forgets the variable."""
    return " ".join(f"--import=data:text/javascript,{quote(module)}" for module in modules)


UNTRUSTED = {
    # The settings of a folder are read while it is untrusted, so they do not count, even if the
    # user trusted it before. Only then does --skip-trust let the approval mode be what was asked.
    "GEMINI_CLI_TRUST_WORKSPACE": "false",
    "NODE_OPTIONS": _preload(_HIDE_ENV_FILES),
}
"""Measured: with these no hook, MCP server, tool discovery, policy or `.env` of the working
directory counts; GEMINI.md, skills and commands, which are text, still do."""

UNTRUSTED_AND_QUIET = {**UNTRUSTED, "NODE_OPTIONS": _preload(_HIDE_ENV_FILES, _TRY_ONCE)}

APPROVAL_MODES = {"auto": "auto_edit", "none": "yolo", "always": "default"}

HARMLESS = frozenset(
    {
        "complete_task",
        "enter_plan_mode",
        "exit_plan_mode",
        "get_internal_docs",
        "glob",
        "google_web_search",
        "grep_search",
        "list_directory",
        "read_file",
        "read_many_files",
        "search_file_content",
        "tracker_get_task",
        "tracker_list_tasks",
        "update_topic",
        "web_fetch",
        "write_todos",
    }
)
"""Tools that change nothing outside of the CLI."""
NAMES = {
    "glob": "Glob",
    "google_web_search": "WebSearch",
    "grep_search": "Grep",
    "list_directory": "List",
    "read_file": "Read",
    "read_many_files": "Read",
    "replace": "Edit",
    "run_shell_command": "Bash",
    "search_file_content": "Grep",
    "web_fetch": "WebFetch",
    "write_file": "Write",
}
"""What people read for them."""

_STATUSES = (400, 401, 403, 404, 429, 499, 500, 502, 503, 504, 529)
EXIT_STATUSES = {status % 256: status for status in _STATUSES}
EXIT_NO_AUTH = 41
EXIT_BAD_INPUT = 42

_LIMIT_KINDS = (
    (r"insufficient G1 credits|limit: ?0(?![.\d])", ErrorKind.QUOTA),
    (r"daily quota|per[ _]?day|quota will reset|exhausted your capacity", ErrorKind.USAGE_LIMIT),
    (r"no capacity available|overloaded|fetch failed", ErrorKind.OVERLOADED),
    (r"stream ended without|incomplete json segment", ErrorKind.OVERLOADED),
    (r"please retry in|suggested retry after|per[ _]?minute|rate limit", ErrorKind.RATE_LIMITED),
    (r"resource.?(has been )?exhausted", ErrorKind.RATE_LIMITED),
)
_TEXT_KINDS = (
    (r"api key not valid|unauthenticated|permission.?denied", ErrorKind.AUTH),
    (r"response was blocked|due to (safety|recitation|other) settings", ErrorKind.REFUSED),
    (
        r"input truncated|exceeds the maximum number of tokens|token limit exhaustion",
        ErrorKind.TOO_LARGE,
    ),
    (r"model.?not.?found|models/\S+ is not found|\b404\b", ErrorKind.INVALID),
    (r"no input provided", ErrorKind.INVALID),
)
_CODE = re.compile(r'"code": ?(\d{3})\b')
"""The status, where it passes on an API's raw JSON."""
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
    tested_version = "0.61.0"
    login_hint = "start gemini once and log in, or set GEMINI_API_KEY"
    pass_env = ("GEMINI_*", "GOOGLE_*", "CODE_ASSIST_ENDPOINT", "NO_BROWSER")

    can_resume = True
    quiet_env = MappingProxyType({"NODE_OPTIONS": _preload(_TRY_ONCE)})
    sandbox_modes = frozenset({"read-only"})

    def sandbox_paths(self, environment: Mapping[str, str]) -> SandboxPaths:
        """Return its files below GEMINI_CLI_HOME, or below the home."""
        named = environment.get("GEMINI_CLI_HOME")
        own = f"{named or '~'}/.gemini"
        return SandboxPaths(
            settings=("/etc/gemini-cli", *(f"{own}/{name}" for name in SETTINGS)),
            credentials=tuple(f"{own}/{name}" for name in CREDENTIALS),
            directories={"GEMINI_CLI_HOME": named} if named else {},
            sessions=(f"{own}/tmp",),  # noqa: S108  (in its own directory)
        )

    def session_traces(self, session_id: str, environment: Mapping[str, str]) -> SessionTraces:
        """Return its transcripts, of whose names only the beginning is the session's."""
        own = f"{escape(environment.get('GEMINI_CLI_HOME') or '~')}/.gemini/tmp/*"
        return SessionTraces(
            files=(
                f"{own}/chats/session-*-{session_id[:8]}.json*",
                *(f"{own}/chats/{session_id}", f"{own}/{session_id}"),
                f"{own}/tool-outputs/session-{session_id}",
            )
        )

    def is_logged_in(
        self,
        environment: Mapping[str, str],
        read: Callable[[str], str | None],
        *,
        has_login: bool | None,
    ) -> bool | None:
        """Look at variables and files: it has no command that tells."""
        del has_login
        own = f"{environment.get('GEMINI_CLI_HOME') or '~'}/.gemini"
        if any(read(f"{own}/{name}") for name in LOGINS):
            return True
        variables = read(f"{own}/.env") or ""
        return any(environment.get(name) or f"{name}=" in variables for name in KEYS)

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,
        session: Session = NO_SESSION,
    ) -> Command:
        """Build `gemini -o stream-json … < prompt`. It keeps each session, asked or not."""
        spec = confinement.left_to_cli(spec)
        argv = ["gemini", "-o", "stream-json", "--skip-trust"]
        argv += ["--resume", session.resume] if session.resume else []
        if spec.model:
            argv += ["-m", spec.model]
        argv += _modes(spec)
        if spec.allowed_tools and spec.sandbox_mode != "read-only":
            argv += [f"--allowed-tools={','.join(spec.allowed_tools)}"]
        return Command(
            argv=(*argv, *spec.extra),
            stdin=spec.prompt.encode("utf-8", "replace"),
            env={**ENVIRONMENT, **_restrictions(confinement)},
            warnings=tuple(unsupported(self.name, option, why) for option, why in _gaps(spec)),
        )

    def reader(self) -> OutputReader:
        """Read the events of `stream-json`: the assistant's deltas, and the terminal result."""
        return _Reader()


def _restrictions(confinement: Confinement) -> Mapping[str, str]:
    if confinement.project_settings:
        return {}
    return UNTRUSTED if confinement.quiet is None else UNTRUSTED_AND_QUIET


class _Reader(EventReader):
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.chars = 0
        self.message = Message()
        self.start: Json = {}
        self.result: Json = {}
        self.last_error = ""

    def event(self, event: Json) -> list[Step]:
        if event.get("type") == "message":
            return self._delta(event) if event.get("role") == "assistant" else []
        return [*self.message.end(), *self._other(event)]

    def _delta(self, event: Json) -> list[Step]:
        """Take a delta as it is, white space included: it belongs to the answer."""
        content = event.get("content")
        if not isinstance(content, str):
            return []
        if self.chars < LINE_CHARS:  # no answer of another CLI can be longer
            self.parts.append(content)
            self.chars += len(content)
        self.message.add(content)
        return []

    def _other(self, event: Json) -> list[Step]:
        match event.get("type"):
            case "init":
                self.start = event
                self.session_id = parsing.text(event, "session_id")
            case "tool_use":
                name = parsing.text(event, "tool_name") or "?"
                arguments = parsing.mapping(event, "parameters")
                return [steps.tool_call(name, arguments, HARMLESS, NAMES)]
            case "tool_result":
                ok = event.get("status") == "success"
                return [steps.tool_result(event.get("output"), ok=ok)]
            case "error":
                self.last_error = parsing.text(event, "message") or self.last_error
                return self._error_steps(event, event)
            case "result":
                self.result = event
                said = self._error_steps(event, parsing.mapping(event, "error"))
                return [*steps.usage(_usage(event)), *said]
        return []

    def _error_steps(self, event: parsing.Json, error: parsing.Json) -> list[Step]:
        """Return what an event tells of an error, whose message is in `error`."""
        message = parsing.text(error, "message") or ""
        outcome = outcomes.outcome(message, _kind(None, event, message), self.at)
        return steps.error(parsing.api_message(message), outcome)

    def finish(self, process: ProcessResult) -> ParsedOutput:
        known: dict[str, Any] = {
            "model": parsing.text(self.start, "model"),
            "session_id": self.session_id,
            "usage": _usage(self.result),
            "acted": self.acted,
        }
        if truncated := _truncated(process):  # the answer is to another prompt
            return outcomes.failure(truncated, ErrorKind.TOO_LARGE, **known)
        answer = parsing.whole("".join(self.parts))  # a character may be cut between two deltas
        succeeded = process.returncode == 0 and self.result.get("status") == "success"
        if succeeded and answer.strip():
            return ParsedOutput(output=answer, **known)
        if complaint := _usage_error(process):
            return outcomes.failure(complaint, ErrorKind.INVALID, **known)
        message = self._error() or parsing.no_answer(process, _NOISE)
        kind = _kind(process.returncode, self.result, message)
        outcome = outcomes.outcome(message, kind, self.at or process.ended_at)
        return outcomes.failure(parsing.api_message(message), outcome, **known)

    def _error(self) -> str:
        """Return the error of the result, or else the last one before it."""
        return parsing.text(parsing.mapping(self.result, "error"), "message") or self.last_error


def _usage(result: Json) -> Usage | None:
    stats = parsing.mapping(result, "stats")
    names = ("input_tokens", "output_tokens", "total_tokens", "cached")
    return parsing.usage(*(parsing.count(stats, name) for name in names))


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


def _modes(spec: TaskSpec) -> list[str]:
    if spec.sandbox_mode == "read-only":
        return ["--approval-mode", "plan"]
    mode = APPROVAL_MODES.get(spec.approval_mode or "")
    argv = ["--approval-mode", mode] if mode else []
    return [*argv, "--no-sandbox"] if spec.sandbox_mode == "full" else argv


def _truncated(process: ProcessResult) -> str | None:
    """Find the note that the prompt was cut off, among those that mean nothing."""
    return next((line for line in process.stderr.lines() if "input truncated" in line), None)


def _usage_error(process: ProcessResult) -> str | None:
    """Return what it says about its command line, which stands before its long usage."""
    said: list[str] = []
    for line in process.stderr.lines():
        if line.startswith(_USAGE):
            return parsing.excerpt(" ".join(said)) or None
        if not _NOISE.search(line):
            said.append(line)
    return None


def _kind(returncode: int | None, result: Json, message: str) -> ErrorKind:
    """Return the kind of an error; `returncode` is None while the CLI still runs."""
    if kind := outcomes.first_kind(message, _LIMIT_KINDS):
        return kind
    code = _CODE.search(message)
    if status := int(code[1]) if code else EXIT_STATUSES.get(returncode or 0):
        return outcomes.kind_of_status(status, message)
    if returncode == EXIT_NO_AUTH:
        return ErrorKind.AUTH
    if returncode == EXIT_BAD_INPUT:
        return ErrorKind.INVALID
    # The CLI calls the turn a success, yet the model said nothing.
    is_empty = returncode == 0 and result.get("status") == "success"
    otherwise = ErrorKind.REFUSED if is_empty else ErrorKind.FAILED
    return outcomes.kind_of_text(message, _TEXT_KINDS) or otherwise
