"""Extract JSON from model output: from Markdown code fences, or from between the words.

Each passage is preceded by as many line feeds as it was in the whole text, so that messages name
the right line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_FENCE = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n`]*\n(?P<inside>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_BEGINNING = re.compile(r'\{\s*"|\[[\s\[]{0,8}\{')
"""The beginning of an object, of a list of objects, or of lists of them; others are prose.

Bounded, because a text of brackets alone would take the square of its length.
"""


def fenced(text: str) -> Iterator[str]:
    """Yield the content of each code fence; an unclosed one extends to the end of the text."""
    for match in _FENCE.finditer(text):
        yield _piece(text, *match.span("inside"))


def bare(text: str) -> Iterator[str]:
    """Yield each JSON value; consecutive objects are one passage, as JSON Lines.

    Broken JSON extends to the end of the text, so that no part of a truncated file is taken for
    the whole.
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
