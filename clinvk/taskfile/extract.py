"""Find JSON in what a model wrote: in Markdown code fences, or bare between its words.

Pieces keep their line numbers, for messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_FENCE = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n`]*\n(?P<inside>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_BEGINNING = re.compile(r'\{\s*"|\[\s*\{')
"""Of an object, or of a list of objects: other braces and brackets are a text's own."""


def fenced(text: str) -> Iterator[str]:
    """Yield what stands in code fences; one that is not closed goes on to the end."""
    for match in _FENCE.finditer(text):
        yield _piece(text, *match.span("inside"))


def bare(text: str) -> Iterator[str]:
    """Yield each JSON value; objects that follow each other are one piece, as JSON Lines.

    Broken JSON goes on to the end: of what was cut off, no part may pass for the whole.
    """
    spans = list(_values(text))
    while spans:
        start, end = spans.pop(0)
        while text[start] == "{" and spans and text[end : spans[0][0]].isspace():
            end = spans.pop(0)[1]
        yield _piece(text, start, end)


def _values(text: str) -> Iterator[tuple[int, int]]:
    decoder = json.JSONDecoder()
    end = 0
    while match := _BEGINNING.search(text, end):
        try:
            _, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            end = len(text)
        yield match.start(), end


def _piece(text: str, start: int, end: int) -> str:
    return "\n" * text.count("\n", 0, start) + text[start:end]
