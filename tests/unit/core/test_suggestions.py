"""Suggestions for misspelled names."""

from __future__ import annotations

import pytest

from clinvk.core.suggestions import did_you_mean, nearest

KNOWN = ("claude", "codex", "gemini")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("clade", ', did you mean "claude"?'), ("codec", ', did you mean "codex"?'), ("llm", "")],
)
def test_the_nearest_name_is_suggested(name: str, suggestion: str) -> None:
    assert did_you_mean(name, iter(KNOWN)) == suggestion


def test_a_stricter_cutoff_suggests_less() -> None:
    assert nearest("cloud", KNOWN) == "claude"
    assert nearest("cloud", KNOWN, 0.85) is None
