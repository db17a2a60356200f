"""A `claude` that prints the events of an agent at work, each when it is told to.

`streaming_cli.py DIRECTORY`, then the arguments that clinvk gives the CLI: event N is printed as
soon as the file `go.N` is in the directory.
"""

import json
import sys
import time
from pathlib import Path

CALLS = [
    ("Bash", {"command": "pytest -q tests/unit"}),
    ("Edit", {"file_path": "src/auth/session_tokens.py"}),
]


def events(prompt: str):  # type: ignore[no-untyped-def]
    yield {"type": "system", "subtype": "init", "session_id": "s", "model": "m", "tools": []}
    yield assistant(1, {"type": "text", "text": "I read the tests first."})
    for number, (tool, arguments) in enumerate(CALLS, 2):
        call = {"type": "tool_use", "id": f"t{number}", "name": tool, "input": arguments}
        yield assistant(number, call)
        result = {"type": "tool_result", "tool_use_id": f"t{number}", "content": "x" * 300}
        yield {"type": "user", "message": {"role": "user", "content": [result]}, "session_id": "s"}
    usage = {"input_tokens": 9000, "output_tokens": 99}
    yield {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "session_id": "s",
        "result": f"Done: {prompt.strip()}",
        "usage": usage,
        "num_turns": 3,
    }


def assistant(number: int, content: object) -> dict[str, object]:
    usage = {"input_tokens": 4000 * number, "output_tokens": 10}
    message = {"id": f"m{number}", "role": "assistant", "content": [content], "usage": usage}
    return {"type": "assistant", "message": message, "session_id": "s"}


if "--version" in sys.argv:
    sys.stdout.write("2.1.197 (Claude Code)\n")
else:
    for count, event in enumerate(events(sys.stdin.read())):
        while not (Path(sys.argv[1]) / f"go.{count}").exists():
            time.sleep(0.01)
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
