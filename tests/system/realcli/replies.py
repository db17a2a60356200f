"""What the fake model says turn by turn, where a prompt gives that.

    prompt("x", "no JSON at all", tool("StructuredOutput", n=1))

The model's first turn in a conversation is the first of these, and so on; then it answers as usual.
A session that is gone on with is one conversation.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict
from typing import Any

from tests.system.realcli.toolcalls import Call

Json = dict[str, Any]

_IN_PROMPT = re.compile(r"replies:([\w=-]+)")


def prompt(question: str, *replies: str | Call) -> str:
    """Return a prompt that the model replies to in this way: with texts, and calls of tools."""
    plain = [reply if isinstance(reply, str) else asdict(reply) for reply in replies]
    script = base64.urlsafe_b64encode(json.dumps(plain).encode()).decode()
    return f"question:{question} replies:{script}"


def next_reply(body: Json) -> str | Call | None:
    """Return the model's next turn in a conversation; None where the prompt does not say.

    A request without tools is one that the CLI makes for itself, such as for a title.
    """
    given = _IN_PROMPT.findall(json.dumps(body, ensure_ascii=False))
    if not given or not body.get("tools"):
        return None
    replies = json.loads(base64.urlsafe_b64decode(given[0]))
    turns = body.get("messages") or body.get("input") or body.get("contents") or []
    said = sum(turn.get("role") in {"assistant", "model"} for turn in turns)
    said += sum(turn.get("type") == "function_call" for turn in turns)
    if said >= len(replies):
        return None
    reply = replies[said]
    return reply if isinstance(reply, str) else Call(**reply)
