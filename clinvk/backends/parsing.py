"""What the backends' parsers share. CLIs print anything; nothing in here raises."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from clinvk.backends.base import Captured, ProcessResult
from clinvk.core.sanitize import one_line
from clinvk.core.spec import Usage

ERROR_CHARS = 500

Json = dict[str, Any]


def excerpt(text: str) -> str:
    """Return text that is safe to print, on one line, white space collapsed, cut to ERROR_CHARS."""
    line = " ".join(one_line(text.lstrip()[: 20 * ERROR_CHARS]).split())
    return line if len(line) <= ERROR_CHARS else line[: ERROR_CHARS - 3] + "..."


def last_line(captured: Captured) -> str:
    """Return the last line that is not blank, or nothing."""
    last = ""
    for line in captured.lines():
        last = excerpt(line) or last
    return last


def size_bytes(content: Any) -> int:
    """Return the length in UTF-8 of text, or of the text blocks in a list; 0 for anything else."""
    match content:
        case str():
            return len(content.encode("utf-8", "replace"))
        case list():
            blocks = (block for block in content if isinstance(block, dict))
            return sum(size_bytes(block.get("text")) for block in blocks)
        case _:
            return 0


def items(value: Json, name: str) -> list[Json]:
    """Return the objects of a member that is a list; none where it is not."""
    member = value.get(name)
    return [item for item in member if isinstance(item, dict)] if isinstance(member, list) else []


def objects(lines: Iterable[str]) -> Iterator[Json]:
    """Yield the JSON objects among some lines; anything else is passed over."""
    for line in lines:
        if line.lstrip().startswith("{"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def mapping(value: Json, name: str) -> Json:
    """Return a member that is an object; an empty one where it is not."""
    member = value.get(name)
    return member if isinstance(member, dict) else {}


def text(value: Json, name: str) -> str | None:
    """Return a member that is a string and says something."""
    member = value.get(name)
    return whole(member) if isinstance(member, str) and member.strip() else None


def whole(text: str) -> str:
    """Join the halves of surrogate pairs; U+FFFD for a half that is alone.

    JavaScript cuts strings between the halves of a character, and JSON can carry each of them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def count(value: Json, name: str) -> int:
    """Return a member that is a whole number and may be a count; 0 where it is not."""
    member = value.get(name)
    if not isinstance(member, int) or isinstance(member, bool):
        return 0
    return member if 0 <= member < 1 << 63 else 0


def number(value: Json, name: str) -> float | None:
    """Return a member that is a finite number."""
    member = value.get(name)
    if not isinstance(member, int | float) or isinstance(member, bool):
        return None
    try:
        return float(member) if math.isfinite(member) else None
    except OverflowError:
        return None


def moment(epoch_seconds: float | None) -> datetime | None:
    """Return a time that is given in seconds since the epoch; None where it is none."""
    try:
        return None if epoch_seconds is None else datetime.fromtimestamp(epoch_seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def usage(
    input_tokens: int, output_tokens: int, total_tokens: int = 0, cached_input_tokens: int = 0
) -> Usage | None:
    """Return the counts; None where nothing was counted."""
    if not input_tokens and not output_tokens:
        return None
    return Usage(
        input_tokens=input_tokens,
        cached_input_tokens=min(cached_input_tokens, input_tokens),
        output_tokens=output_tokens,
        total_tokens=total_tokens or input_tokens + output_tokens,
    )


def no_answer(finished: ProcessResult, noise: re.Pattern[str] | None = None) -> str:
    """Return why a CLI ended without an answer: the first line of stderr that reads like an error.

    Without one it is the last line, or the exit code. Lines in which `noise` is found do not count.
    """
    last = ""
    for line in finished.stderr.lines():
        words = "" if noise and noise.search(line) else excerpt(line)
        if _COMPLAINT.match(words):
            return words
        last = words or last
    return last or ended(finished)


def ended(finished: ProcessResult) -> str:
    """Say no more than that a CLI ended, and how."""
    if finished.returncode < 0:
        return f"ended by signal {-finished.returncode} without an answer"
    return f"exited with code {finished.returncode} without an answer"


_COMPLAINT = re.compile(r"\w*error\b|fatal|unknown (argument|option)|.*\byou must\b", re.IGNORECASE)


def api_message(message: str) -> str:
    """Take the message out of an API's error where a CLI passes on its raw JSON."""
    body = next(objects([message[message.find("{") : message.rfind("}") + 1]]), {})
    return text(mapping(body, "error"), "message") or text(body, "message") or message
