"""Text from outside, made safe to print: no escape sequence of it reaches the terminal."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, the cursor
    r"|(?:\x1b[]P^_X]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links
    r"|\x1b[ -/]*[0-Z\\^_`-~]"
)
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    r"\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]+"
)
"""Control characters, and characters that are invisible or change the direction of text."""


def one_line(text: str) -> str:
    """Return the text on one line, without escape sequences and control characters."""
    return _CONTROL.sub(" ", _SEQUENCE.sub("", text)).strip()


def multi_line(text: str) -> str:
    """Return the text with its lines and tabs, without other control characters."""
    plain = _SEQUENCE.sub("", text).replace("\r\n", "\n")
    return "\n".join(
        "\t".join(_CONTROL.sub(" ", part) for part in line.split("\t"))
        for line in plain.split("\n")
    )
