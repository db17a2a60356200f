"""The whole contract of a backend, on one page.

A backend turns a `TaskSpec` into a `Command`. Its `OutputReader` turns each line that the CLI
prints into `Step`s (what it is doing), and at the end a `ProcessResult` (what the operating system
said) into a `ParsedOutput` (what the CLI meant). All of it is pure: no clock, no file, no process.
To add a CLI, write one module with a subclass of `Backend`, declare it as an entry point of the
group `clinvk.backends`, and record its output under `tests/transcripts/<name>/`; a backend can also
live in a package of its own. docs/guides/backends.md has a complete example.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from clinvk.core import schemas
from clinvk.core.spec import ErrorKind, TaskSpec, Usage
from clinvk.core.steps import Step

StoppedBy = Literal["timeout", "stalled", "waiting", "canceled", "disconnected", "requeued"]
"""Why clinvk ended a process: its deadline, its silence, that it waits before it tries again, the
run's cancellation, the worker's loss of contact with Redis, or its shutdown. After the last two,
the task goes to another worker."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
NAME_RULE = "must consist of letters and digits, with . _ - between them"
"""What a backend's name looks like, since it becomes part of a queue's name; and in words."""

SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
"""What an id of a session looks like: it goes into command lines, and into patterns of files."""

SCHEMA_PROMPT = "Answer with JSON alone, which must be valid by this JSON Schema (2020-12):"

LINE_CHARS = 1 << 26
"""Longer lines are yielded in pieces, so that no output can fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A process to start.

    `env` is added to what the command gets of the worker's environment (`Backend.pass_env`); the
    values of the names in `secret_env` are masked wherever a command is shown. `stdin` is written
    to the process and then closed. `files` are texts that it reads from files, by the argument that
    stands for the path of each: a worker writes them, and puts the path in its place. `warnings`
    name the options that this backend cannot honour.
    """

    argv: Sequence[str]
    stdin: bytes
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: frozenset[str] = frozenset()
    files: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """How a worker confines the command of a task, beyond what the task's own options say.

    `sandboxed`: the operating system enforces the task's sandbox mode around the command.
    `project_settings`: the CLI may follow settings in the working directory that run programs,
    redirect the CLI or widen its permissions, such as hooks, MCP servers and `.env` files.
    `directory`: the working directory as an absolute path without symbolic links, where known.
    `quiet`: the CLI must not try again by itself, and these are the arguments for it, which
    `Backend.quiet_arguments` returned; None lets it. `budget_usd` is what the task may cost at
    most, for a CLI that can keep to that.
    """

    sandboxed: bool = False
    project_settings: bool = True
    directory: str | None = None
    quiet: tuple[str, ...] | None = None
    budget_usd: float | None = None

    def left_to_cli(self, spec: TaskSpec) -> TaskSpec:
        """Return the task with the sandbox mode that the CLI itself must keep.

        Where the operating system enforces the mode, the CLI needs no restrictions of its own.
        """
        return replace(spec, sandbox_mode="full") if self.sandboxed else spec

    @classmethod
    def by_default(cls, spec: TaskSpec, directory: str | None = None) -> Confinement:
        """Return what a worker without a policy imposes: no project opens what a mode closes."""
        is_restricted = spec.sandbox_mode in RESTRICTED_MODES
        return cls(project_settings=not is_restricted, directory=directory)


RESTRICTED_MODES = frozenset({"read-only", "workspace"})
"""The sandbox modes that restrict anything."""

UNCONFINED = Confinement()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is asked of a CLI's session, which holds what was said and done in a task.

    `keep`: the CLI must keep it, since another execution may want to go on with it. `resume` is the
    id (`ParsedOutput.session_id`) of the session to go on with; the prompt of the spec is then what
    comes next in it.

    Raises:
        ValueError: no CLI calls a session like that, so it would be something else to it.
    """

    keep: bool = False
    resume: str | None = None

    def __post_init__(self) -> None:
        if self.resume is not None and not SESSION_ID.fullmatch(self.resume):
            raise ValueError("it is no id of a session")


NO_SESSION = Session()
"""Nothing is kept, nothing is gone on with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What a process wrote to one stream.

    For stdout `head` is the beginning, up to a limit; if there was more, `path` is a file with the
    first `saved_bytes`. For stderr `head` is the end. `size` counts all bytes.
    """

    head: bytes = b""
    size: int = 0
    path: Path | None = None
    saved_bytes: int = 0

    @classmethod
    def of(cls, head: bytes) -> Captured:
        """Capture of a stream that fitted under the cap."""
        return cls(head=head, size=len(head))

    def text(self) -> str:
        """Return the head as text; bytes that are not UTF-8 become U+FFFD."""
        return self.head.decode("utf-8", "replace")

    def lines(self) -> Iterator[str]:
        """Yield all lines, those beyond the cap included, without their line ends."""
        if self.path is None:
            # Like a file: str.splitlines would also split at U+0085 and U+2028, which JSON may
            # contain unescaped.
            for line in io.StringIO(self.text(), newline=None):
                yield line.rstrip("\n")
            return
        with self.path.open(encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(LINE_CHARS):
                yield line.rstrip("\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessResult:
    """What the operating system said about a process that ended.

    `returncode` is -N for signal N. `stopped_by` is set when we ended it: never infer that
    from the code, since some CLIs exit 0 when they are stopped. `orphans` says that it left
    processes behind, which were ended. `ended_at` is in the time zone of the machine that ran it.
    `limit_reached` is a limit that the task went over, such as `memory_bytes: 500000000`.
    """

    returncode: int
    stdout: Captured
    stderr: Captured
    ended_at: datetime
    duration_seconds: float = 0.0
    orphans: bool = False
    stopped_by: StoppedBy | None = None
    limit_reached: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedOutput:
    """What the CLI meant. A task is ok exactly when `error_kind` is None.

    `error` is one readable line. Fields that the CLI did not report stay None. `retry_at` is when
    the limit that it hit opens, and has a time zone. `limited_model` says that a `usage_limit` is
    that of the model alone, so that others of the same account may go on. `at_capacity` says that
    the service was `overloaded` for lack of capacity, so that asking for less helps; otherwise
    something is broken there. `structured` is the JSON of an answer by the task's `schema`, where
    the CLI tells it apart from its words. `acted` says whether it called a tool that can change
    something; an unknown tool can.
    """

    output: str | None = None
    structured: str | None = None
    error: str | None = None
    error_kind: ErrorKind | None = None
    model: str | None = None
    session_id: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    retry_at: datetime | None = None
    limited_model: bool = False
    at_capacity: bool = False
    acted: bool | None = None
    warnings: tuple[str, ...] = ()


class OutputReader(ABC):
    """Reads the output of one process, line by line as it is printed. Each process has its own.

    Attributes:
        session_id: the CLI's session, as soon as a line has named it; for a CLI that can resume.
    """

    session_id: str | None = None

    def read(self, line: str, at: datetime) -> Iterable[Step]:
        """Read the next line of stdout and return the steps that it tells of, if any.

        The caller takes all of them before it reads the next line. Lines come without their ends,
        in order and all of them; one that is longer than `LINE_CHARS` comes in pieces. `at` is when
        it was read, in the time zone of the machine that runs the CLI. This never raises, whatever
        the line: a line that means nothing is passed over.
        """
        del line, at
        return ()

    @abstractmethod
    def finish(self, process: ProcessResult) -> ParsedOutput:
        """Return what the CLI meant, once all of its lines were read; this never raises.

        Exit code 0 alone is not success.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPaths:
    """What of its user's files a CLI has in a sandbox, where everything else of a home is missing.

    Paths are absolute or begin with `~/`; one that does not exist is passed over.

    `settings` are read-only. `credentials` are changed in place, as CLIs do when they refresh a
    login, so they last. `copied` are files that the CLI changes and nobody else needs: each task
    has a copy. `directories` are what the CLI takes for its own directories, by the variable that
    names them; each task has empty ones. `programs` are files that run beside `Backend.program`.
    `sessions` are directories in which the CLI keeps its sessions: a task that may be gone on with
    finds its own there again, and no other's.
    """

    settings: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    directories: Mapping[str, str] = field(default_factory=dict)
    programs: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTraces:
    """What a CLI without a sandbox leaves of one session in its user's home.

    `files` are shell-style patterns of files and directories, absolute or with `~/`. What they
    match is removed only if its name, or the first line of the file, has the session's id.
    `command` removes what is in no file of its own.
    """

    files: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


class Backend(ABC):
    """One AI coding CLI.

    Attributes:
        name: what task files call it.
        program: what must be on PATH for it to be served.
        install_hint: the command that installs it, for the `not_installed` error.
        version_argv: prints the CLI's version on one line and exits 0.
        tested_version: the version that clinvk was tested with; an older one may behave otherwise.
        login_argv: exits 0 if the CLI is logged in, without asking a model; empty: there is none.
        login_hint: what to do where it is not.
        is_demo: whether it is for trying things out, and never meant by "all backends".
        only_named: whether it is used only where it is named, so that "all backends" stay the same
            when its CLI is installed.
        limits_turns: whether its CLI keeps `max_turns`.
        can_resume: whether its CLI can go on with a session of an earlier run; then `command` gets
            a `Session`.
        counts_session: whether `ParsedOutput.usage` of a resumed run counts all that the session
            has used, and not this run alone.
        pass_env: which variables of the worker's environment its CLI gets, as shell-style
            patterns, beside those that every command gets (`clinvk/core/child_environment.py`).
        pass_env_if: more such patterns, by the variable that switches them on.
        quiet_env: variables that keep its CLI from trying again by itself, and from waiting; None
            is one that it must not have. What the configuration sets or passes by name wins.
        counts_usage: whether its CLI says how many tokens it used, or what that cost.
        sandbox_modes: the restricted modes that the CLI enforces by itself, if it is told to.
    """

    name: str
    program: str
    install_hint: str
    version_argv: tuple[str, ...]
    tested_version: str = ""
    login_argv: tuple[str, ...] = ()
    login_hint: str = ""
    is_demo: bool = False
    only_named: bool = False
    limits_turns: bool = False
    can_resume: bool = False
    counts_session: bool = False
    pass_env: tuple[str, ...] = ()
    pass_env_if: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    quiet_env: Mapping[str, str | None] = MappingProxyType({})
    counts_usage: bool = True
    sandbox_modes: frozenset[str] = frozenset()

    def sandbox_paths(self, environment: Mapping[str, str]) -> SandboxPaths:
        """Return what the CLI has of its user's files in a sandbox, given its environment."""
        del environment
        return SandboxPaths()

    def session_traces(self, session_id: str, environment: Mapping[str, str]) -> SessionTraces:
        """Return what the CLI leaves of a session, given its environment; for `can_resume`."""
        del session_id, environment
        return SessionTraces()

    def quiet_arguments(
        self, environment: Mapping[str, str], read: Callable[[str], str | None]
    ) -> tuple[str, ...]:
        """Return the arguments that keep the CLI from trying again by itself, beside `quiet_env`.

        `read` returns the text of a file of the user's, None where there is none. They are given to
        `command` as `Confinement.quiet`.
        """
        del environment, read
        return ()

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """Whether `command` hands a schema (`TaskSpec.schema`) to its CLI.

        Where not, the schema is told at the end of the prompt. An answer is validated anyway.
        """
        del schema
        return False

    @abstractmethod
    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,
        session: Session = NO_SESSION,
    ) -> Command:
        """Build the command line that runs `spec`. The prompt goes to stdin, never to argv.

        Without `can_resume` it is never called with a `session`, and need not know of it.
        """

    def is_logged_in(
        self,
        environment: Mapping[str, str],
        read: Callable[[str], str | None],
        *,
        has_login: bool | None,
    ) -> bool | None:
        """Whether the CLI has what it needs to ask a model; None where that cannot be told.

        `environment` is that of its commands. `read` returns the text of a file of the user's (a
        path may begin with `~/`), None where there is none. `has_login` is whether `login_argv`
        exited with 0, None without one.
        """
        del environment, read
        return has_login

    @abstractmethod
    def reader(self) -> OutputReader:
        """Return a reader for the output of one process."""


def build_command(
    backend: Backend, spec: TaskSpec, confinement: Confinement, session: Session = NO_SESSION
) -> Command:
    """Build the command line of a task; only a backend that `can_resume` is told of a session.

    A schema that its CLI has no way to take is told in the prompt, once in each session.
    """
    if spec.schema is not None and session.resume is None and not backend.takes_schema(spec.schema):
        prompt = f"{spec.prompt}\n\n{SCHEMA_PROMPT}\n{schemas.text_of(spec.schema)}"
        spec = replace(spec, prompt=prompt)
    if backend.can_resume:
        return backend.command(spec, confinement, session)
    return backend.command(spec, confinement)


def parse(
    backend: Backend, process: ProcessResult, on_step: Callable[[Step], object] = lambda _: None
) -> ParsedOutput:
    """Read the whole output of a process that has ended; `on_step` gets each step."""
    reader = backend.reader()
    for line in process.stdout.lines():
        for step in reader.read(line, process.ended_at):
            on_step(step)
    return reader.finish(process)


def unsupported(backend: str, spec_field: str, why: str) -> str:
    """Return the one form of warning for an option that a backend cannot honour."""
    return f"{backend}: {spec_field} is not supported, ignored ({why})"
