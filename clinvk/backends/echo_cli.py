"""The program of the `echo` backend: answers from the prompt alone. Standard library only.

Directives may stand at the beginning of the prompt, in any number:

    [wait 0.5]         wait that many seconds before the answer
    [fail]             end with an error, exit code 1
    [fail some words]  the same, with these words as the error
"""

import json
import re
import sys
import time

DIRECTIVE = re.compile(r"\s*\[(wait|fail)\b([^\]\n]*)\]")


def main() -> int:
    """Read the prompt, do what it asks, print one line of JSON."""
    model = sys.argv[1] if len(sys.argv) > 1 else "echo"
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    rest = prompt
    while match := DIRECTIVE.match(rest):
        verb, argument = match[1], match[2].strip()
        rest = rest[match.end() :]
        if verb == "fail":
            return emit({"error": argument or "asked to fail"})
        try:
            time.sleep(float(argument))
        except (ValueError, OverflowError):
            return emit({"error": f"[wait {argument}] needs a number of seconds", "invalid": True})
    answer = rest.strip()
    counts = {"input_tokens": len(prompt.split()), "output_tokens": len(answer.split())}
    return emit({"answer": answer, "model": model, "usage": counts})


def emit(event: dict[str, object]) -> int:
    """Print the one event there is; returns the exit code."""
    sys.stdout.write(json.dumps({"type": "result", **event}) + "\n")
    return 1 if "error" in event else 0


if __name__ == "__main__":
    sys.exit(main())
