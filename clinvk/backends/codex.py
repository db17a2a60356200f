"""codex: OpenAI's Codex CLI (`codex exec`), measured with 0.169.0.

It emits `error` events at each reconnect and `error` items for mere warnings, in runs that
succeed; only `turn.failed`, or no `turn.completed`, is failure.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
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
from clinvk.core.spec import ErrorKind, TaskSpec, Usage
from clinvk.core.steps import Step

SANDBOXES = {
    "read-only": "read-only",
    "workspace": "workspace-write",
    "full": "danger-full-access",
}

SETTINGS = ("config.toml", "AGENTS.md", "AGENTS.override.md", "prompts", "rules", "skills")
"""What it reads in its own directory, and may run: never a sandboxed task's to change."""

_STATUS = re.compile(r"(?:unexpected|last) status:? (\d{3})\b")
_LIMIT_KINDS = (
    (r"spend cap|out of credits|upgrade to Plus: |quota exceeded", ErrorKind.QUOTA),
    (r"hit your usage limit", ErrorKind.USAGE_LIMIT),
    (r"rate limit exceeded", ErrorKind.RATE_LIMITED),
    (r"at capacity|experiencing high demand|capacity.* unavailable", ErrorKind.OVERLOADED),
    (r"waiting for network|connection failed|error sending request", ErrorKind.OVERLOADED),
    (r"stream closed before|idle timeout waiting for", ErrorKind.OVERLOADED),
)
_TEXT_KINDS = (
    (r"missing environment variable|unauthorized|forbidden|not logged in", ErrorKind.AUTH),
    (r"log out and sign in again|refresh token", ErrorKind.AUTH),
    (r"exceeds the maximum length|context.?(length|window)|max_output_tokens", ErrorKind.TOO_LARGE),
    (r"no prompt provided|not valid UTF-8|unexpected argument|invalid value", ErrorKind.INVALID),
    (r"^error (parsing -c|loading config)", ErrorKind.INVALID),
    (r"^model: |model.*not (found|exist|supported)", ErrorKind.INVALID),
    (
        r"invalid prompt: we.ve limited access|(request|content) (has been|was) flagged",
        ErrorKind.REFUSED,
    ),
)

SCHEMA_FILE = "{schema.json}"
"""Stands for the path of a file with the schema of the answer."""

NO_TOOLS = frozenset({"agent_message", "reasoning", "todo_list", "error"})
"""Items that are no tool calls."""
HARMLESS = frozenset({"web_search"})
"""Items that are tool calls and change nothing."""
NAMES = {"command_execution": "Bash", "file_change": "Edit", "web_search": "WebSearch"}
"""What people read for items."""
_SHELL = re.compile(r"\S*\b(?:ba|z|da)?sh -l?c (?=['\"]|\S+$)")
"""How it wraps a command, which is then quoted."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_RETRYING = re.compile(r"Reconnecting\.\.\. ")
_NOISE = re.compile(r"^Reading (additional input|prompt) from stdin|^WARNING: ")


class Codex(Backend):
    """OpenAI's Codex CLI."""

    name = "codex"
    program = "codex"
    install_hint = "npm install -g @openai/codex"
    version_argv = ("codex", "--version")
    tested_version = "0.169.0"
    login_argv = ("codex", "login", "status")
    login_hint = "codex login, or set CODEX_API_KEY"
    # A provider's `env_key` in its settings may have any name: see docs/guides/backends.md.
    pass_env = ("OPENAI_*", "CODEX_*", "AZURE_OPENAI_*", "RUST_LOG")

    can_resume = True
    counts_session = True
    sandbox_modes = frozenset({"read-only", "workspace"})

    def sandbox_paths(self, environment: Mapping[str, str]) -> SandboxPaths:
        """Return its files in CODEX_HOME, or in the home."""
        named = environment.get("CODEX_HOME")
        own = named or "~/.codex"
        return SandboxPaths(
            settings=("/etc/codex", *(f"{own}/{name}" for name in SETTINGS)),
            credentials=(f"{own}/auth.json",),
            directories={"CODEX_HOME": named} if named else {},
            sessions=(f"{own}/sessions",),
        )

    def quiet_arguments(
        self, environment: Mapping[str, str], read: Callable[[str], str | None]
    ) -> tuple[str, ...]:
        """Return what switches the retries of each provider in the user's settings off.

        Whichever of them is used. What the user has set stays, and the built-in providers take no
        such settings: measured, naming one of them is an error.
        """
        own = environment.get("CODEX_HOME") or "~/.codex"
        return tuple(_quiet(read(f"{own}/config.toml") or ""))

    def session_traces(self, session_id: str, environment: Mapping[str, str]) -> SessionTraces:
        """Return the CLI's own command: a session is in its databases too."""
        del environment
        return SessionTraces(command=("codex", "delete", "--force", session_id))

    def is_logged_in(
        self,
        environment: Mapping[str, str],
        read: Callable[[str], str | None],
        *,
        has_login: bool | None,
    ) -> bool | None:
        """Look at what `codex login status` does not: its variable, and providers of one's own."""
        if environment.get("CODEX_API_KEY"):
            return True
        own = environment.get("CODEX_HOME") or "~/.codex"
        if not has_login and "model_provider" in (read(f"{own}/config.toml") or ""):
            return None  # it may need no login, or a variable of any name
        return has_login

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """Take what the API's strict mode does: a request with any other schema is refused."""
        return schemas.is_strict(schema)

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,
        session: Session = NO_SESSION,
    ) -> Command:
        """Build `codex exec … - < prompt`."""
        spec = confinement.left_to_cli(spec)
        argv = ["codex", "exec", "--json", "--skip-git-repo-check"]
        argv += [] if session.keep else ["--ephemeral"]
        if spec.model:
            argv += ["--model", spec.model]
        argv += _modes(spec)
        argv += confinement.quiet or ()
        if not confinement.project_settings:
            argv += _untrusted(confinement.directory or spec.workdir)
        if spec.system_prompt:
            argv += ["-c", f"developer_instructions={_toml(spec.system_prompt)}"]
        files = {}
        if spec.schema is not None and self.takes_schema(spec.schema):
            argv += ["--output-schema", SCHEMA_FILE]
            files[SCHEMA_FILE] = schemas.text_of(spec.schema)
        warnings = [
            unsupported(self.name, name, "it has no such option")
            for name in ("max_turns", "max_tokens", "allowed_tools")
            if getattr(spec, name) is not None
        ]
        # Behind `resume` it would not accept all of them.
        resume = ["resume", session.resume] if session.resume else []
        return Command(
            argv=(*argv, *spec.extra, *resume, "-"),
            stdin=spec.prompt.encode("utf-8", "replace"),
            files=files,
            warnings=tuple(warnings),
        )

    def reader(self) -> OutputReader:
        """Read the events of `--json`: the last agent message of a completed turn is the answer."""
        return _Reader()


class _Reader(EventReader):
    def __init__(self) -> None:
        self.answer: str | None = None
        self.failed: Json = {}
        self.completed: Json = {}
        self.started: set[str | None] = set()
        self.last_error = ""

    def event(self, event: Json) -> list[Step]:
        item = parsing.mapping(event, "item")
        match event.get("type"):
            case "thread.started":
                self.session_id = parsing.text(event, "thread_id")
            case "item.started":
                return self._started(item)
            case "item.completed":
                return self._completed(item)
            case "turn.completed":
                self.completed = event
                return steps.usage(_usage(event))
            case "turn.failed":
                self.failed = event
                return self._error(parsing.text(parsing.mapping(event, "error"), "message"))
            case "error":
                return self._error(parsing.text(event, "message"))
        return []

    def _completed(self, item: Json) -> list[Step]:
        match item.get("type"):
            case "agent_message":
                self.answer = parsing.text(item, "text") or self.answer
                return steps.message(parsing.text(item, "text") or "")
            case "error":  # a warning
                return steps.error(parsing.text(item, "message") or "")
            case _:
                return self._ended(item)

    def _started(self, item: Json) -> list[Step]:
        if not _is_tool(item):
            return []
        self.started.add(parsing.text(item, "id"))
        return [_tool_call(item)]

    def _ended(self, item: Json) -> list[Step]:
        """Tell of a tool's result, and of its call if that was not told when it began."""
        if not _is_tool(item):
            return []
        name = parsing.text(item, "id")
        call = [] if name in self.started else [_tool_call(item)]
        self.started.discard(name)
        return [*call, _tool_result(item)]

    def _error(self, message: str | None) -> list[Step]:
        """Tell of an error once: a turn that fails repeats the one before it."""
        if not message or message == self.last_error:
            return []
        self.last_error = message
        outcome = _outcome(message, self.at)
        if not _RETRYING.match(message):
            return steps.error(parsing.api_message(message), outcome)
        return [steps.retry(message, outcome.kind, outcome.delay_seconds(self.at))]

    def finish(self, process: ProcessResult) -> ParsedOutput:
        known: dict[str, Any] = {
            "session_id": self.session_id,
            "usage": _usage(self.completed),
            "acted": self.acted,
        }
        if process.returncode == 0 and self.completed and not self.failed:
            if self.answer is not None:
                return ParsedOutput(output=self.answer, **known)
            return outcomes.failure(
                "the model gave no answer (refused)", ErrorKind.REFUSED, **known
            )
        message = parsing.text(parsing.mapping(self.failed, "error"), "message") or self.last_error
        message = message or parsing.no_answer(process, _NOISE)
        outcome = _outcome(message, self.at or process.ended_at)
        return outcomes.failure(parsing.api_message(message), outcome, **known)


def _is_tool(item: Json) -> bool:
    """Whether an item is a tool call; one of an unknown type is."""
    kind = parsing.text(item, "type")
    return kind is not None and kind not in NO_TOOLS


def _tool_call(item: Json) -> Step:
    if name := _mcp_name(item):
        return steps.tool_call(name, parsing.mapping(item, "arguments"), ())
    return steps.tool_call(parsing.text(item, "type") or "?", _told(item), HARMLESS, NAMES)


def _mcp_name(item: Json) -> str | None:
    """Return the name of an MCP server's tool; None for any other item."""
    tool = parsing.text(item, "tool")
    return tool and f"{parsing.text(item, 'server') or 'mcp'}.{tool}"


def _told(item: Json) -> Json:
    """Return what is worth telling of an item."""
    command = parsing.text(item, "command") or ""
    if shell := _SHELL.match(command):
        with contextlib.suppress(ValueError):
            command = " ".join(shlex.split(command[shell.end() :]))
    paths = filter(
        None, (parsing.text(change, "path") for change in parsing.items(item, "changes"))
    )
    return {"command": command, "path": " ".join(paths), "query": item.get("query")}


def _tool_result(item: Json) -> Step:
    ok = item.get("status") == "completed" and not parsing.mapping(item, "error")
    content = item.get("aggregated_output", parsing.mapping(item, "result").get("content"))
    return steps.tool_result(content, ok=ok, tool=_mcp_name(item) or parsing.text(item, "type"))


def _usage(completed: Json) -> Usage | None:
    counts = parsing.mapping(completed, "usage")
    return parsing.usage(
        parsing.count(counts, "input_tokens"),
        parsing.count(counts, "output_tokens"),
        cached_input_tokens=parsing.count(counts, "cached_input_tokens"),
    )


def _quiet(settings: str) -> Iterator[str]:
    """Yield the arguments that switch retries off, for the text of its settings."""
    import tomllib  # not every worker has codex

    try:
        providers = tomllib.loads(settings).get("model_providers")
    except ValueError:  # the CLI will say so
        return
    for name, provider in providers.items() if isinstance(providers, dict) else ():
        if not _PLAIN.fullmatch(name) or not isinstance(provider, dict):
            continue  # its options know no quoted keys
        for setting in ("request_max_retries", "stream_max_retries"):
            if setting not in provider:
                yield from ("-c", f"model_providers.{name}.{setting}=0")


def _untrusted(directory: str | None) -> list[str]:
    """Mark the working directory and all above it as untrusted, whatever the user trusted before.

    Measured: in a trusted directory the MCP servers of `.codex/config.toml` start, in any mode and
    outside of the CLI's sandbox. The nearest mark counts, also for a git worktree, whose main
    directory is elsewhere. A directory that nobody trusted needs none, but who trusted what is
    not known here.
    """
    if directory is None:
        return []
    path = PurePosixPath(directory)
    marks = (f'{_toml(str(entry))}={{trust_level="untrusted"}}' for entry in (path, *path.parents))
    return ["-c", f"projects={{{','.join(marks)}}}"]


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


def _outcome(message: str, at: datetime | None) -> Outcome:
    """Return what an error means. It names times in the zone of the machine."""
    return outcomes.outcome(message, _kind(message), at)


def _kind(message: str) -> ErrorKind:
    if kind := outcomes.first_kind(message, _LIMIT_KINDS):
        return kind
    if status := _STATUS.search(message):
        return outcomes.kind_of_status(int(status[1]), message)
    # The bare JSON body of a 400 comes without its status.
    otherwise = ErrorKind.INVALID if message.startswith("{") else ErrorKind.FAILED
    return outcomes.kind_of_text(message, _TEXT_KINDS) or otherwise
