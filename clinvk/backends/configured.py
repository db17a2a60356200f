"""A backend from configuration: prompt on stdin, answer on stdout, exit code 0 is ok."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clinvk.backends import outcomes, parsing
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
    unsupported,
)
from clinvk.core.spec import ErrorKind, TaskSpec

UNSUPPORTED = (
    "model",
    "approval_mode",
    "sandbox_mode",
    "max_tokens",
    "max_turns",
    "system_prompt",
    "allowed_tools",
)


class Configured(Backend):
    """Any command line that reads a prompt and writes an answer."""

    counts_usage = False

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.program = command[0]
        self.install_hint = f"see backends.{name}.command in the configuration"
        self.version_argv = ()
        self._argv = tuple(command)
        self._env = dict(env or {})

    def sandbox_paths(self, environment: Mapping[str, str]) -> SandboxPaths:
        """Return the scripts that the command line names."""
        del environment
        return SandboxPaths(programs=tuple(a for a in self._argv[1:] if a.startswith(("/", "~/"))))

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,
        session: Session = NO_SESSION,  # noqa: ARG002
    ) -> Command:
        """Run the configured command line, with the task's extra arguments at its end."""
        return Command(
            argv=(*self._argv, *spec.extra),
            stdin=spec.prompt.encode("utf-8", "replace"),
            env=self._env,
            secret_env=frozenset(self._env),
            warnings=tuple(
                unsupported(self.name, field, "its command line is fixed in the configuration")
                for field in UNSUPPORTED
                if getattr(spec, field) is not None
                and not (field == "sandbox_mode" and confinement.sandboxed)
            ),
        )

    def reader(self) -> OutputReader:
        """Take stdout as the answer."""
        return _Reader()


class _Reader(OutputReader):
    """Knows nothing of what the CLI does before it ends."""

    def finish(self, process: ProcessResult) -> ParsedOutput:
        if process.returncode == 0:
            return ParsedOutput(output=process.stdout.text().rstrip("\r\n"))
        words = parsing.last_line(process.stderr) or parsing.ended(process)
        return outcomes.failure(words, ErrorKind.FAILED)
