"""Placeholders in the prompts of a chain.

`{{previous}}` and `{{steps.<name>.output}}` are outputs; `{{steps.<name>.data.<path>}}` is a part
of an answer by a schema, such as `{{steps.review.data.findings[0].line}}`.

The client finds them and records in `TaskSpec.inputs` which step each refers to; the worker
replaces them by the outputs. Both take one pass over the prompt, so placeholders inside of an
output are never replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clinvk.core.suggestions import nearest

_BRACES = re.compile(r"(\$?)(\{\{([^{}]*)\}\})")
_DATA = re.compile(r"(?P<name>.+?)\.data(?P<path>(?:\.[^.\[\]]+|\[\d{1,9}\])*)")
_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_WORDS = ("previous", "steps", "session")
USE = "{{previous}}, {{steps.<name>.output}} or {{steps.<name>.data.<path>}}"
_SIMILARITY = 0.8
"""A word this similar to one of ours is taken for a typing error; other braces are plain text."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A placeholder as written, and the name of its step; None is the previous step.

    `path` leads to a part of the step's data, names and indexes; None is its output. `problem` is
    why something that was meant as a placeholder is not one.
    """

    text: str
    step: str | None = None
    path: tuple[str | int, ...] | None = None
    problem: str | None = None


def find(prompt: str) -> Iterator[Placeholder]:
    """Yield the placeholders of a prompt, in order, repeated ones each time."""
    for dollar, text, inner in _BRACES.findall(prompt):
        inner = inner.strip()
        word, _, rest = inner.partition(".")
        if inner == "previous":
            yield Placeholder(text)
        elif word == "steps" and (data := _DATA.fullmatch(rest)):
            yield Placeholder(text, data["name"], _path(data["path"]))
        elif word == "steps" and rest.endswith(".output"):
            yield Placeholder(text, rest.removesuffix(".output"))
        elif inner == "session":
            why = "is not supported: each step runs in its own session"
            yield Placeholder(text, problem=f"{text} {why}")
        elif not dollar and nearest(word.lower(), _WORDS, _SIMILARITY):
            # With a dollar sign it is an expression of GitHub Actions, and part of the prompt.
            why = f"is not a placeholder (use {USE})"
            yield Placeholder(text, problem=f"{text} {why}")


def _path(text: str) -> tuple[str | int, ...]:
    return tuple(name or int(index) for name, index in _PART.findall(text))


def value_at(data: Any, path: Sequence[str | int]) -> str:
    """Return a part of a step's data as it stands in a prompt: a text as it is, the rest as JSON.

    Raises:
        LookupError: it has no such part; the message says which is missing.
    """
    place = "data"
    for part in path:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
        is_there = (
            isinstance(data, list) and part < len(data)
            if isinstance(part, int)
            else isinstance(data, dict) and part in data
        )
        if not is_there:
            raise LookupError(f"there is no {place}")
        data = data[part]
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


def fill(prompt: str, outputs: Mapping[str, str]) -> str:
    """Replace each placeholder by its output; the keys of `outputs` are placeholders as written."""
    # One pass, however many outputs there are.
    return _BRACES.sub(lambda match: match[1] + outputs.get(match[2], match[2]), prompt)


def filled_chars(prompt: str, outputs: Mapping[str, str]) -> int:
    """Return how many characters of outputs `fill` would put into a prompt."""
    return sum(len(outputs.get(match[2], "")) for match in _BRACES.finditer(prompt))
