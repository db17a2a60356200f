"""Placeholders in the prompts of a chain: `{{previous}}` and `{{steps.<name>.output}}`.

The client finds them and records in `TaskSpec.inputs` which step each refers to; the worker
replaces them by the outputs. Both take one pass over the prompt, so placeholders inside of an
output are never replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clinvk.core.suggestions import nearest

_BRACES = re.compile(r"(\$?)(\{\{([^{}]*)\}\})")
_WORDS = ("previous", "steps", "session")
_SIMILARITY = 0.8
"""A word this similar to one of ours is taken for a typing error; other braces are plain text."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A placeholder as written, and the name of its step; None is the previous step.

    `problem` is why something that was meant as a placeholder is not one.
    """

    text: str
    step: str | None = None
    problem: str | None = None


def find(prompt: str) -> Iterator[Placeholder]:
    """Yield the placeholders of a prompt, in order, repeated ones each time."""
    for dollar, text, inner in _BRACES.findall(prompt):
        inner = inner.strip()
        word, _, rest = inner.partition(".")
        if inner == "previous":
            yield Placeholder(text)
        elif word == "steps" and rest.endswith(".output"):
            yield Placeholder(text, rest.removesuffix(".output"))
        elif inner == "session":
            why = "is not supported: each step runs in its own session"
            yield Placeholder(text, problem=f"{text} {why}")
        elif not dollar and nearest(word.lower(), _WORDS, _SIMILARITY):
            # With a dollar sign it is an expression of GitHub Actions, and part of the prompt.
            why = "is not a placeholder (use {{previous}} or {{steps.<name>.output}})"
            yield Placeholder(text, problem=f"{text} {why}")


def fill(prompt: str, outputs: Mapping[str, str]) -> str:
    """Replace each placeholder by its output; the keys of `outputs` are placeholders as written."""
    # One pass, however many outputs there are.
    return _BRACES.sub(lambda match: match[1] + outputs.get(match[2], match[2]), prompt)


def filled_chars(prompt: str, outputs: Mapping[str, str]) -> int:
    """Return how many characters of outputs `fill` would put into a prompt."""
    return sum(len(outputs.get(match[2], "")) for match in _BRACES.finditer(prompt))
