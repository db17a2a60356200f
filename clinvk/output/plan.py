"""The commands of a dry run, exactly as they would be started; secrets are masked."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clinvk.backends.base import Backend, Command, Confinement, build_command
from clinvk.core.broker_url import MASK
from clinvk.core.sanitize import one_line
from clinvk.core.spec import TaskSpec

Planned = tuple[TaskSpec, str, Command]
"""A task, the place of its prompt, and its command."""


def plan(specs: Sequence[TaskSpec], sources: Sequence[str], get: Any) -> Iterator[Planned]:
    """Build every task's command; `get` gives a backend by its name."""
    for spec, source in zip(specs, sources, strict=True):
        backend: Backend = get(spec.backend)
        separator = "." if source.endswith("]") else ": "  # tasks[0].prompt, line 1: prompt
        confinement = Confinement.by_default(spec, _directory(spec.workdir))
        command = build_command(backend, spec, confinement)
        yield spec, f"{source}{separator}prompt", command


def lines(planned: Iterable[Planned]) -> Iterator[str]:
    """Yield each task's command line, quoted so that it can be pasted into a shell."""
    for number, (spec, source, command) in enumerate(planned, start=1):
        directory = f"cd {_quote(spec.workdir)} && " if spec.workdir else ""
        variables = "".join(f"{name}={_quote(v)} " for name, v in _shown(command).items())
        inputs = f", with {', '.join(map(one_line, spec.inputs))}" if spec.inputs else ""
        prompt = f"< {source} ({len(command.stdin)} bytes{inputs})"
        argv = " ".join(map(_quote, command.argv))
        yield f"[{number}] {spec.backend}: {directory}{variables}{argv} {prompt}"


def entries(planned: Iterable[Planned]) -> Iterator[dict[str, Any]]:
    """Yield each task's entry in the JSON document."""
    for index, (spec, source, command) in enumerate(planned):
        yield {
            "index": index,
            "backend": spec.backend,
            "argv": list(command.argv),
            "env": _shown(command),
            "workdir": spec.workdir,
            "timeout_seconds": spec.timeout_seconds,
            "stall_timeout_seconds": spec.stall_timeout_seconds,
            "stdin": {"source": source, "bytes": len(command.stdin)}
            | ({"placeholders": list(spec.inputs)} if spec.inputs else {}),
            "warnings": list(command.warnings),
        }


def _directory(workdir: str | None) -> str | None:
    """Return where a task would run on this machine; None if that is the home of nobody."""
    try:
        return str(Path(workdir or ".").expanduser().resolve())
    except RuntimeError:
        return None


def _quote(word: str) -> str:
    """Quote for a shell; a word with control characters has them as escapes."""
    if one_line(word) == word.strip(" "):
        return shlex.quote(word)
    return f"$'{''.join(map(_escape, word))}'"


def _escape(char: str) -> str:
    if char in "'\\":
        return f"\\{char}"
    if char == " " or one_line(char) == char:
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def _shown(command: Command) -> dict[str, str]:
    return {
        name: MASK if name in command.secret_env else value for name, value in command.env.items()
    }
