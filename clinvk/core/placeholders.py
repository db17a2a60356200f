"""Placeholders in the prompts of a chain: `{{previous}}` and `{{steps.<name>.output}}`.

The client finds them, and says in `TaskSpec.inputs` which step each stands for; the worker puts
the outputs in their places. Both in one pass over the prompt, so that what an output contains is
never looked at again.
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
    """A placeholder as it is written, and the step that it names; None is the previous one.

    `problem` says why it cannot be one, although it is meant to be.
    """

    text: str
    step: str | None = None
    problem: str | None = None


def find(prompt: str) -> Iterator[Placeholder]:
    """Yield the placeholders of a prompt, in order, each as often as it stands there."""
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
            # With a dollar sign it is GitHub's: a prompt may well be about a workflow.
            why = "is not a placeholder (use {{previous}} or {{steps.<name>.output}})"
            yield Placeholder(text, problem=f"{text} {why}")


def fill(prompt: str, outputs: Mapping[str, str]) -> str:
    """Put an output in the place of each placeholder; `outputs` has them as they are written."""
    if not outputs:
        return prompt
    places = re.compile("|".join(map(re.escape, outputs)))
    return places.sub(lambda match: outputs[match[0]], prompt)
