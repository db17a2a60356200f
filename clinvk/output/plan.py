"""The commands of a dry run, exactly as they would be started; secrets are masked."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clinvk.backends.base import Backend, Command, Confinement, Session, build_command
from clinvk.core.broker_url import MASK
from clinvk.core.estimates import Estimate
from clinvk.core.sanitize import one_line
from clinvk.core.spec import TaskSpec
from clinvk.output import estimate_words


@dataclass(frozen=True, slots=True)
class Planned:
    """A task, the place of its prompt, and its command; `others` are the same for its other routes.

    Each of these has the word before its backend: `or` for one that may run it as well, `else` for
    one that it falls back on. `estimate` is what it is likely to use, where that is asked.
    """

    spec: TaskSpec
    source: str
    command: Command
    others: Sequence[tuple[str, TaskSpec, Command]] = ()
    estimate: Estimate | None = None

    @property
    def warnings(self) -> Sequence[str]:
        """What of its options some backend cannot honour."""
        commands = (self.command, *(command for _, _, command in self.others))
        return [warning for command in commands for warning in command.warnings]


Quiet = Callable[[Backend], tuple[str, ...] | None]
"""Gives `Confinement.quiet` of a backend."""


def plan(
    specs: Sequence[TaskSpec],
    sources: Sequence[str],
    get: Callable[[str], Any],
    quiet: Quiet = lambda _: None,
) -> Iterator[Planned]:
    """Build every task's commands; `get` gives a backend by its name.

    `quiet` knows the machine that they run on; where that is not known, nothing of it is shown.
    """
    for spec, source in zip(specs, sources, strict=True):
        separator = "." if source.endswith("]") else ": "  # tasks[0].prompt, line 1: prompt
        entries = [("or", entry) for entry in spec.alternatives]
        entries += [("else", entry) for entry in spec.fallback or ()]
        variants = [(word, spec.variant(entry)) for word, entry in entries]
        yield Planned(
            spec,
            f"{source}{separator}prompt",
            _command(spec, get, quiet),
            [(word, variant, _command(variant, get, quiet)) for word, variant in variants],
        )


def _command(spec: TaskSpec, get: Callable[[str], Any], quiet: Quiet) -> Command:
    backend: Backend = get(spec.backend)
    confinement = Confinement.by_default(spec, _directory(spec.workdir))
    confinement = replace(confinement, quiet=quiet(backend))
    return build_command(backend, spec, confinement, Session(keep=spec.may_go_on))


def lines(planned: Iterable[Planned]) -> Iterator[str]:
    """Yield each task's command lines, quoted so that they can be pasted into a shell."""
    for number, item in enumerate(planned, start=1):
        yield f"[{number}] {_line(item.spec, item.command, item.source)}"
        for word, spec, command in item.others:
            yield f"    {word} {_line(spec, command, item.source)}"
        if item.estimate is not None:
            yield f"    {estimate_words.line(item.estimate)}"


def _line(spec: TaskSpec, command: Command, source: str) -> str:
    directory = f"cd {_quote(spec.workdir)} && " if spec.workdir else ""
    variables = "".join(f"{name}={_quote(v)} " for name, v in _shown(command).items())
    inputs = f", with {', '.join(map(one_line, spec.inputs))}" if spec.inputs else ""
    prompt = f"< {source} ({len(command.stdin)} bytes{inputs})"
    argv = " ".join(map(_quote, command.argv))
    return f"{spec.backend}: {directory}{variables}{argv} {prompt}"


def entries(planned: Iterable[Planned]) -> Iterator[dict[str, Any]]:
    """Yield each task's entry in the JSON document."""
    for index, item in enumerate(planned):
        spec = item.spec
        entry = {
            "index": index,
            **_entry(spec, item.command),
            "workdir": spec.workdir,
            "timeout_seconds": spec.timeout_seconds,
            "stall_timeout_seconds": spec.stall_timeout_seconds,
            "stdin": {"source": item.source, "bytes": len(item.command.stdin)}
            | ({"placeholders": list(spec.inputs)} if spec.inputs else {}),
            "warnings": list(item.warnings),
        }
        for word, name in (("or", "alternatives"), ("else", "fallback")):
            if others := [_entry(spec, each) for kind, spec, each in item.others if kind == word]:
                entry[name] = others
        if (given := item.estimate) is not None:
            entry["estimate"] = estimate_words.document(
                given.micro_usd, given.tokens, executions=given.executions
            )
        yield entry


def _entry(spec: TaskSpec, command: Command) -> dict[str, Any]:
    return {"backend": spec.backend, "argv": list(command.argv), "env": _shown(command)}


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
