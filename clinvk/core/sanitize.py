"""Text from outside, made safe to print: no escape sequence of it reaches the terminal."""

from __future__ import annotations

import json
import re

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, the cursor
    r"|(?:\x1b[]P^_X]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links
    r"|\x1b[ -/]*[0-Z\\^_`-~]"
)
_UNSEEN = (
    r"\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f"
)
"""Characters that are invisible, change the direction of text, or control the terminal."""
_CONTROL = re.compile(rf"[\x00-\x1f\ud800-\udfff{_UNSEEN}]+")
_ESCAPED_IN_JSON = re.compile(f"[{_UNSEEN}]")


def one_line(text: str) -> str:
    """Return the text on one line, without escape sequences and control characters."""
    if text.isascii() and text.isprintable():
        return text.strip()
    return _CONTROL.sub(" ", _SEQUENCE.sub("", text)).strip()


def multi_line(text: str) -> str:
    """Return the text with its lines and tabs, without other control characters."""
    plain = _SEQUENCE.sub("", text).replace("\r\n", "\n")
    return "\n".join(
        "\t".join(_CONTROL.sub(" ", part) for part in line.split("\t"))
        for line in plain.split("\n")
    )


def json_escaped(text: str) -> str:
    """Return JSON that stands for the same, with escapes for what a terminal would act on.

    JSON escapes the characters below U+0020 anyway, and has the others inside of strings only.
    """
    return _ESCAPED_IN_JSON.sub(lambda match: json.dumps(match[0])[1:-1], text)
