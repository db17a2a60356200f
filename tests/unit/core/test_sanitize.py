"""Text that others wrote, on one line of a terminal."""

from __future__ import annotations

import pytest

from clinvk.core import sanitize


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain", "plain"),
        ("  a\tb\r\n c ", "a b  c"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b[?25l\x1b[2J\x1b[10;20Hx", "x"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdevice\x1b\\x", "x"),
        ("\x1b(Bx\x1b=y\x1bcz", "xyz"),
        ("a\x1b", "a"),
        ("a\x1b]no end", "a ]no end"),
        ("a\x00\x07\x08b\x7f", "a b"),
        ("a\u202eb\u2066c\u200bd\ufeffe\U000e0041f", "a b c d e f"),
        ("a\ud800b", "a b"),
        ("naïve 漢字 🎉", "naïve 漢字 🎉"),
    ],
)
def test_one_line(written: str, shown: str) -> None:
    assert sanitize.one_line(written) == shown
