"""echo: a bundled backend that needs no network and costs nothing, for demos and tests.

A real process like any other; what it can be asked to do stands in `echo_cli.py`. It has no tools
and takes one turn, so every mode, list of tools and limit of turns is kept without doing anything.
"""

from __future__ import annotations

import sys
from pathlib import Path

from clinvk.core.spec import ErrorKind, TaskSpec
from workers.backends import reading
from workers.backends.base import Answer, Backend, Command, Finished, unsupported

PROGRAM = Path(__file__).with_name("echo_cli.py")


class Echo(Backend):
    """Answers with the prompt."""

    name = "echo"
    program = sys.executable
    install_hint = "it comes with clinvk; Python itself is missing"
    version_argv = (sys.executable, "--version")
    is_demo = True

    def command(self, spec: TaskSpec) -> Command:
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

    def parse(self, finished: Finished) -> Answer:
        """Read the one event that it prints."""
        event = next(reading.objects(finished.stdout.lines()), {})
        if error := reading.text(event, "error"):
            kind = ErrorKind.INVALID if event.get("invalid") else ErrorKind.FAILED
            return reading.failure(error, kind)
        answer = reading.text(event, "answer")
        if finished.returncode != 0 or event.get("type") != "result" or answer is None:
            return reading.failure(reading.no_answer(finished), ErrorKind.FAILED)
        counts = reading.mapping(event, "usage")
        return Answer(
            output=answer,
            model=reading.text(event, "model"),
            usage=reading.usage(
                reading.count(counts, "input_tokens"), reading.count(counts, "output_tokens")
            ),
        )
