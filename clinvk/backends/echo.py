"""echo: a bundled backend that needs no network and costs nothing, for demos and tests.

It runs a real process; `echo_cli.py` lists the directives that a prompt can give it. It has no
tools and takes one turn, so modes, lists of tools and limits of turns need no handling.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
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
    unsupported,
)
from clinvk.backends.events import EventReader
from clinvk.backends.parsing import Json
from clinvk.core.spec import ErrorKind, TaskSpec
from clinvk.core.steps import Step

PROGRAM = Path(__file__).with_name("echo_cli.py")


class Echo(Backend):
    """Answers with the prompt."""

    name = "echo"
    program = sys.executable
    install_hint = "it is part of clinvk, but Python was not found"
    version_argv = (sys.executable, "--version")
    is_demo = True
    limits_turns = True  # it takes one

    def sandbox_paths(self, environment: Mapping[str, str]) -> SandboxPaths:
        """Return the bundled program."""
        del environment
        return SandboxPaths(programs=(str(PROGRAM),))

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """Leave the prompt as it is: it is the answer."""
        del schema
        return True

    def command(
        self,
        spec: TaskSpec,
        confinement: Confinement = UNCONFINED,  # noqa: ARG002
        session: Session = NO_SESSION,  # noqa: ARG002
    ) -> Command:
        """Start the bundled program; isolated and without site-packages, which is fast."""
        model = (spec.model,) if spec.model else ()
        return Command(
            argv=(sys.executable, "-I", "-S", str(PROGRAM), *model),
            stdin=spec.prompt.encode("utf-8", "replace"),
            warnings=tuple(
                unsupported(self.name, field, "it answers from the prompt alone")
                for field in ("max_tokens", "system_prompt", "extra")
                if getattr(spec, field)
            ),
        )

    def reader(self) -> OutputReader:
        """Read the one event that it prints."""
        return _Reader()


class _Reader(EventReader):
    def __init__(self) -> None:
        self.result: Json = {}

    def event(self, event: Json) -> list[Step]:
        self.result = self.result or event
        return steps.message(parsing.text(event, "answer") or "")

    def finish(self, process: ProcessResult) -> ParsedOutput:
        event = self.result
        if error := parsing.text(event, "error"):
            kind = ErrorKind.INVALID if event.get("invalid") else ErrorKind.FAILED
            return outcomes.failure(error, kind, acted=self.acted)
        answer = parsing.text(event, "answer")
        if process.returncode != 0 or event.get("type") != "result" or answer is None:
            message = parsing.no_answer(process)
            return outcomes.failure(message, ErrorKind.FAILED, acted=self.acted)
        counts = parsing.mapping(event, "usage")
        return ParsedOutput(
            output=answer,
            model=parsing.text(event, "model"),
            usage=parsing.usage(
                parsing.count(counts, "input_tokens"), parsing.count(counts, "output_tokens")
            ),
            acted=self.acted,
        )
