"""A `claude` whose provider has limits, for fleets: it prints what the real one prints.

Its prompt is `NAME SECONDS [REQUESTS]`: it asks the provider so often, once by default, and after
each answer so many seconds go by. Between two requests it calls a tool that changes nothing. What
the provider allows is in `FOLDER/provider.json`, for all machines (`tests.meter`).

Each request is a JSON line in `FOLDER/requests.jsonl`: when it was made, for which lease (run,
index and dispatch), whether the provider refused it (`rate_limited` or `usage_limit`), and until
when. Times are seconds since the epoch by the provider's clock, which is this machine's.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.meter import Allowance, MeterFile, Refusal

Json = dict[str, Any]

PROGRAM = """#!{python} -IS
import sys
sys.path.insert(0, {root!r})
from {module} import {function}
sys.exit({function}({folder!r}))
"""
ROOT = Path(__file__).parent.parent
COST_USD = 0.0123
"""What a task costs that its provider does not refuse."""
TOO_FAST = (
    "API Error: Server is temporarily limiting requests (not your usage limit) · This request "
    "would exceed the rate limit for your organization of 50 requests per minute"
)


def install(
    folder: Path, allowance: Allowance, module: str = __name__, function: str = "main"
) -> str:
    """Write the program and its provider's state; returns the directory to have on PATH.

    `function` of `module` is the program; it is given the folder.
    """
    program = folder / "bin" / "claude"
    program.parent.mkdir()
    values = {"module": module, "function": function, "folder": str(folder)}
    program.write_text(PROGRAM.format(python=sys.executable, root=str(ROOT), **values))
    program.chmod(0o755)
    MeterFile(folder / "provider.json").write(allowance)
    (folder / "requests.jsonl").touch()
    return str(program.parent)


def requests(folder: Path) -> list[Json]:
    """Return the requests of all machines so far, in order."""
    lines = (folder / "requests.jsonl").read_text().splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda line: float(line["at"]))


def ask(folder: Path) -> Refusal | None:
    """Ask the provider, and take note of it."""
    now = time.time()
    refusal = MeterFile(folder / "provider.json").refusal(now)
    line: Json = {"at": now, "lease": os.environ["CLINVK_TASK"]}
    if refusal:
        line |= {"refused": refusal.kind, "opens_at": refusal.opens_at}
    log = os.open(folder / "requests.jsonl", os.O_WRONLY | os.O_APPEND)
    os.write(log, json.dumps(line).encode() + b"\n")
    os.close(log)
    return refusal


def events(folder: Path, name: str, seconds: float, count: int) -> Iterator[Json]:
    """Run a task, and yield what the CLI prints meanwhile; the last is its result."""
    yield {"type": "system", "subtype": "init", "cwd": str(Path.cwd())}
    for number in range(count):
        if number:
            read = {"type": "tool_use", "name": "Read", "input": {"file_path": name}}
            yield message(f"msg_{number}", read)
        if refusal := ask(folder):
            yield from refused(refusal)
            return
        time.sleep(seconds)
    answer = f"{name} {os.environ['CLINVK_TASK']}"
    yield message("msg", {"type": "text", "text": answer})
    usage = {"input_tokens": 10, "output_tokens": 5}
    cost = {"total_cost_usd": COST_USD}
    ended: Json = {"type": "result", "subtype": "success", "is_error": False, "num_turns": count}
    yield ended | {"result": answer, "usage": usage} | cost


def refused(refusal: Refusal) -> Iterator[Json]:
    """Yield the events of a request that was refused."""
    info: Json = {"status": "rejected", "isUsingOverage": False}
    text = TOO_FAST
    if refusal.kind == "usage_limit":
        info |= {"resetsAt": int(refusal.opens_at), "rateLimitType": "five_hour"}
        reset = datetime.fromtimestamp(refusal.opens_at, UTC).strftime("%-I:%M%p").lower()
        text = f"You've hit your session limit · resets {reset} (UTC)"
    yield {"type": "rate_limit_event", "rate_limit_info": info}
    yield message("msg_limit", {"type": "text", "text": text}) | {"error": "rate_limit"}
    ended: Json = {"type": "result", "subtype": "success", "is_error": True, "result": text}
    yield ended | {"api_error_status": 429}


def message(name: str, *blocks: Json) -> Json:
    """Return the event of a message of the model."""
    return {"type": "assistant", "message": {"id": name, "content": list(blocks)}}


def main(folder: str) -> int:
    """Do what the prompt says; returns the exit code."""
    if "--version" in sys.argv:
        print("0.0.0 (limited)")
        return 0
    return run(Path(folder), sys.stdin.read().split())


def run(folder: Path, words: Sequence[str]) -> int:
    """Print what a task prints; returns its exit code."""
    name, seconds, *count = words
    session = str(uuid.uuid4())
    event: Json = {}
    for event in events(folder, name, float(seconds), int(count[0]) if count else 1):
        os.write(1, json.dumps(event | {"session_id": session}).encode() + b"\n")
    return int(event["is_error"])
