"""Guess which known name somebody meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CUTOFF = 0.6
"""The similarity (0 to 1, `difflib`'s ratio) from which a name is worth suggesting."""


def nearest(name: str, known: Iterable[str], cutoff: float = CUTOFF) -> str | None:
    """Return the known name most similar to `name`; None where none reaches `cutoff`."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean "x"?` to append to a message, or nothing."""
    close = nearest(name, known)
    return f', did you mean "{close}"?' if close else ""
