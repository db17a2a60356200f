"""How deeply a JSON value is nested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shallow:
    """A constraint for an annotation: a value that is nested no deeper than this."""

    most: int


def depth(value: Any, most: int) -> int:
    """Return how deeply a value is nested; of what is deeper than `most`, only that it is."""
    found, level = 0, [value]
    while level and found <= most:
        found += 1
        level = [
            item
            for each in level
            if isinstance(each, list | dict)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
    return found
