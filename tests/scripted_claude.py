"""A `claude` that says what a test wants, one execution after the other, and notes its calls."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

CLI = """#!/bin/sh
# In the place of claude: notes its arguments and its prompt, and prints the next file beside it.
here=$(dirname "$0")
echo "$@" >> "$here/argv"
cat >> "$here/prompts"
echo >> "$here/prompts"
set -- "$here"/say-*
cat "$1"
rm "$1"
"""
SESSION = "0f9c3a2e-5c1b-4d58-9a6b-2f5b8e1d7c40"
BURST = "API Error: Server is temporarily limiting requests (not your usage limit) · retry in {}s"


class Script:
    """What the CLI is to print, one execution after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        (folder / "claude").write_text(CLI)
        (folder / "claude").chmod(0o755)

    def says(self, result: str, *, error: str = "", acts: bool = False, first: Any = None) -> None:
        """Let the next execution end with a result, or an error of this class."""
        events: list[dict[str, Any]] = [{"type": "system", "subtype": "init"}]
        events += [first] if first else []
        if acts:
            call = {"type": "tool_use", "name": "Bash", "input": {"command": "make"}}
            events.append({"type": "assistant", "message": {"content": [call]}})
        if error:
            text = [{"type": "text", "text": result}]
            events.append({"type": "assistant", "error": error, "message": {"content": text}})
        ended = {"is_error": bool(error), "result": result, "num_turns": 1}
        events.append({"type": "result", **ended})
        self.count += 1
        lines = "".join(f"{json.dumps({**event, 'session_id': SESSION})}\n" for event in events)
        (self.folder / f"say-{self.count}").write_text(lines)

    def said(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()

    def limits(self, seconds: float, *, acts: bool = False) -> None:
        """Let the next execution meet its window limit, which opens in so many seconds."""
        opens_at = time.time() + seconds
        text = time.strftime("%I:%M%p", time.gmtime(opens_at)).lower() + " (UTC)"
        info = {"status": "rejected", "resetsAt": int(opens_at), "rateLimitType": "five_hour"}
        self.says(
            f"You've hit your session limit · resets {text}",
            error="rate_limit",
            acts=acts,
            first={"type": "rate_limit_event", "rate_limit_info": info},
        )
